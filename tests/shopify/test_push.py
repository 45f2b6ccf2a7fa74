"""Topic ``inventory_push``: one intent, one key, and what the shop's own changes do to it.

The shop is a shelf on paper: it keeps Shopify's rules for ``changeFromQuantity`` and idempotency keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.core.errors import Misconfigured, NotYet, OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.accept import record_work
from services.ledger.work import Done, NewWork, Outcome, PreparedBatch, PreparedCall, WorkItem
from services.providers.shopify_admin import Quantity, SetLevelsResult, ShopifyLevel, ShopLevelKey
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    ShopifyThrottled,
    StockMoved,
    ThrottleStatus,
)
from services.shopify.admin import Access
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.push import InventoryPush
from services.shopify.stock.push_attempt import MAX_MOVES
from services.shopify.stock.push_batch import KEY_GOOD_FOR
from services.shopify.stock.push_result import WEBHOOK_WAIT
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOON,
    NOW,
    ORDER,
    add_shop,
    at,
    count_levels,
    ingest,
    level,
    line,
    order,
    product,
    rows,
)

FIGURES = "select available, shopify_available from inventory_levels"
WAITING = "select key, payload, next_retry_at from work_queue where topic = 'inventory_push' order by id"

TOKEN = "shpat_0123456789abcdef"
BUCKET = ThrottleStatus(2000, 1990, 100)


@dataclass
class ShelfOnPaper:
    """Levels of a shop, by Shopify's rules. ``lose`` loses the answer after the change, ``fail`` comes before
    any, and ``refuse`` names what the shop will not have of an item."""

    available: int | None = 10
    """The level that most tests are about; None: not stocked."""
    throttle: ThrottleStatus | None = BUCKET
    cost_points: float | None = 10.0
    fail: WorkError | None = None
    lose: bool = False
    refuse: dict[int, WorkError] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], object] = lambda: None
    opened: list[Access] = field(default_factory=list)
    others: dict[ShopLevelKey, int] = field(default_factory=dict)
    seen_at: datetime | None = None
    spent: set[str] = field(default_factory=set)

    def held(self, place: ShopLevelKey) -> int | None:
        return self.available if place == ShopLevelKey(ITEM, LOCATION) else self.others.get(place)

    def set_available(
        self, quantities: Sequence[Quantity], *, reference: str, idempotency_key: str
    ) -> SetLevelsResult:
        asked = {"quantities": list(quantities), "key": idempotency_key}
        earlier = [one for one in self.asked if one["key"] == idempotency_key]
        assert all(one == asked for one in earlier), "one key must carry one intent"
        self.asked.append(asked)
        self.during()
        if self.fail:
            raise self.fail
        if idempotency_key in self.spent:
            raise IdempotencyKeyUsed("refused before")
        if not earlier:
            refused = {i: self.refuse[q.place.inventory_item_id] for i, q in enumerate(quantities)
                       if q.place.inventory_item_id in self.refuse}  # fmt: skip
            for index, asks in enumerate(quantities):
                if asks.change_from not in (None, self.held(asks.place)):
                    refused.setdefault(index, StockMoved("moved"))
            if refused:
                self.spent.add(idempotency_key)
                return SetLevelsResult(None, refused)
            for asks in quantities:
                if asks.place == ShopLevelKey(ITEM, LOCATION):
                    self.available = asks.quantity
                else:
                    self.others[asks.place] = asks.quantity
        if self.lose:
            self.lose = False
            raise OutcomeUnknown("shopify.no_answer", "sent, then silence")
        return SetLevelsResult(NOW)

    def get_levels(self, places: Sequence[ShopLevelKey]) -> dict[ShopLevelKey, ShopifyLevel]:
        found = {place: self.held(place) for place in places}
        return {place: ShopifyLevel(n, self.seen_at) for place, n in found.items() if n is not None}

    @property
    def terms(self) -> list[tuple[int, int | None]]:
        """Of each call for the one level: what was asked, and what it should replace."""
        return [(q.quantity, q.change_from) for one in self.asked for q in one["quantities"]]


@pytest.fixture
def shelf() -> ShelfOnPaper:
    return ShelfOnPaper()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop that counted ten mugs and sold three, which left Shopify's own figure alone. With a token."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", TOKEN, NOW)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 1))
    return engine


def push_of(shelf: ShelfOnPaper) -> InventoryPush:
    def open_api(access: Access) -> ShelfOnPaper:
        shelf.opened.append(access)
        return shelf

    return InventoryPush(open_api, clock=lambda: NOW)


def take(engine: Engine) -> WorkItem:
    """The oldest waiting push, leased."""
    with transaction(engine) as tx:
        row = tx.exec_driver_sql(
            "update work_queue set locked_at = now(), locked_by = 'w' where id = (select min(id) "
            "from work_queue where topic = 'inventory_push' and status = 'pending' and locked_at is null) "
            "returning id, shop_id, key, payload"
        ).one()
    return WorkItem(
        id=row[0], shop_id=row[1], topic="inventory_push", key=row[2], payload=row[3], retry_count=0
    )


def prepare(engine: Engine, push: InventoryPush, item: WorkItem) -> PreparedBatch | Outcome:
    """The first half of a try, with what is asked stored."""
    with transaction(engine) as tx:
        ready = push.prepare(tx, [item], NOW)[0]
        assert not isinstance(ready, PreparedCall)
        if isinstance(ready, PreparedBatch) and ready.payloads[0]:
            tx.exec_driver_sql(
                "update work_queue set payload = %(payload)s where id = %(id)s",
                {"payload": Jsonb(ready.payloads[0]), "id": item.id},
            )
    return ready


def again(engine: Engine, item: WorkItem) -> WorkItem:
    """The item as a later try claims it."""
    (row,) = rows(engine, "select payload, retry_count from work_queue where id = :id", id=item.id)
    return item._replace(payload=row[0], retry_count=row[1])


def run(engine: Engine, shelf: ShelfOnPaper, item: WorkItem) -> tuple[Outcome, Sequence[NewWork]]:
    """One try: prepare, act, and what was learned written, with the work that follows in the queue."""
    ready = prepare(engine, push_of(shelf), item)
    if not isinstance(ready, PreparedBatch):
        return ready, ()
    answers = ready.act()
    assert answers.record is not None
    (outcome,) = answers.outcomes
    with transaction(engine) as tx:
        if isinstance(outcome, Done):
            tx.exec_driver_sql("update work_queue set status = 'done' where id = %(id)s", {"id": item.id})
        recorded = answers.record(tx, [answers.learned], [item.id])
        record_work(tx, recorded.new_work, NOW)
        append_all(tx, recorded.audit, NOW)
    return outcome, recorded.new_work


def verdict(outcome: Outcome) -> str:
    return outcome.result if isinstance(outcome, Done) else outcome.code


def test_push_sets_the_present_figure_and_remembers_it(shop: Engine, shelf: ShelfOnPaper) -> None:
    outcome, new_work = run(shop, shelf, take(shop))

    assert verdict(outcome) == "pushed"
    assert [one["quantities"] for one in shelf.asked] == [[Quantity(ShopLevelKey(ITEM, LOCATION), 7, 10)]]
    assert [(a.domain, a.token) for a in shelf.opened] == [("harbour.myshopify.com", TOKEN)]
    assert rows(shop, FIGURES) == [(7, 7)]
    assert new_work == []
    assert rows(
        shop, "select bucket, maximum, available, restore_per_second, call_points from rate_limits"
    ) == [("shopify", 2000, 1990, 100, 10)]


def test_push_of_a_level_in_step_calls_nobody(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(7, 5))

    assert verdict(run(shop, shelf, item)[0]) == "in_sync"
    assert shelf.asked == []


def test_push_of_a_level_that_is_gone_calls_nobody(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from inventory_levels")

    assert verdict(run(shop, shelf, item)[0]) == "no_level"


def test_level_that_the_shop_disconnected_is_not_pushed(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set disconnected_at = now()")

    assert verdict(run(shop, shelf, item)[0]) == "no_level"
    assert shelf.asked == []


def test_push_retried_after_a_lost_answer_repeats_its_intent_under_its_key(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item, shelf.lose = take(shop), True
    assert verdict(run(shop, shelf, item)[0]) == "shopify.no_answer"
    stored = rows(shop, "select payload from work_queue where id = :id", id=item.id)[0][0]
    assert (stored["quantity"], stored["change_from_quantity"]) == (7, 10)
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))

    outcome, _ = run(shop, shelf, again(shop, item))

    assert verdict(outcome) == "pushed"
    assert shelf.asked[0] == shelf.asked[1]
    assert shelf.available == 7
    # What sold meanwhile is the next push's, which waited already.
    assert rows(shop, FIGURES) == [(5, 7)]
    assert verdict(run(shop, shelf, take(shop))[0]) == "pushed"
    assert shelf.available == 5
    assert rows(shop, FIGURES) == [(5, 5)]


def test_push_in_doubt_is_asked_again_although_the_figures_agree_by_now(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item, shelf.lose = take(shop), True
    assert verdict(run(shop, shelf, item)[0]) == "shopify.no_answer"
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set available = 10")

    outcome, new_work = run(shop, shelf, again(shop, item))

    assert verdict(outcome) == "pushed"
    assert rows(shop, FIGURES) == [(10, 7)]
    assert [new.key for new in new_work] == [f"{ITEM}:{LOCATION}"]


def test_push_in_doubt_for_longer_than_its_key_is_looked_at_first(shop: Engine, shelf: ShelfOnPaper) -> None:
    item, shelf.lose = take(shop), True
    run(shop, shelf, item)
    long_ago = {"asked_at": (NOW - 2 * KEY_GOOD_FOR).isoformat()}

    late = again(shop, item)
    outcome, _ = run(shop, shelf, late._replace(payload=late.payload | long_ago))

    assert verdict(outcome) == "in_sync"
    assert len(shelf.asked) == 1
    assert rows(shop, FIGURES) == [(7, 7)]


def test_push_that_a_throttled_shop_never_saw_reads_the_figure_of_its_later_try(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item = take(shop)
    shelf.fail = ShopifyThrottled("empty", wait=timedelta(seconds=3), throttle=BUCKET)
    assert verdict(run(shop, shelf, item)[0]) == "shopify.throttled"
    assert again(shop, item).payload == {}
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    shelf.fail = None

    run(shop, shelf, again(shop, item))

    assert shelf.terms == [(7, 10), (5, 10)]


def test_level_that_changes_during_the_call_has_one_more_push_planned(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    def sell() -> None:
        with transaction(shop) as tx:
            ingest_orders(tx, [order(number=ORDER + 50, lines=[line(ORDER + 51)])], NOW)

    shelf.during = sell
    _, new_work = run(shop, shelf, take(shop))

    assert rows(shop, FIGURES) == [(6, 7)]
    assert [(new.key, new.payload, new.not_before) for new in new_work] == [(f"{ITEM}:{LOCATION}", {}, None)]


def test_webhook_that_comes_during_the_call_knows_better_than_the_answer(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    shelf.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, shelf, take(shop))

    assert rows(shop, FIGURES) == [(7, 4)]


def test_stock_that_moved_to_our_figure_is_in_sync(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available, shelf.seen_at = 7, NOON + timedelta(minutes=5)

    outcome, new_work = run(shop, shelf, take(shop))

    assert verdict(outcome) == "in_sync"
    assert rows(shop, FIGURES) == [(7, 7)]
    assert new_work == []


def test_stock_that_moved_is_read_and_set_to_our_count_after_a_wait(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    shelf.available, shelf.seen_at = 42, NOON + timedelta(minutes=5)

    outcome, new_work = run(shop, shelf, take(shop))

    assert verdict(outcome) == "superseded"
    assert [(new.payload, new.not_before) for new in new_work] == [
        ({"is_read": True, "hops": 1}, NOW + WEBHOOK_WAIT)
    ]
    assert shelf.available == 42
    assert rows(shop, "select available, observed_available, shopify_available from inventory_levels") == [
        (7, 42, 42)
    ]
    assert verdict(run(shop, shelf, take(shop))[0]) == "pushed"
    assert shelf.terms == [(7, 10), (7, 42)]


def test_late_webhook_of_a_sale_that_was_seen_in_the_stock_ends_the_difference(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    """Shopify sold two more, five minutes after noon; their webhook comes after the level was read."""
    shelf.available, shelf.seen_at = 5, NOON + timedelta(minutes=5)
    run(shop, shelf, take(shop))
    assert rows(shop, FIGURES) == [(7, 5)]

    late = order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)], created_at=at(5), updated=5)
    ingest(shop, ingest_orders, late)

    assert rows(shop, FIGURES) == [(5, 5)]
    assert verdict(run(shop, shelf, take(shop))[0]) == "in_sync"
    assert shelf.terms == [(7, 10)]


def test_stock_read_older_than_a_webhook_is_learned_and_waits(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available, shelf.seen_at = 8, NOON - timedelta(hours=2)

    outcome, _ = run(shop, shelf, take(shop))

    assert verdict(outcome) == "superseded"
    assert rows(shop, FIGURES) == [(7, 8)]
    payload = {"hops": 1, "is_read": True}
    assert rows(shop, WAITING)[1:] == [(f"{ITEM}:{LOCATION}", payload, NOW + WEBHOOK_WAIT)]
    assert verdict(run(shop, shelf, take(shop))[0]) == "pushed"
    assert shelf.asked[1]["key"] != shelf.asked[0]["key"]


def test_level_of_a_shop_that_shopify_owns_is_not_pushed(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopify'")

    assert verdict(run(shop, shelf, item)[0]) == "not_ours"
    assert (
        verdict(run(shop, shelf, item._replace(payload={"quantity": 7, "batch": item.id}))[0]) == "not_ours"
    )
    assert shelf.asked == []


def test_level_that_was_not_counted_here_is_not_pushed(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set counted_at = null")

    assert verdict(run(shop, shelf, item)[0]) == "not_ours"
    assert shelf.asked == []


def test_level_observed_too_soon_after_a_sale_is_read_before_it_is_set(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(9, 1.5))
    sale = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(1), updated=1)
    ingest(shop, ingest_orders, sale)
    shelf.available = 9

    outcome, _ = run(shop, shelf, item)
    assert (verdict(outcome), shelf.asked) == ("superseded", [])

    assert [verdict(run(shop, shelf, take(shop))[0]) for _ in range(2)] == ["superseded", "pushed"]
    assert shelf.terms == [(6, 9)]


def test_level_that_shopify_lowered_itself_is_read_and_left_alone(shop: Engine, shelf: ShelfOnPaper) -> None:
    item = take(shop)
    sale = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(1), updated=1)
    ingest(shop, ingest_orders, sale)
    shelf.available = 6

    assert verdict(run(shop, shelf, item)[0]) == "in_sync"
    assert shelf.asked == []
    assert rows(shop, FIGURES) == [(6, 6)]


def test_sale_whose_location_is_unknown_holds_back_the_levels_of_its_item(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item = take(shop)
    ingest(shop, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))

    assert rows(shop, "select available from inventory_levels order by location_id") == [(10,), (5,)]
    ingest(shop, ingest_inventory_levels, level(12, 2))
    assert verdict(run(shop, shelf, item)[0]) == "location_unknown"
    assert shelf.asked == []


def test_push_waits_while_another_of_its_level_has_no_answer(shop: Engine, shelf: ShelfOnPaper) -> None:
    doubtful, shelf.lose = take(shop), True
    assert verdict(run(shop, shelf, doubtful)[0]) == "shopify.no_answer"
    settle_lost(shop, doubtful)
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    later = take(shop)
    assert later.id != doubtful.id

    waiting = run(shop, shelf, later)[0]

    assert isinstance(waiting, NotYet)
    assert verdict(waiting) == "shopify.push_in_doubt"
    assert shelf.terms == [(7, 10)]
    assert verdict(run(shop, shelf, again(shop, doubtful))[0]) == "pushed"
    assert verdict(run(shop, shelf, later)[0]) == "pushed"
    assert shelf.terms == [(7, 10), (7, 10), (5, 7)]


def test_push_after_one_that_was_given_up_in_doubt_reads_the_level_first(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    doubtful, shelf.lose = take(shop), True
    run(shop, shelf, doubtful)
    settle_lost(shop, doubtful, "discarded")
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))
    ingest(shop, ingest_inventory_levels, level(10, 2))

    assert verdict(run(shop, shelf, take(shop))[0]) == "superseded"

    assert shelf.terms == [(7, 10)]
    assert rows(shop, FIGURES) == [(5, 7)]


def test_figure_that_we_wrote_ourselves_is_not_recorded_as_shopifys_word(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item, shelf.lose = take(shop), True
    run(shop, shelf, item)
    shelf.seen_at = NOW
    late = again(shop, item)
    long_ago = {"asked_at": (NOW - 2 * KEY_GOOD_FOR).isoformat()}

    assert verdict(run(shop, shelf, late._replace(payload=late.payload | long_ago))[0]) == "in_sync"

    observed = "select observed_available, observed_at, shopify_available from inventory_levels"
    assert rows(shop, observed) == [(10, NOON + timedelta(minutes=1), 7)]


def settle_lost(engine: Engine, item: WorkItem, status: str = "error") -> None:
    """The ledger has taken the item out of its worker's hand without an answer."""
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update work_queue set status = %(status)s, locked_at = null, finished_at = %(at)s "
            "where id = %(id)s",
            {"status": status, "at": NOW if status == "discarded" else None, "id": item.id},
        )


