"""The outcome of each answer of the Admin API that the sandbox gives over HTTP."""

import socket
from datetime import timedelta

import httpx
import pytest

from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.providers.shopify_admin import (
    READ_AT_MOST,
    LevelQuantity,
    ShopifyAdmin,
    ShopLevelKey,
    admin_base_url,
)
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    ShopifyThrottled,
    StockMoved,
    ThrottleStatus,
)
from tests.providers.shopify_admin_calls import ITEM, PLACE, SHOP, available, push, push_all


@pytest.fixture
def http():
    with httpx.Client() as client:
        yield client


@pytest.fixture
def admin(sandbox, http):
    return ShopifyAdmin(http, admin_base_url(SHOP, f"{sandbox.url}/shopify"), "shpat_right")


def control(sandbox, **state):
    return sandbox.state.control({"shop": SHOP} | state)


def test_quantity_is_set_and_read_back(sandbox, admin):
    result = push(admin)

    assert result.changed_at is not None
    assert admin.throttle == ThrottleStatus(2000.0, 1990.0, 100.0)
    assert admin.cost_points == 10
    assert available(admin) == 5


def test_push_repeated_under_one_key_changes_stock_once(sandbox, admin):
    first = push(admin)
    second = push(admin)

    assert first.changed_at == second.changed_at
    assert len(sandbox.state.log(SHOP)["changes"]) == 1


def test_key_used_with_other_values_is_refused(admin):
    push(admin)

    with pytest.raises(Refused) as caught:
        push(admin, quantity=6)
    assert caught.value.code == "shopify.idempotency_key_parameter_mismatch"


def test_changed_stock_has_its_own_error(sandbox, admin):
    control(sandbox, levels=[{"inventory_item_id": ITEM, "location_id": PLACE, "available": 9}])

    refused = push(admin).refused

    assert {index: (type(fault), fault.code) for index, fault in refused.items()} == {
        0: (StockMoved, "shopify.stock_moved")
    }
    assert admin.throttle is not None
    assert sandbox.state.log()["changes"] == []


def test_refusal_lists_the_quantities_and_nothing_is_set(sandbox, admin):
    control(
        sandbox, levels=[{"inventory_item_id": n, "location_id": PLACE, "available": 3} for n in range(1, 6)]
    )
    quantities = [LevelQuantity(ShopLevelKey(n, PLACE), 5, 3) for n in range(1, 6)]
    quantities[1] = quantities[1]._replace(change_from=4)
    quantities[3] = quantities[3]._replace(quantity=10**9 + 1)

    refused = push_all(admin, quantities).refused

    assert {index: fault.code for index, fault in refused.items()} == {
        1: "shopify.stock_moved",
        3: "shopify.invalid_quantity_too_high",
    }
    assert sandbox.state.log()["changes"] == []
    with pytest.raises(IdempotencyKeyUsed):
        push_all(admin, quantities)


def test_levels_are_read_with_one_query_per_location(sandbox, admin):
    places = [ShopLevelKey(n, location) for n in range(1, READ_AT_MOST + 2) for location in (7, 8)]
    held = [{"inventory_item_id": p[0], "location_id": p[1], "available": p[0] + p[1]} for p in places]
    control(sandbox, levels=held, bucket={"maximum": 2000, "available": 2000, "restore_per_second": 100})

    levels = admin.fetch_levels([*places, ShopLevelKey(999_999, 7)])

    assert {place: level.available for place, level in levels.items()} == {p: sum(p) for p in places}
    assert levels[places[0]].updated_at is not None
    assert admin.cost_points < 1000


def test_null_skips_the_comparison(sandbox, admin):
    control(sandbox, levels=[{"inventory_item_id": ITEM, "location_id": PLACE, "available": 9}])

    push(admin, change_from=None)

    assert available(admin) == 5


def test_empty_bucket_gives_the_time_to_wait(sandbox, admin):
    control(sandbox, bucket={"maximum": 100, "restore_per_second": 4, "available": 2})

    with pytest.raises(ShopifyThrottled) as caught:
        push(admin)
    assert (caught.value.code, caught.value.wait) == ("shopify.throttled", timedelta(seconds=2))
    assert caught.value.throttle == ThrottleStatus(100.0, 2.0, 4.0)
    assert admin.throttle == caught.value.throttle


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, Misconfigured, "shopify.token_refused"),
        (402, Misconfigured, "shopify.shop_frozen"),
        (403, Misconfigured, "shopify.token_refused"),
        (404, Misconfigured, "shopify.address_wrong"),
        (422, Refused, "shopify.request_refused"),
        (423, Misconfigured, "shopify.shop_locked"),
        (429, ShopifyThrottled, "shopify.throttled"),
        (500, RetryLater, "shopify.unavailable"),
        (502, OutcomeUnknown, "shopify.no_answer"),
        (503, RetryLater, "shopify.unavailable"),
        (504, OutcomeUnknown, "shopify.no_answer"),
    ],
)
def test_each_status_has_its_error(status, kind, code, sandbox, admin):
    control(sandbox, fail_next={"status": status, "count": 1})

    with pytest.raises(kind) as caught:
        push(admin)
    assert caught.value.code == code
    assert push(admin).changed_at is not None


def test_wrong_token_is_refused(sandbox, http):
    control(sandbox, token="shpat_right")
    stranger = ShopifyAdmin(http, admin_base_url(SHOP, f"{sandbox.url}/shopify"), "shpat_wrong")

    with pytest.raises(Misconfigured) as caught:
        push(stranger)
    assert "shpat_wrong" not in f"{caught.value} {stranger!r}"


def test_refused_token_is_renewed_once_and_the_call_repeated(sandbox, http):
    control(sandbox, token="shpat_right")
    refused = []

    def renew(token):
        refused.append(token)
        return "shpat_right"

    admin = ShopifyAdmin(http, admin_base_url(SHOP, f"{sandbox.url}/shopify"), "shpat_old", renew)
    push(admin)
    push(admin, key="work-2", quantity=6, change_from=5)

    assert refused == ["shpat_old"]
    assert [change["to"] for change in sandbox.state.log(SHOP)["changes"]] == [5, 6]


def test_refused_renewed_token_is_not_renewed_again(sandbox, http):
    control(sandbox, token="shpat_right")
    admin = ShopifyAdmin(
        http, admin_base_url(SHOP, f"{sandbox.url}/shopify"), "shpat_old", lambda token: f"{token}er"
    )

    with pytest.raises(Misconfigured) as caught:
        push(admin)
    assert caught.value.code == "shopify.token_refused"


def test_change_with_a_lost_answer_is_unknown_and_safe_to_repeat(sandbox, admin):
    control(sandbox, drop_next=1)

    with pytest.raises(OutcomeUnknown):
        push(admin)
    push(admin)

    assert [change["to"] for change in sandbox.state.log(SHOP)["changes"]] == [5]


def test_refused_connection_is_retried(http):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = ShopifyAdmin(http, f"http://127.0.0.1:{taken.getsockname()[1]}", "shpat_1")

        with pytest.raises(RetryLater) as caught:
            push(nobody)
    assert caught.value.code == "shopify.unavailable"


def test_address_without_a_scheme_is_misconfigured(http):
    with pytest.raises(Misconfigured) as caught:
        push(ShopifyAdmin(http, SHOP, "shpat_1"))
    assert caught.value.code == "shopify.address_wrong"


def test_level_that_is_not_stocked_is_missing_from_the_result(admin):
    assert admin.fetch_levels([ShopLevelKey(1, 2)]) == {}
