"""Pushes of one shop in one call, through the real runner; the shop keeps Shopify's rules on paper."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater
from services.ledger.accept import record_work
from services.ledger.limits import record_throttle
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import NewWork
from services.providers.shopify_admin import SET_AT_MOST, ShopLevelKey
from services.providers.shopify_answers import ShopifyThrottled, ThrottleStatus
from services.shopify.admin import Access
from services.shopify.stock.push import InventoryPush
from services.shopify.stock.push_attempt import MAX_CALLS
from services.shopify.stock.push_batch import BATCH_ITEMS
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import add_shop, rows
from tests.shopify.test_push import ShelfOnPaper

TOPIC = TOPICS["inventory_push"]
WORK = """
select id, status, result, case when status <> 'done' then error_code end, retry_count, payload
  from work_queue order by id
"""


@pytest.fixture
def shelf() -> ShelfOnPaper:
    """A shop that holds ten of everything."""
    return ShelfOnPaper(others={ShopLevelKey(n, 1): 10 for n in range(1, 700)}, seen_at=utc_now())


@pytest.fixture
def shop(engine: Engine) -> Engine:
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
    return engine


def plan(engine: Engine, count: int, *, shop_id: int = 1) -> None:
    """``count`` levels of which Shopify holds ten and we three, each with a push."""
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")
        tx.execute(
            text(
                "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
                "observed_available, observed_at, shopify_available, changed_at, counted_available, "
                "counted_at) select :shop, n, 1, 'SKU' || n, 3, 10, '2026-01-01', 10, now(), 3, "
                "'2026-01-01' from generate_series(1, :count) n"
            ),
            {"count": count, "shop": shop_id},
        )
        pushes = [NewWork(shop_id=shop_id, topic=TOPIC.name, key=f"{n}:1") for n in range(1, count + 1)]
        record_work(tx, pushes, utc_now())


def push(engine: Engine, shelf: ShelfOnPaper, worker: str = "tests") -> Any:
    """One round of a worker; what waits for another try is due at once."""
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set next_retry_at = null where status in ('pending', 'error')")
    runner = ExternalRunner(engine, worker, random.Random(1))
    return runner.run_batch(TOPIC, InventoryPush(lambda access: shelf))


def work(engine: Engine) -> Counter[tuple[Any, ...]]:
    return Counter(row[1:5] for row in rows(engine, WORK))


def sizes(shelf: ShelfOnPaper) -> list[int]:
    return [len(one["quantities"]) for one in shelf.asked]


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    from sqlalchemy import event

    seen: list[str] = []
    listen: Callable[..., None] = lambda *a: seen.append(a[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listen)
    yield seen
    event.remove(engine, "before_cursor_execute", listen)


def test_call_carries_what_shopify_takes_and_what_a_shop_may_have_in_hand() -> None:
    assert SET_AT_MOST == BATCH_ITEMS == TOPIC.call_items == TOPIC.shop_cap


def test_six_hundred_levels_go_out_in_three_calls(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 600)

    while push(shop, shelf).claimed:
        pass

    assert sizes(shelf) == [250, 250, 100]
    assert set(shelf.others.values()) == {3, 10}
    assert Counter(shelf.others.values())[3] == 600
    assert work(shop) == {("done", "pushed", None, 0): 600}
    assert rows(shop, "select distinct shopify_available from inventory_levels") == [(3,)]
    assert rows(shop, "select count(*) from audit_events where action = 'inventory_push'") == [(600,)]


def test_call_for_many_takes_no_more_statements_than_one_for_few(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 250)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue where id > 20")
        record_throttle(tx, 1, "shopify", maximum=2000, available=2000, restore_per_second=100, now=utc_now())
    with counted(shop) as few:
        push(shop, shelf)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue")
        tx.exec_driver_sql("update inventory_levels set available = 2")
        record_work(
            tx, [NewWork(shop_id=1, topic=TOPIC.name, key=f"{n}:1") for n in range(1, 251)], utc_now()
        )
        shelf.others = {ShopLevelKey(n, 1): 3 if n <= 20 else 10 for n in range(1, 251)}
    with counted(shop) as many:
        push(shop, shelf)

    assert sizes(shelf) == [20, 250]
    assert len(many) <= len(few)


def test_shops_go_out_apart(shop: Engine) -> None:
    other = add_shop(shop, "cove", "cove.myshopify.com")
    with transaction(shop) as tx:
        record_secret(tx, other, "shopify-token", "shpat_other", utc_now())
    plan(shop, 3)
    plan(shop, 2, shop_id=other)
    shelves: dict[int, ShelfOnPaper] = {}

    def open_api(access: Access) -> ShelfOnPaper:
        return shelves.setdefault(
            access.shop_id, ShelfOnPaper(others={ShopLevelKey(n, 1): 10 for n in range(1, 9)})
        )

    ExternalRunner(shop, "tests", random.Random(1)).run_batch(TOPIC, InventoryPush(open_api))

    assert {shop_id: sizes(shelf) for shop_id, shelf in shelves.items()} == {1: [3], other: [2]}
    assert work(shop) == {("done", "pushed", None, 0): 5}


def test_one_bad_item_among_many_fails_alone(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 250)
    shelf.refuse = {77: Refused("shopify.invalid_inventory_item", "no such item")}

    push(shop, shelf)

    assert sizes(shelf) == [250, 249]
    assert len({one["key"] for one in shelf.asked}) == 2
    assert work(shop) == {
        ("done", "pushed", None, 0): 249,
        ("dead", None, "shopify.invalid_inventory_item", 1): 1,
    }
    assert shelf.others[ShopLevelKey(77, 1)] == 10


def test_level_that_moved_among_many_is_read_and_the_others_go_out(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 50)
    shelf.others |= {ShopLevelKey(7, 1): 42, ShopLevelKey(8, 1): 3}

    push(shop, shelf)

    assert sizes(shelf) == [50, 48]
    assert work(shop) == {
        ("done", "pushed", None, 0): 48,
        ("done", "superseded", None, 0): 1,
        ("done", "in_sync", None, 0): 1,
        ("pending", None, None, 0): 1,
    }
    moved = "select available, shopify_available from inventory_levels where inventory_item_id in (7, 8)"
    assert rows(shop, f"{moved} order by inventory_item_id") == [(3, 42), (3, 3)]


def test_refusals_without_end_wait_and_count_no_try_of_the_innocent(
    shop: Engine, shelf: ShelfOnPaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(shop, 20)
    bad = Refused("shopify.invalid_quantity_too_high", "too high")
    left = list(range(1, 11))
    monkeypatch.setattr(shelf, "during", lambda: setattr(shelf, "refuse", {left.pop(0): bad} if left else {}))

    push(shop, shelf)

    assert sizes(shelf) == [20 - turn for turn in range(MAX_CALLS)]
    waiting = ("pending", None, "shopify.batch_refused", 0)
    assert work(shop) == {("dead", None, bad.code, 1): MAX_CALLS, waiting: 20 - MAX_CALLS}
    assert {str(row[5]) for row in rows(shop, WORK) if row[1] == "pending"} == {"{}"}
    while push(shop, shelf).claimed:
        pass
    assert work(shop) == {("dead", None, bad.code, 1): 10, ("done", "pushed", None, 0): 10}


def test_throttled_call_waits_as_told_counts_no_try_and_holds_back_the_next_claim(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    plan(shop, 300)
    empty = ThrottleStatus(1000, 4, 2)
    shelf.fail, shelf.throttle, shelf.cost_points = (
        ShopifyThrottled("", wait=timedelta(seconds=30), throttle=empty),
        empty,
        64,
    )
    before = utc_now()

    push(shop, shelf)
    push_next = ExternalRunner(shop, "tests", random.Random(1)).run_batch(
        TOPIC, InventoryPush(lambda _: shelf)
    )

    assert (sizes(shelf), push_next.claimed) == ([250], 0)
    assert work(shop) == {
        ("pending", None, "shopify.throttled", 0): 250,
        ("pending", None, None, 0): 50,
    }
    # 60 points are missing at 2 a second; the first 250 were told to wait for 30 s.
    due = rows(shop, "select next_retry_at, count(*) from work_queue group by 1 order by 1")
    assert [count for _, count in due] in ([250, 50], [50, 250])
    assert all(at >= before + timedelta(seconds=28) for at, _ in due)


def test_429_holds_the_bucket_for_as_long_as_it_says(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 300)
    push(shop, shelf)
    shelf.fail = ShopifyThrottled("HTTP 429", wait=timedelta(seconds=40), throttle=None)
    before = utc_now()
    with transaction(shop) as tx:
        record_work(tx, [NewWork(shop_id=1, topic=TOPIC.name, key="1:1")], before)
        tx.exec_driver_sql("update inventory_levels set available = 1 where inventory_item_id = 1")
    push(shop, shelf)
    asked = len(shelf.asked)
    shelf.fail = None
    with transaction(shop) as tx:
        tx.exec_driver_sql(
            "update work_queue set next_retry_at = null where key <> '1:1' and status = 'pending'"
        )

    push(shop, shelf)

    assert len(shelf.asked) == asked
    waiting = rows(shop, "select min(next_retry_at) from work_queue where status = 'pending'")
    assert waiting[0][0] >= before + timedelta(seconds=39)


def test_lost_answer_brings_the_whole_call_back_at_one_time_under_one_key(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    plan(shop, 120)
    shelf.lose = True
    ExternalRunner(shop, "tests", random.Random(1)).run_batch(TOPIC, InventoryPush(lambda _: shelf))
    assert work(shop) == {("error", None, "shopify.no_answer", 1): 120}
    assert len(rows(shop, "select distinct next_retry_at from work_queue")) == 1

    push(shop, shelf)

    assert shelf.asked[0] == shelf.asked[1]
    assert work(shop) == {("done", "pushed", None, 1): 120}


def test_part_of_a_lost_call_asks_for_all_of_it_again(shop: Engine, shelf: ShelfOnPaper) -> None:
    """Claims are shared out over shops: a call's items may come back in parts."""
    plan(shop, 9)
    shelf.lose = True
    push(shop, shelf)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = now(), locked_by = 'w2' where id <= 4")

    push(shop, shelf)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = null, locked_by = null where id <= 4")
    push(shop, shelf)

    assert shelf.asked[0] == shelf.asked[1] == shelf.asked[2]
    assert work(shop) == {("done", "pushed", None, 1): 9}