def test_stock_that_moves_again_and_again_waits_for_a_person(shop: Engine, shelf: ShelfOnPaper) -> None:
    seen = []
    for turn in range(MAX_MOVES + 1):
        shelf.available = 20 + turn
        seen.append(verdict(run(shop, shelf, take(shop))[0]))

    assert seen == ["superseded"] * MAX_MOVES + ["shopify.stock_contended"]


def test_item_that_the_shop_no_longer_stocks_is_done(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available = None

    assert verdict(run(shop, shelf, take(shop))[0]) == "not_stocked"


@pytest.mark.parametrize(
    "fault",
    [
        RetryLater("shopify.throttled", wait=timedelta(seconds=3)),
        OutcomeUnknown("shopify.no_answer"),
        Misconfigured("shopify.token_refused"),
        Refused("shopify.invalid_location"),
    ],
    ids=lambda fault: fault.code,
)
def test_failure_that_the_provider_named_is_the_outcome(
    shop: Engine, shelf: ShelfOnPaper, fault: WorkError
) -> None:
    shelf.fail = fault

    assert run(shop, shelf, take(shop))[0] is fault
    assert rows(shop, FIGURES) == [(7, 10)]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("delete from shop_secrets", "shopify.no_token"),
        ("update shop_config set shopify_domain = ''", "shopify.no_domain"),
        ("update shop_secrets set sealed = 'broken'", "shopify.token_unreadable"),
    ],
)
def test_shop_that_cannot_be_reached_says_what_to_mend(
    shop: Engine, shelf: ShelfOnPaper, statement: str, code: str
) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql(statement)

    outcome = run(shop, shelf, take(shop))[0]

    assert isinstance(outcome, Misconfigured)
    assert outcome.code == code


