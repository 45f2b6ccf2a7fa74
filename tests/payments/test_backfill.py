"""Healing from Stripe's side: a ledger that lost webhooks ends as one that lost none."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.core.settings import get_settings
from services.ledger.accept import NewEvent
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.sync_cursors import find_cursor, upsert_cursor
from services.ledger.topics import TOPICS
from services.payments.backfill import GAP_RULE, backfill_stripe, plan_slices
from services.payments.handler import ingest_transactions
from services.providers.stripe import object_key
from services.shops.secrets import record_secret
from tests.fakes.stripe import StripeApi
from tests.ledger_rows import NOW, accept
from tests.payments.test_any_order import ROWS
from tests.shopify.sample_payloads import add_shop

KEY = "rk_test_" + "a" * 24
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EVENTS = (
    "select topic, delivery_key, origin, duplicate_count from inbound_events order by topic, delivery_key"
)


@pytest.fixture
def api(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    """Stripe, to which the settings point, and a shop that has its key."""
    with StripeApi(KEY) as started:
        started.lists = {
            kind: [] for kind in ("events", "charges", "refunds", "disputes", "payouts", "payment_intents")
        }
        monkeypatch.setenv("STRIPE_API_BASE", started.url)
        get_settings.cache_clear()
        add_shop(engine)
        with transaction(engine) as tx:
            record_secret(tx, 1, "stripe-key", KEY, NOW)
        yield started
    get_settings.cache_clear()


def epoch(at: datetime) -> int:
    return int(at.timestamp())


def charge(number: int, at: datetime, **fields: Any) -> dict[str, Any]:
    usual = {
        "id": f"ch_{number:04d}",
        "object": "charge",
        "amount": 1000 + number,
        "amount_captured": 1000 + number,
        "amount_refunded": 0,
        "captured": True,
        "currency": "cad",
        "status": "succeeded",
        "created": epoch(at),
        "metadata": {"order_id": str(450789469 + number)},
    }
    return usual | fields


def event(name: str, at: datetime, source: dict[str, Any]) -> dict[str, Any]:
    event_id = f"evt_{name}_{source['id']}_{epoch(at)}"
    body = {"id": event_id, "object": "event", "type": name, "created": epoch(at)}
    return body | {"data": {"object": source}}


def day_of_events(count: int = 60) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A day's events, and the charges as Stripe has them after it."""
    rng, events, charges = random.Random(count), [], []
    for number in range(count):
        at = NOW - DAY + timedelta(seconds=rng.randrange(80_000))
        paid = charge(number, at)
        events.append(event("charge.succeeded", at, paid))
        if number % 3 == 0:
            later = at + timedelta(seconds=rng.randrange(3000))
            part = rng.randrange(1, 900)
            paid = charge(number, at, amount_refunded=part)
            refund = {
                "id": f"re_{number}", "object": "refund", "amount": part, "currency": "cad",
                "status": "succeeded", "charge": paid["id"], "created": epoch(later),
            }  # fmt: skip
            events += [event("charge.refunded", later, paid), event("refund.created", later, refund)]
        if number % 5 == 0:
            dispute = {
                "id": f"dp_{number}", "object": "dispute", "amount": 9, "currency": "cad", "status": "lost",
                "charge": paid["id"], "created": epoch(at),
            }  # fmt: skip
            events.append(event("charge.dispute.closed", at + HOUR / 2, dispute))
        charges.append(paid)
    return events, charges


def deliver(engine: Engine, *events: dict[str, Any]) -> None:
    new = [
        NewEvent(
            shop_id=1,
            provider="stripe",
            topic=one["type"],
            delivery_key=one["id"],
            body=orjson.dumps(one),
            received_at=NOW,
            key=object_key(one),
        )
        for one in events
    ]
    accept(engine, *new)


def work(engine: Engine) -> list[tuple[Any, ...]]:
    """Work the queue off; return the transactions."""
    runner = TransactionalRunner(engine, "tests", Random(1))
    while runner.run_batch(TOPICS["transaction_ingest"], ingest_transactions).more:
        pass
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(ROWS)]


def forget(engine: Engine) -> None:
    with transaction(engine) as tx:
        for table in ("work_queue", "inbound_events", "transactions", "sync_cursors"):
            tx.exec_driver_sql(f"delete from {table}")  # noqa: S608 - the names are above


def listed(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(EVENTS)]


def heal(now: datetime = NOW, **asked: Any) -> dict[str, int]:
    return backfill_stripe(1, now, "r", clock=lambda: now, **asked)


