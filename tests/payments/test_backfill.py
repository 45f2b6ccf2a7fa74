"""A Stripe backfill records missed events once."""

import random
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Misconfigured
from services.shops.secrets import record_secret
from tests.fakes.stripe import StripeApi
from tests.ledger_rows import NOW
from tests.payments.stripe_backfill import (
    DAY,
    HOUR,
    charge,
    clear_tables,
    day_of_events,
    deliver,
    epoch,
    event,
    listed,
    run_backfill,
    stripe_with_shop,
    work,
)


@pytest.fixture
def api(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    with stripe_with_shop(engine, monkeypatch) as started:
        yield started


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_day_that_lost_a_third_of_its_webhooks_ends_as_one_that_lost_none(
    engine: Engine, api: StripeApi, seed: int
) -> None:
    events, charges = day_of_events()
    deliver(engine, *events)
    whole = work(engine)
    clear_tables(engine)
    kept = [one for one in events if random.Random(f"{seed}{one['id']}").random() > 1 / 3]
    deliver(engine, *kept)
    assert work(engine) != whole
    api.lists |= {"events": events, "charges": charges}

    counts = run_backfill()

    assert counts["missing"] == len(events) - len(kept)
    assert work(engine) == whole
    assert {row[2:] for row in listed(engine)} == {("webhook", 0), ("backfill", 0)}


def test_second_backfill_records_nothing_and_counts_no_duplicate(engine: Engine, api: StripeApi) -> None:
    events, charges = day_of_events(20)
    api.lists |= {"events": events, "charges": charges}
    assert run_backfill()["missing"] == len(events)
    before = work(engine), listed(engine)

    assert run_backfill() == {"seen": len([c for c in charges if c["created"] >= epoch(NOW - HOUR)]) + len(
        [e for e in events if e["created"] >= epoch(NOW - HOUR)]), "missing": 0}  # fmt: skip
    assert run_backfill(since=NOW - 2 * DAY) == {"seen": len(events) + len(charges), "missing": 0}
    assert (work(engine), listed(engine)) == before


def test_webhook_received_after_its_backfill_is_a_duplicate_and_changes_nothing(
    engine: Engine, api: StripeApi
) -> None:
    events, _ = day_of_events(6)
    api.lists["events"] = events
    run_backfill()
    before = work(engine)
    deliver(engine, *events)

    assert work(engine) == before
    assert {row[2:] for row in listed(engine)} == {("backfill", 1)}


def test_events_without_a_plan_are_ignored(engine: Engine, api: StripeApi) -> None:
    api.lists["events"] = [
        event("customer.created", NOW - HOUR, {"id": "cus_1", "object": "customer"}),
        event("charge.succeeded", NOW - HOUR, charge(1, NOW - HOUR)),
    ]

    assert run_backfill() == {"seen": 2, "missing": 1, "charge.succeeded": 1}


def test_charge_without_an_event_is_recorded_in_its_current_state(engine: Engine, api: StripeApi) -> None:
    paid = charge(1, NOW - DAY)
    deliver(engine, event("charge.succeeded", NOW - DAY, paid))
    work(engine)
    api.lists["charges"] = [charge(1, NOW - DAY, amount_refunded=400), charge(2, NOW - DAY)]

    assert run_backfill() == {"seen": 2, "missing": 2, "charge.updated": 2}
    assert [(row[0], row[2], row[4]) for row in work(engine)] == [
        ("ch_0001", "paid", 400),
        ("ch_0002", "paid", 0),
    ]
    assert run_backfill(since=NOW - 2 * DAY)["missing"] == 0


def test_state_that_returns_is_recorded_again(engine: Engine, api: StripeApi) -> None:
    plain, refunded = charge(1, NOW - DAY), charge(1, NOW - DAY, amount_refunded=400)
    for hours, now in enumerate((plain, refunded, plain), start=1):
        api.lists["charges"] = [now]
        assert run_backfill(NOW + hours * HOUR, since=NOW - 2 * DAY)["missing"] == 1
        assert work(engine)[0][4] == now["amount_refunded"]


def test_charge_with_waiting_work_is_left_alone(engine: Engine, api: StripeApi) -> None:
    deliver(engine, event("charge.succeeded", NOW - DAY, charge(1, NOW - DAY)))
    api.lists["charges"] = [charge(1, NOW - DAY)]

    assert run_backfill()["missing"] == 0
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set locked_at = now(), locked_by = 'somebody'")
    assert run_backfill(since=NOW - 2 * DAY)["missing"] == 0


def test_charge_with_only_older_waiting_work_is_recorded_in_its_current_state(
    engine: Engine, api: StripeApi
) -> None:
    deliver(engine, event("charge.succeeded", NOW - DAY, charge(1, NOW - DAY)))
    api.lists["charges"] = [charge(1, NOW - DAY, amount_refunded=400)]

    assert run_backfill()["missing"] == 1
    assert work(engine)[0][4] == 400


def test_charge_with_an_event_after_the_request_is_left_alone(engine: Engine, api: StripeApi) -> None:
    newer = charge(1, NOW - DAY, amount_refunded=400)
    deliver(engine, event("charge.refunded", NOW + HOUR, newer))
    before = work(engine)
    api.lists["charges"] = [charge(1, NOW - DAY)]

    assert run_backfill()["missing"] == 0
    assert work(engine) == before


def test_object_that_cannot_be_read_is_counted_and_stops_nothing(engine: Engine, api: StripeApi) -> None:
    api.lists["charges"] = [charge(1, NOW - DAY, amount="10.01"), charge(2, NOW - DAY)]

    assert run_backfill() == {"seen": 2, "missing": 1, "unreadable": 1, "charge.updated": 1}


def test_shop_without_stripe_is_skipped_and_an_incomplete_one_is_an_error(
    engine: Engine, api: StripeApi
) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
    assert run_backfill() == {}

    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-webhook", "whsec_" + "a" * 32, NOW)
    with pytest.raises(Misconfigured, match="fleet shops secret harbour stripe-key --stdin"):
        run_backfill()


def test_message_for_recorded_events_is_sent_after_the_commit(engine: Engine, api: StripeApi) -> None:
    notified: list[int] = []
    api.lists["events"] = day_of_events(3)[0]

    run_backfill(notify=lambda refs: notified.extend(ref.id for ref in refs))

    with transaction(engine) as tx:
        assert sorted(notified) == list(tx.exec_driver_sql("select id from work_queue order by id").scalars())