AUDITED = (
    "select e.staff_label, e.action, m.summary, m.before, m.after from audit_mutations m "
    "join audit_events e on e.id = m.event_id where e.action = 'inventory_push' order by e.seq"
)
LABEL = f"stock of MUG at location {LOCATION}"


def test_push_is_audited_with_what_the_shop_was_told(shop: Engine, shelf: ShelfOnPaper) -> None:
    run(shop, shelf, take(shop))

    told = ("inventory_push", "inventory_push", f"pushed to Shopify: {LABEL} is 7 (was 10)")
    assert rows(shop, AUDITED) == [(*told, {"shopify_available": 10}, {"shopify_available": 7})]


def test_push_is_audited_though_a_webhook_knew_better_by_then(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, shelf, take(shop))

    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (f"pushed to Shopify: {LABEL} is 7 (was 10)", None, None)
    ]


def test_stock_that_was_read_is_audited_as_what_shopify_counted(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available, shelf.seen_at = 42, NOON + timedelta(minutes=5)

    run(shop, shelf, take(shop))

    ((who, action, words, _, after),) = rows(shop, AUDITED)
    assert (who, action) == ("inventory_push", "inventory_push")
    assert words == f"{LABEL}: Shopify counted 42 (was 10)"
    assert after["shopify_available"] == 42


def test_stock_read_without_a_newer_time_is_audited_as_what_shopify_holds(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    shelf.available = 8

    run(shop, shelf, take(shop))

    words = f"Shopify holds 8, not 10: {LABEL} is left to a later push"
    assert [row[2:] for row in rows(shop, AUDITED)] == [
        (words, {"shopify_available": 10}, {"shopify_available": 8})
    ]


def test_stock_in_step_is_audited_only_if_we_did_not_know(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available = 7

    run(shop, shelf, take(shop))

    assert [row[2] for row in rows(shop, AUDITED)] == [f"Shopify holds 7 already: {LABEL}"]
