"""Topic ``inventory_push``: one intent, one key, and what the shop's own changes do to it.

The shop is a shelf on paper: it keeps Shopify's rules for ``changeFromQuantity`` and idempotency keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.audit.append import append_all
from services.core.db import transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.accept import record_work
from services.ledger.work import Done, NewWork, Outcome, Prepared, WorkItem
from services.providers.shopify_admin import Level, SetResult
from services.providers.shopify_answers import StockMoved, ThrottleStatus
from services.shops.secrets import record_secret
from services.storefront.orders import ingest_orders
from services.storefront.products import ingest_products
from services.storefront.push import HOP_WAIT, HOPS, InventoryPush
from services.storefront.stock import ingest_inventory_levels
from tests.storefront.bodies import (
    ITEM,
    LOCATION,
    NOW,
    ORDER,
    add_shop,
    ingest,
    level,
    line,
    order,
    product,
    rows,
)

FIGURES = "select available, shopify_available from inventory_levels"
WAITING = "select key, payload, next_retry_at from work_queue where topic = 'inventory_push' order by id"

BUCKET = ThrottleStatus(2000, 1990, 100)


@dataclass
class ShelfOnPaper:
    """One level of a shop. ``lose`` loses the answer after the change, ``fail`` comes before any."""

    available: int | None = 10
    throttle: ThrottleStatus | None = BUCKET
    fail: WorkError | None = None
    lose: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], object] = lambda: None
    opened: list[tuple[str, str]] = field(default_factory=list)

    def set_available(
        self,
        quantity: int,
        change_from_quantity: int | None,
        inventory_item_id: int,
        location_id: int,
        reference: str,
        idempotency_key: str,
    ) -> SetResult:
        asked = {
            "quantity": quantity,
            "from": change_from_quantity,
            "level": (inventory_item_id, location_id),
            "key": idempotency_key,
        }
        earlier = [one for one in self.asked if one["key"] == idempotency_key]
        assert all(one == asked for one in earlier), "one key must carry one intent"
        self.asked.append(asked)
        self.during()
        if self.fail:
            raise self.fail
        if not earlier:
            if change_from_quantity not in (None, self.available):
                raise StockMoved("moved", throttle=self.throttle)
            self.available = quantity
        if self.lose:
            self.lose = False
            raise OutcomeUnknown("shopify.no_answer", "sent, then silence")
        return SetResult(self.throttle, None)

    def get_available(self, inventory_item_id: int, location_id: int) -> Level:
        if self.available is None:
            raise Refused("shopify.item_not_stocked_at_location", "gone")
        return Level(self.available, None, self.throttle)


@pytest.fixture
def shelf() -> ShelfOnPaper:
    return ShelfOnPaper()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop that sold three of ten mugs, with a token."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", NOW)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))
    return engine


def push_of(shelf: ShelfOnPaper) -> InventoryPush:
    def open_shelf(domain: str, token: str) -> ShelfOnPaper:
        shelf.opened.append((domain, token))
        return shelf

    return InventoryPush(open_shelf, clock=lambda: NOW)


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


def prepare(engine: Engine, push: InventoryPush, item: WorkItem) -> Prepared | Outcome:
    with transaction(engine) as tx:
        return push.prepare(tx, [item], NOW)[0]


def run(engine: Engine, shelf: ShelfOnPaper, item: WorkItem) -> tuple[Outcome, Sequence[NewWork]]:
    """One try: prepare, act, and what was learned written, with the work that follows in the queue."""
    ready = prepare(engine, push_of(shelf), item)
    outcome = ready.act() if isinstance(ready, Prepared) else ready
    if not isinstance(outcome, Done) or outcome.record is None:
        return outcome, ()
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set status = 'done' where id = %(id)s", {"id": item.id})
        recorded = outcome.record(tx)
        record_work(tx, recorded.follow_on, NOW)
        append_all(tx, recorded.audit, NOW)
    return outcome, recorded.follow_on


def verdict(outcome: Outcome) -> str:
    return outcome.verdict if isinstance(outcome, Done) else outcome.code


def test_push_sets_the_present_figure_and_remembers_it(shop: Engine, shelf: ShelfOnPaper) -> None:
    outcome, follow_on = run(shop, shelf, take(shop))

    assert verdict(outcome) == "pushed"
    assert [(a["quantity"], a["from"], a["level"]) for a in shelf.asked] == [(7, 10, (ITEM, LOCATION))]
    assert shelf.opened == [("harbour.myshopify.com", "shpat_0123456789abcdef")]
    assert rows(shop, FIGURES) == [(7, 7)]
    assert follow_on == []
    assert rows(shop, "select provider, maximum, available, restore_per_second from rate_limits") == [
        ("shopify", 2000, 1990, 100)
    ]


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


def test_push_retried_after_a_lost_answer_repeats_its_intent_under_its_key(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    item, shelf.lose = take(shop), True
    ready = prepare(shop, push_of(shelf), item)
    assert isinstance(ready, Prepared)
    assert ready.payload == {"quantity": 7, "change_from_quantity": 10}
    assert verdict(ready.act()) == "shopify.no_answer"
    ingest(shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)]))

    outcome, _ = run(shop, shelf, item._replace(payload=ready.payload, retry_count=1))

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
    ready = prepare(shop, push_of(shelf), item)
    assert isinstance(ready, Prepared)
    assert verdict(ready.act()) == "shopify.no_answer"
    with transaction(shop) as tx:
        tx.exec_driver_sql("update inventory_levels set available = 10")

    outcome, follow_on = run(shop, shelf, item._replace(payload=ready.payload, retry_count=1))

    assert verdict(outcome) == "pushed"
    assert rows(shop, FIGURES) == [(10, 7)]
    assert [new.key for new in follow_on] == [f"{ITEM}:{LOCATION}"]


def test_level_that_changes_during_the_call_has_one_more_push_planned(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    def sell() -> None:
        with transaction(shop) as tx:
            ingest_orders(tx, [order(number=ORDER + 50, lines=[line(ORDER + 51)])], NOW)

    shelf.during = sell
    _, follow_on = run(shop, shelf, take(shop))

    assert rows(shop, FIGURES) == [(6, 7)]
    assert [(new.key, new.payload, new.not_before) for new in follow_on] == [(f"{ITEM}:{LOCATION}", {}, None)]


def test_webhook_that_comes_during_the_call_knows_better_than_the_answer(
    shop: Engine, shelf: ShelfOnPaper
) -> None:
    shelf.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, shelf, take(shop))

    assert rows(shop, FIGURES) == [(4, 4)]


def test_stock_that_moved_to_our_figure_is_in_sync(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available = 7

    outcome, follow_on = run(shop, shelf, take(shop))

    assert verdict(outcome) == "in_sync"
    assert rows(shop, FIGURES) == [(7, 7)]
    assert follow_on == []


def test_stock_that_moved_elsewhere_is_left_to_a_later_push(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.available = 8

    outcome, _ = run(shop, shelf, take(shop))

    assert verdict(outcome) == "superseded"
    assert shelf.available == 8
    assert rows(shop, FIGURES) == [(7, 8)]
    assert rows(shop, WAITING)[1:] == [(f"{ITEM}:{LOCATION}", {"hops": 1}, NOW + HOP_WAIT)]
    assert verdict(run(shop, shelf, take(shop))[0]) == "pushed"
    assert shelf.asked[1]["key"] != shelf.asked[0]["key"]


def test_stock_that_moves_again_and_again_waits_for_a_person(shop: Engine, shelf: ShelfOnPaper) -> None:
    seen = []
    for turn in range(HOPS + 1):
        shelf.available = 20 + turn
        seen.append(verdict(run(shop, shelf, take(shop))[0]))

    assert seen == ["superseded"] * HOPS + ["shopify.stock_contended"]


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

    told = ("inventory_push", "inventory_push", f"Shopify told: {LABEL} is 7 (was 10)")
    assert rows(shop, AUDITED) == [(*told, {"shopify_available": 10}, {"shopify_available": 7})]


def test_push_is_audited_though_a_webhook_knew_better_by_then(shop: Engine, shelf: ShelfOnPaper) -> None:
    shelf.during = lambda: ingest(shop, ingest_inventory_levels, level(4, 50))

    run(shop, shelf, take(shop))

    assert [row[2:] for row in rows(shop, AUDITED)] == [(f"Shopify told: {LABEL} is 7 (was 10)", None, None)]


def test_stock_that_moved_elsewhere_is_audited_as_what_shopify_holds(
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
    with transaction(shop) as tx:
        tx.exec_driver_sql("delete from work_queue")
        tx.exec_driver_sql("update inventory_levels set available = 6")
        record_work(tx, [NewWork(shop_id=1, topic="inventory_push", key=f"{ITEM}:{LOCATION}")], NOW)
    shelf.during = lambda: ingest(shop, ingest_inventory_levels, level(6, 50))
    shelf.available = 6
    run(shop, shelf, take(shop)._replace(payload={"change_from_quantity": 9}))

    assert len(rows(shop, AUDITED)) == 1
