"""The sandbox shop follows Shopify's rules for points, idempotency keys and comparisons."""

from datetime import UTC, datetime

import pytest

from services.providers.shopify_documents import READ_LEVELS, SET_AVAILABLE
from services.sandbox.shopify.shop import ShopifyShop
from services.sandbox.state import SandboxState

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FRAGMENT = "fragment G on InventoryAdjustmentGroup { id createdAt }"


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shop(clock):
    return ShopifyShop("ada.myshopify.com", clock)


def push(shop, quantity=5, change_from=3, key="1", document=SET_AVAILABLE, **changed):
    entry = {
        "inventoryItemId": "gid://shopify/InventoryItem/1",
        "locationId": "gid://shopify/Location/2",
        "quantity": quantity,
        "changeFromQuantity": change_from,
    } | changed
    wanted_input = {"name": "available", "reason": "correction", "quantities": [entry]}
    return shop.answer("t", {"query": document, "variables": {"input": wanted_input, "key": key}}, NOW)[1]


def level(item, available):
    return {"inventory_item_id": item, "location_id": 2, "available": available}


def make_input(wanted):
    entries = [
        {
            "inventoryItemId": f"gid://shopify/InventoryItem/{item}",
            "locationId": "gid://shopify/Location/2",
            "quantity": quantity,
            "changeFromQuantity": before,
        }
        for item, quantity, before in wanted
    ]
    return {"name": "available", "reason": "correction", "quantities": entries}


def push_many(shop, wanted, key="1"):
    wanted_input = {"query": SET_AVAILABLE, "variables": {"input": make_input(wanted), "key": key}}
    return shop.answer("t", wanted_input, NOW)[1]


def errors_of(body):
    return body["data"]["inventorySetQuantities"]["userErrors"]


def code_of(body):
    (error,) = body["data"]["inventorySetQuantities"]["userErrors"]
    return error["code"]


def test_bucket_refills_with_time_up_to_its_maximum(shop, clock):
    shop.control({"bucket": {"maximum": 10, "restore_per_second": 5}})

    assert "data" in push(shop, key="1")
    throttled = push(shop, 6, 5, key="2")
    clock.seconds = 1.0
    still_throttled = push(shop, 6, 5, key="2")
    clock.seconds = 60.0
    answered = push(shop, 6, 5, key="2")

    cost = throttled["extensions"]["cost"]
    assert throttled["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert (cost["requestedQueryCost"], cost["actualQueryCost"]) == (10, None)
    assert still_throttled["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 5
    assert answered["extensions"]["cost"]["throttleStatus"] == {
        "maximumAvailable": 10.0,
        "currentlyAvailable": 0,
        "restoreRate": 5.0,
    }


def test_throttled_request_does_not_use_up_its_key(shop, clock):
    shop.control({"bucket": {"maximum": 10, "restore_per_second": 5, "available": 0}})
    push(shop)
    clock.seconds = 60.0

    assert push(shop)["data"]["inventorySetQuantities"]["userErrors"] == []


def test_unknown_level_starts_at_what_was_expected(shop):
    push(shop, quantity=5, change_from=3)

    assert shop.levels == {(1, 2): 5}
    assert (shop.log[0]["from"], shop.log[0]["to"]) == (3, 5)


def test_stale_comparison_changes_nothing_and_spends_the_key(shop):
    shop.control({"levels": [{"inventory_item_id": 1, "location_id": 2, "available": 8}]})

    assert code_of(push(shop)) == "CHANGE_FROM_QUANTITY_STALE"
    assert code_of(push(shop)) == "IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED"
    assert code_of(push(shop, change_from=8)) == "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"
    assert push(shop, change_from=8, key="2")["data"]["inventorySetQuantities"]["userErrors"] == []
    assert len(shop.log) == 1


def test_mutation_without_a_key_or_comparison_is_refused_as_since_2026_04(shop):
    without_key = push(shop, document=SET_AVAILABLE.replace("@idempotent(key: $key)", ""))
    request = {"quantities": [{"inventoryItemId": "gid://shopify/InventoryItem/1", "quantity": 1}]}
    without_comparison = shop.answer(
        "t", {"query": SET_AVAILABLE, "variables": {"input": request, "key": "9"}}, NOW
    )[1]

    assert without_key["errors"]
    assert without_comparison["errors"]
    assert shop.log == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"inventoryItemId": "gid://shopify/Product/1"}, "INVALID_INVENTORY_ITEM"),
        ({"quantity": 10**9 + 1}, "INVALID_QUANTITY_TOO_HIGH"),
    ],
)
def test_wrong_input_is_a_user_error(changed, code, shop):
    assert code_of(push(shop, **changed)) == code


