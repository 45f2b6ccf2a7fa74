"""The made-up shop keeps Shopify's promises: points, keys, comparisons."""

from datetime import UTC, datetime

import pytest

from services.providers.shopify_documents import READ_LEVEL, SET_AVAILABLE
from services.sandbox.shopify_shop import ShopifyShop

NOW = datetime(2026, 11, 21, tzinfo=UTC)


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
    asked = {"name": "available", "reason": "correction", "quantities": [entry]}
    return shop.answer("t", {"query": document, "variables": {"input": asked, "key": key}}, NOW)[1]


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
        ({"quantity": 10**10}, "INVALID_QUANTITY_TOO_HIGH"),
    ],
)
def test_wrong_input_is_a_user_error(changed, code, shop):
    assert code_of(push(shop, **changed)) == code


def test_document_it_does_not_know_is_an_error_and_not_silence(shop):
    assert shop.answer("t", {"query": "{ shop { name } }"}, NOW)[1]["errors"]


def test_level_is_read(shop):
    push(shop)
    variables = {"item": "gid://shopify/InventoryItem/1", "location": "gid://shopify/Location/2"}

    body = shop.answer("t", {"query": READ_LEVEL, "variables": variables}, NOW)[1]

    assert body["data"]["inventoryItem"]["inventoryLevel"]["quantities"][0]["quantity"] == 5
