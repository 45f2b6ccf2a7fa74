"""A Stripe backfill enters what webhooks did not bring, once."""

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
    day_of_events,
    deliver,
    epoch,
    event,
    forget,
    heal,
    listed,
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


def test_what_a_pull_enters_is_rung_for_once_committed(engine: Engine, api: StripeApi) -> None:
    rung: list[int] = []
    api.lists["events"] = day_of_events(3)[0]

    heal(notify=lambda refs: rung.extend(ref.id for ref in refs))

    with transaction(engine) as tx:
        assert sorted(rung) == list(tx.exec_driver_sql("select id from work_queue order by id").scalars())