@pytest.mark.parametrize("happened", [True, False])
def test_lost_call_of_which_one_was_discarded_is_looked_at_and_never_asked_again(
    shop: Engine, shelf: ShelfOnPaper, happened: bool
) -> None:
    plan(shop, 9)
    shelf.lose, shelf.fail = happened, None if happened else OutcomeUnknown("shopify.no_answer")
    push(shop, shelf)
    shelf.fail, shelf.seen_at = None, None
    with transaction(shop) as tx:
        tx.exec_driver_sql("update work_queue set status = 'discarded' where id = 4")

    while push(shop, shelf).claimed:
        pass

    first = shelf.asked[0]["key"]
    assert [one["key"] for one in shelf.asked].count(first) == 1
    held = {n: shelf.others[ShopLevelKey(n, 1)] for n in range(1, 10)}
    assert held == {n: 3 if happened or n != 4 else 10 for n in range(1, 10)}
    assert set(work(shop)) <= {
        ("done", "in_sync", None, 1), ("done", "superseded", None, 1), ("done", "pushed", None, 0),
        ("discarded", None, "shopify.no_answer", 1),
    }  # fmt: skip


@pytest.mark.parametrize("is_bad", [True, False], ids=["an item is bad", "a level moved"])
def test_answer_lost_after_a_partial_refusal_is_looked_at(
    shop: Engine, shelf: ShelfOnPaper, is_bad: bool
) -> None:
    """The first call is refused for one item, the second goes through and its answer is lost."""
    plan(shop, 9)
    if is_bad:
        shelf.refuse = {4: Refused("shopify.invalid_inventory_item", "no such item")}
    else:
        shelf.others[ShopLevelKey(4, 1)] = 42

    def lose_the_second() -> None:
        shelf.lose = len(shelf.asked) == 2

    shelf.during = lose_the_second
    push(shop, shelf)
    assert work(shop)[("error", None, "shopify.no_answer", 1)] == 8

    push(shop, shelf)

    assert work(shop)[("done", "in_sync", None, 1)] == 8
    assert sizes(shelf) == ([9, 8] if is_bad else [9, 8, 9, 1])
    assert [shelf.others[ShopLevelKey(n, 1)] for n in (3, 4, 5)] == [3, 10 if is_bad else 3, 3]


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        (RetryLater("shopify.unavailable"), ("error", None, "shopify.unavailable", 1)),
        (Misconfigured("shopify.token_refused"), ("dead", None, "shopify.token_refused", 1)),
        (ValueError("boom"), ("error", None, "bug.ValueError", 1)),
    ],
)
def test_fault_of_the_call_is_every_items(
    shop: Engine, shelf: ShelfOnPaper, fault: Exception, row: tuple[Any, ...]
) -> None:
    plan(shop, 5)
    shelf.fail = fault  # type: ignore[assignment]

    push(shop, shelf)

    assert work(shop) == {row: 5}


def test_who_lost_the_lease_of_some_learns_nothing_of_them(shop: Engine, shelf: ShelfOnPaper) -> None:
    plan(shop, 5)

    def steal() -> None:
        with transaction(shop) as tx:
            tx.exec_driver_sql("update work_queue set locked_by = 'other' where id = 2")

    shelf.during = steal
    report = push(shop, shelf)

    assert (report.settled.done, report.settled.lost) == (4, 1)
    held = rows(shop, "select shopify_available from inventory_levels order by inventory_item_id")
    assert [row[0] for row in held] == [3, 10, 3, 3, 3]