def test_document_of_another_schema_is_an_error(shop):
    (error,) = shop.answer("t", {"query": "{ shop { nickname } }"}, NOW)[1]["errors"]

    assert "nickname" in error["message"]
    assert shop.answer("t", {"query": "{ shop { name "}, NOW)[1]["errors"]
    assert shop.answer("t", {"query": "{ shop { name } }"}, NOW)[1]["data"] == {"shop": {"name": "ada"}}


def test_levels_are_read(shop):
    push(shop)
    gids = ["gid://shopify/InventoryItem/1", "gid://shopify/InventoryItem/9"]

    variables = {"items": gids, "location": "gid://shopify/Location/2"}
    level, unknown = shop.answer("t", {"query": READ_LEVELS, "variables": variables}, NOW)[1]["data"]["nodes"]

    assert level["inventoryLevel"]["quantities"] == [
        {"name": "available", "quantity": 5},
        {"name": "on_hand", "quantity": 5},
    ]
    assert level["inventoryLevel"]["updatedAt"] == "2026-11-21T00:00:00Z"
    assert unknown is None


def test_all_quantities_are_set_or_none_and_every_fault_has_its_index(shop):
    shop.control(
        {"strict_stock": True, "deleted_items": [7], "levels": [level(1, 4), level(2, 4), level(3, 9)]}
    )
    wanted = [(1, 5, 4), (2, 6, 4), (3, 7, 4), (4, 1, 0), (7, 1, 0), (1, 8, 4), (2, 10**9 + 1, 4)]

    body = push_many(shop, wanted)

    faults = [(e["field"][2], e["field"][-1], e["code"]) for e in errors_of(body)]
    assert faults == [
        ("2", "changeFromQuantity", "CHANGE_FROM_QUANTITY_STALE"),
        ("3", "locationId", "ITEM_NOT_STOCKED_AT_LOCATION"),
        ("4", "inventoryItemId", "INVALID_INVENTORY_ITEM"),
        ("5", "5", "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"),
        ("6", "quantity", "INVALID_QUANTITY_TOO_HIGH"),
    ]
    assert (shop.levels[1, 2], shop.log) == (4, [])

    assert errors_of(push_many(shop, wanted[:2], key="2")) == []
    assert (shop.levels[1, 2], shop.levels[2, 2]) == (5, 6)


def test_call_takes_250_quantities_and_not_one_more(shop):
    many = [(number, 5, None) for number in range(1, 252)]

    assert errors_of(push_many(shop, many[:250])) == []
    refused = push_many(shop, many, key="2")

    assert refused["errors"][0]["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"
    assert len(shop.log) == 250


def test_stale_comparison_comes_on_demand_and_passes(shop):
    shop.control({"stale_next": 1})

    assert code_of(push(shop, key="1")) == "CHANGE_FROM_QUANTITY_STALE"
    assert push(shop, key="2")["data"]["inventorySetQuantities"]["userErrors"] == []


def test_key_in_use_is_a_concurrent_request_until_its_answer_went_out(clock):
    sandbox_state = SandboxState(clock)
    sandbox_state.control({"shop": "a", "slow_seconds": 0.5})
    query = {"query": SET_AVAILABLE, "variables": {"input": make_input([(1, 5, 3)]), "key": "1"}}

    first = sandbox_state.answer_shopify("a", "t", query, NOW)
    second = sandbox_state.answer_shopify("a", "t", query, NOW)
    clock.seconds = 1.0
    third = sandbox_state.answer_shopify("a", "t", query, NOW)

    assert errors_of(first.body) == errors_of(third.body) == []
    assert code_of(second.body) == "IDEMPOTENCY_CONCURRENT_REQUEST"


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text,
        lambda text: text.replace("{ id createdAt }", "{ ...G }") + FRAGMENT,
        lambda text: text.replace("userErrors {", "userErrors { __typename"),
    ],
)
def test_every_form_of_a_push_uses_the_same_state(shop, rewrite):
    body = push(shop, document=rewrite(SET_AVAILABLE))["data"]["inventorySetQuantities"]
    replay = push(shop, document=SET_AVAILABLE)["data"]["inventorySetQuantities"]

    assert body == replay
    assert body["inventoryAdjustmentGroup"] == {
        "id": "gid://shopify/InventoryAdjustmentGroup/1",
        "createdAt": "2026-11-21T00:00:00Z",
    }
    assert (len(shop.log), shop.counts["replayed"]) == (1, 1)


def test_value_that_no_variable_may_have_changes_nothing(shop):
    refused = push(shop, quantity=2**31)

    assert refused["errors"][0]["extensions"]["code"] == "INVALID_VARIABLE"
    assert "32-bit" in refused["errors"][0]["message"]
    assert shop.log == []
