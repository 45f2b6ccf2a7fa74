"""Pushes of one shop in one call, through the real runner."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused, RetryLater
from services.ledger.accept import record_work
from services.ledger.rate_limits import record_throttle
from services.ledger.runner_external import ExternalRunner
from services.ledger.work import NewWork
from services.providers.shopify_admin import SET_AT_MOST, ShopLevelKey
from services.providers.shopify_answers import ShopifyThrottled, ThrottleStatus
from services.shopify.shop_access import ShopAccess
from services.shopify.stock.push import InventoryPushHandler
from services.shopify.stock.push_call import MAX_BATCH_ITEMS, MAX_CALLS
from services.shops.secrets import record_secret
from tests.shopify.push_batches import TOPIC, WORK, counted, plan, push, sizes, work
from tests.shopify.push_shop import FakeStockApi
from tests.shopify.sample_payloads import add_shop, rows


@pytest.fixture
def api() -> FakeStockApi:
    """A shop with ten pieces of every item."""
    return FakeStockApi(others={ShopLevelKey(n, 1): 10 for n in range(1, 700)}, seen_at=utc_now())


@pytest.fixture
def shop(engine: Engine) -> Engine:
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
    return engine


def test_batch_size_is_within_the_limits_of_shopify_and_of_the_shop() -> None:
    assert SET_AT_MOST == MAX_BATCH_ITEMS == TOPIC.call_items == TOPIC.shop_cap


def test_six_hundred_levels_go_out_in_three_calls(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 600)

    while push(shop, api).claimed:
        pass

    assert sizes(api) == [250, 250, 100]
    assert set(api.others.values()) == {3, 10}
    assert Counter(api.others.values())[3] == 600
    assert work(shop) == {("done", "pushed", None, 0): 600}
    assert rows(shop, "select distinct shopify_available from inventory_levels") == [(3,)]
    assert rows(shop, "select count(*) from audit_events where action = 'inventory_push'") == [(600,)]


def test_call_for_many_takes_no_more_statements_than_one_for_few(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 250)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue where id > 20")
        record_throttle(tx, 1, "shopify", maximum=2000, available=2000, restore_per_second=100, now=utc_now())
    with counted(shop) as few:
        push(shop, api)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue")
        tx.exec_driver_sql("update inventory_levels set available = 2")
        record_work(
            tx, [NewWork(shop_id=1, topic=TOPIC.name, key=f"{n}:1") for n in range(1, 251)], utc_now()
        )
        api.others = {ShopLevelKey(n, 1): 3 if n <= 20 else 10 for n in range(1, 251)}
    with counted(shop) as many:
        push(shop, api)

    assert sizes(api) == [20, 250]
    assert len(many) <= len(few)


def test_shops_go_out_apart(shop: Engine) -> None:
    other = add_shop(shop, "cove", "cove.myshopify.com")
    with transaction(shop) as tx:
        record_secret(tx, other, "shopify-token", "shpat_other", utc_now())
    plan(shop, 3)
    plan(shop, 2, shop_id=other)
    apis: dict[int, FakeStockApi] = {}

    def open_api(access: ShopAccess) -> FakeStockApi:
        return apis.setdefault(
            access.shop_id, FakeStockApi(others={ShopLevelKey(n, 1): 10 for n in range(1, 9)})
        )

    ExternalRunner(shop, "tests", random.Random(1)).run_batch(TOPIC, InventoryPushHandler(open_api))

    assert {shop_id: sizes(api) for shop_id, api in apis.items()} == {1: [3], other: [2]}
    assert work(shop) == {("done", "pushed", None, 0): 5}


def test_one_bad_item_among_many_fails_alone(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 250)
    api.refuse = {77: Refused("shopify.invalid_inventory_item", "no such item")}

    push(shop, api)

    assert sizes(api) == [250, 249]
    assert len({one["key"] for one in api.requests}) == 2
    assert work(shop) == {
        ("done", "pushed", None, 0): 249,
        ("dead", None, "shopify.invalid_inventory_item", 1): 1,
    }
    assert api.others[ShopLevelKey(77, 1)] == 10


def test_level_that_moved_among_many_is_read_and_the_others_go_out(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 50)
    api.others |= {ShopLevelKey(7, 1): 42, ShopLevelKey(8, 1): 3}

    push(shop, api)

    assert sizes(api) == [50, 48]
    assert work(shop) == {
        ("done", "pushed", None, 0): 48,
        ("done", "superseded", None, 0): 1,
        ("done", "in_sync", None, 0): 1,
        ("pending", None, None, 0): 1,
    }
    moved = "select available, shopify_available from inventory_levels where inventory_item_id in (7, 8)"
    assert rows(shop, f"{moved} order by inventory_item_id") == [(3, 42), (3, 3)]


def test_repeated_refusals_wait_and_count_no_attempt_of_other_items(
    shop: Engine, api: FakeStockApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(shop, 20)
    bad = Refused("shopify.invalid_quantity_too_high", "too high")
    left = list(range(1, 11))
    monkeypatch.setattr(api, "during", lambda: setattr(api, "refuse", {left.pop(0): bad} if left else {}))

    push(shop, api)

    assert sizes(api) == [20 - turn for turn in range(MAX_CALLS)]
    waiting = ("pending", None, "shopify.batch_refused", 0)
    assert work(shop) == {("dead", None, bad.code, 1): MAX_CALLS, waiting: 20 - MAX_CALLS}
    assert {str(row[5]) for row in rows(shop, WORK) if row[1] == "pending"} == {"{}"}
    while push(shop, api).claimed:
        pass
    assert work(shop) == {("dead", None, bad.code, 1): 10, ("done", "pushed", None, 0): 10}


def test_throttled_call_waits_counts_no_attempt_and_delays_the_next_claim(
    shop: Engine, api: FakeStockApi
) -> None:
    plan(shop, 300)
    empty = ThrottleStatus(1000, 4, 2)
    api.fail, api.throttle, api.cost_points = (
        ShopifyThrottled("", wait=timedelta(seconds=30), throttle=empty),
        empty,
        64,
    )
    before = utc_now()

    push(shop, api)
    push_next = ExternalRunner(shop, "tests", random.Random(1)).run_batch(
        TOPIC, InventoryPushHandler(lambda _: api)
    )

    assert (sizes(api), push_next.claimed) == ([250], 0)
    assert work(shop) == {
        ("pending", None, "shopify.throttled", 0): 250,
        ("pending", None, None, 0): 50,
    }
    # 60 points are missing at 2 per second, so the first 250 wait for 30 s.
    due = rows(shop, "select next_retry_at, count(*) from work_queue group by 1 order by 1")
    assert [count for _, count in due] in ([250, 50], [50, 250])
    assert all(at >= before + timedelta(seconds=28) for at, _ in due)


def test_429_blocks_the_bucket_for_its_retry_after(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 300)
    push(shop, api)
    api.fail = ShopifyThrottled("HTTP 429", wait=timedelta(seconds=40), throttle=None)
    before = utc_now()
    with transaction(shop) as tx:
        record_work(tx, [NewWork(shop_id=1, topic=TOPIC.name, key="1:1")], before)
        tx.exec_driver_sql("update inventory_levels set available = 1 where inventory_item_id = 1")
    push(shop, api)
    request_count = len(api.requests)
    api.fail = None
    with transaction(shop) as tx:
        tx.exec_driver_sql(
            "update work_queue set next_retry_at = null where key <> '1:1' and status = 'pending'"
        )

    push(shop, api)

    assert len(api.requests) == request_count
    waiting = rows(shop, "select min(next_retry_at) from work_queue where status = 'pending'")
    assert waiting[0][0] >= before + timedelta(seconds=39)


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (RetryLater("shopify.unavailable"), ("error", None, "shopify.unavailable", 1)),
        (Misconfigured("shopify.token_refused"), ("dead", None, "shopify.token_refused", 1)),
        (ValueError("boom"), ("error", None, "bug.ValueError", 1)),
    ],
)
def test_fault_of_the_call_applies_to_every_item(
    shop: Engine, api: FakeStockApi, fault: Exception, row: tuple[Any, ...]
) -> None:
    plan(shop, 5)
    api.fail = fault  # type: ignore[assignment]

    push(shop, api)

    assert work(shop) == {row: 5}


def test_results_of_items_without_a_lease_are_not_recorded(shop: Engine, api: FakeStockApi) -> None:
    plan(shop, 5)

    def steal() -> None:
        with transaction(shop) as tx:
            tx.exec_driver_sql("update work_queue set locked_by = 'other' where id = 2")

    api.during = steal
    report = push(shop, api)

    assert (report.done, report.lost) == (4, 1)
    held = rows(shop, "select shopify_available from inventory_levels order by inventory_item_id")
    assert [row[0] for row in held] == [3, 10, 3, 3, 3]