def set_marks(engine: Engine, at: datetime) -> None:
    with transaction(engine) as tx:
        for stream in ("events", "charges"):
            upsert_cursor(tx, 1, "stripe", stream, at, at)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_day_that_lost_a_third_of_its_webhooks_ends_as_one_that_lost_none(
    engine: Engine, api: StripeApi, seed: int
) -> None:
    events, charges = day_of_events()
    deliver(engine, *events)
    whole = work(engine)
    forget(engine)
    kept = [one for one in events if random.Random(f"{seed}{one['id']}").random() > 1 / 3]
    deliver(engine, *kept)
    assert work(engine) != whole
    api.lists |= {"events": events, "charges": charges}

    counts = heal()

    assert counts["missing"] == len(events) - len(kept)
    assert work(engine) == whole
    assert {row[2:] for row in listed(engine)} == {("webhook", 0), ("backfill", 0)}


def test_healing_again_enters_nothing_and_counts_no_duplicate(engine: Engine, api: StripeApi) -> None:
    events, charges = day_of_events(20)
    api.lists |= {"events": events, "charges": charges}
    assert heal()["missing"] == len(events)
    before = work(engine), listed(engine)

    assert heal() == {"seen": len([c for c in charges if c["created"] >= epoch(NOW - HOUR)]) + len(
        [e for e in events if e["created"] >= epoch(NOW - HOUR)]), "missing": 0}  # fmt: skip
    assert heal(since=NOW - 2 * DAY) == {"seen": len(events) + len(charges), "missing": 0}
    assert (work(engine), listed(engine)) == before


def test_webhook_that_comes_after_its_pull_is_a_duplicate_and_changes_nothing(
    engine: Engine, api: StripeApi
) -> None:
    events, _ = day_of_events(6)
    api.lists["events"] = events
    heal()
    before = work(engine)
    deliver(engine, *events)

    assert work(engine) == before
    assert {row[2:] for row in listed(engine)} == {("backfill", 1)}


def test_events_that_nobody_planned_for_are_left(engine: Engine, api: StripeApi) -> None:
    api.lists["events"] = [
        event("customer.created", NOW - HOUR, {"id": "cus_1", "object": "customer"}),
        event("charge.succeeded", NOW - HOUR, charge(1, NOW - HOUR)),
    ]

    assert heal() == {"seen": 2, "missing": 1, "charge.succeeded": 1}


def test_charge_that_no_event_tells_of_enters_as_it_is_now(engine: Engine, api: StripeApi) -> None:
    paid = charge(1, NOW - DAY)
    deliver(engine, event("charge.succeeded", NOW - DAY, paid))
    work(engine)
    api.lists["charges"] = [charge(1, NOW - DAY, amount_refunded=400), charge(2, NOW - DAY)]

    assert heal() == {"seen": 2, "missing": 2, "charge.updated": 2}
    assert [(row[0], row[2], row[4]) for row in work(engine)] == [
        ("ch_0001", "paid", 400),
        ("ch_0002", "paid", 0),
    ]
    assert heal(since=NOW - 2 * DAY)["missing"] == 0


def test_state_that_comes_back_enters_again(engine: Engine, api: StripeApi) -> None:
    plain, refunded = charge(1, NOW - DAY), charge(1, NOW - DAY, amount_refunded=400)
    for hours, now in enumerate((plain, refunded, plain), start=1):
        api.lists["charges"] = [now]
        assert heal(NOW + hours * HOUR, since=NOW - 2 * DAY)["missing"] == 1
        assert work(engine)[0][4] == now["amount_refunded"]


def test_charge_whose_work_is_on_its_way_is_left_alone(engine: Engine, api: StripeApi) -> None:
    deliver(engine, event("charge.succeeded", NOW - DAY, charge(1, NOW - DAY)))
    api.lists["charges"] = [charge(1, NOW - DAY)]

    assert heal()["missing"] == 0
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = now(), locked_by = 'somebody'")
    assert heal(since=NOW - 2 * DAY)["missing"] == 0


def test_charge_that_only_an_older_state_waits_for_enters_as_it_is_now(
    engine: Engine, api: StripeApi
) -> None:
    deliver(engine, event("charge.succeeded", NOW - DAY, charge(1, NOW - DAY)))
    api.lists["charges"] = [charge(1, NOW - DAY, amount_refunded=400)]

    assert heal()["missing"] == 1
    assert work(engine)[0][4] == 400


def test_charge_that_an_event_told_of_after_the_question_is_left_alone(
    engine: Engine, api: StripeApi
) -> None:
    newer = charge(1, NOW - DAY, amount_refunded=400)
    deliver(engine, event("charge.refunded", NOW + HOUR, newer))
    before = work(engine)
    api.lists["charges"] = [charge(1, NOW - DAY)]

    assert heal()["missing"] == 0
    assert work(engine) == before


def test_crash_between_pages_loses_nothing_and_enters_nothing_twice(engine: Engine, api: StripeApi) -> None:
    events, charges = day_of_events(300)
    api.lists |= {"events": events, "charges": charges}
    asked: list[str] = []

    def fails_half_way(path: str) -> None:
        asked.append(path)
        if len([one for one in asked if one == "/v1/events"]) == 34:
            api.failures.append((503, {}, {}))

    api.before = fails_half_way
    with pytest.raises(RetryLater):
        heal()
    with transaction(engine) as tx:
        mark = find_cursor(tx, 1, "stripe", "events")
        assert find_cursor(tx, 1, "stripe", "charges") is None
    assert mark is not None
    assert NOW - 30 * DAY < mark < NOW

    api.before = lambda path: None
    heal()
    rows = work(engine)
    assert len(listed(engine)) == len(events)
    assert {row[3] for row in listed(engine)} == {0}
    forget(engine)
    deliver(engine, *events)
    assert work(engine) == rows


def test_pull_begins_an_hour_before_the_mark_and_moves_it_to_now(engine: Engine, api: StripeApi) -> None:
    set_marks(engine, NOW - 3 * HOUR)
    heal()

    assert [asked[1]["created[gte]"] for asked in api.asked] == [str(epoch(NOW - 4 * HOUR))] * 2
    assert [asked[1]["created[lt]"] for asked in api.asked] == [str(epoch(NOW))] * 2
    with transaction(engine) as tx:
        assert {find_cursor(tx, 1, "stripe", stream) for stream in ("events", "charges")} == {NOW}


def test_shop_that_was_never_pulled_is_read_from_thirty_days_ago(engine: Engine, api: StripeApi) -> None:
    heal()

    begins = [asked[1]["created[gte]"] for asked in api.asked if asked[0] == "/v1/events"]
    assert (begins[0], len(begins)) == (str(epoch(NOW - 30 * DAY)), 30)


def test_gap_that_events_no_longer_reach_is_an_incident_and_its_objects_are_compared(
    engine: Engine, api: StripeApi
) -> None:
    lost_at = NOW - 40 * DAY
    set_marks(engine, lost_at - DAY)
    api.lists["charges"] = [charge(1, lost_at)]
    api.lists["refunds"] = [
        {"id": "re_1", "object": "refund", "amount": 5, "currency": "cad", "status": "succeeded",
         "charge": "ch_0001", "created": epoch(lost_at)}
    ]  # fmt: skip
    api.lists["payouts"] = [
        {"id": "po_1", "object": "payout", "amount": -5, "currency": "cad", "status": "paid",
         "arrival_date": epoch(NOW), "created": epoch(lost_at)}
    ]  # fmt: skip

    counts = heal()

    assert {k: n for k, n in counts.items() if k != "seen"} == {
        "missing": 3, "charge.updated": 1, "refund.updated": 1, "payout.updated": 1
    }  # fmt: skip
    assert [row[0] for row in work(engine)] == ["ch_0001", "po_1", "re_1"]
    assert incidents(engine) == [("open", "P2", (lost_at - DAY).date().isoformat())]

    heal(NOW + HOUR)
    assert incidents(engine)[0][0] == "resolved"


def incidents(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        rows = tx.exec_driver_sql(
            "select status, severity, period from incidents where rule = %s", (GAP_RULE,)
        )
        return [tuple(row) for row in rows]


def test_dry_run_writes_nothing_and_counts_what_would_enter(engine: Engine, api: StripeApi) -> None:
    events, charges = day_of_events(9)
    api.lists |= {"events": events, "charges": charges}

    counts = heal(is_dry=True)

    assert counts["missing"] == len(events) + len(charges)
    assert listed(engine) == []
    with transaction(engine) as tx:
        assert find_cursor(tx, 1, "stripe", "events") is None


def test_object_that_cannot_be_read_is_counted_and_stops_nothing(engine: Engine, api: StripeApi) -> None:
    api.lists["charges"] = [charge(1, NOW - DAY, amount="10.01"), charge(2, NOW - DAY)]

    assert heal() == {"seen": 2, "missing": 1, "unreadable": 1, "charge.updated": 1}


def test_shop_without_stripe_is_no_trouble_and_one_with_half_of_it_is(engine: Engine, api: StripeApi) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
    assert heal() == {}

    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-webhook", "whsec_" + "a" * 32, NOW)
    with pytest.raises(Misconfigured, match="fleet shops secret SHOP stripe-key --stdin"):
        heal()


def test_slices_cover_the_window_once() -> None:
    slices = list(plan_slices(NOW, NOW + 2 * DAY + HOUR))

    assert slices == [(NOW, NOW + DAY), (NOW + DAY, NOW + 2 * DAY), (NOW + 2 * DAY, NOW + 2 * DAY + HOUR)]
    assert list(plan_slices(NOW, NOW)) == list(plan_slices(NOW + HOUR, NOW)) == []


def test_what_a_pull_enters_is_rung_for_once_committed(engine: Engine, api: StripeApi) -> None:
    rung: list[int] = []
    api.lists["events"] = day_of_events(3)[0]

    heal(notify=lambda refs: rung.extend(ref.id for ref in refs))

    with transaction(engine) as tx:
        assert sorted(rung) == list(tx.exec_driver_sql("select id from work_queue order by id").scalars())
