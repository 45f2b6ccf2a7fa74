"""The window of a Stripe backfill: its cursor, slices, gaps and crashes."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import RetryLater
from services.ledger.sync_cursors import find_cursor
from services.payments.backfill import GAP_RULE, plan_slices
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
    listed,
    run_backfill,
    set_marks,
    stripe_with_shop,
    work,
)


@pytest.fixture
def api(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    with stripe_with_shop(engine, monkeypatch) as started:
        yield started


def test_crash_between_pages_loses_nothing_and_enters_nothing_twice(engine: Engine, api: StripeApi) -> None:
    events, charges = day_of_events(300)
    api.lists |= {"events": events, "charges": charges}
    requests: list[str] = []

    def fails_half_way(path: str) -> None:
        requests.append(path)
        if len([one for one in requests if one == "/v1/events"]) == 34:
            api.failures.append((503, {}, {}))

    api.before = fails_half_way
    with pytest.raises(RetryLater):
        run_backfill()
    with transaction(engine) as tx:
        mark = find_cursor(tx, 1, "stripe", "events")
        assert find_cursor(tx, 1, "stripe", "charges") is None
    assert mark is not None
    assert NOW - 30 * DAY < mark < NOW

    api.before = lambda path: None
    run_backfill()
    rows = work(engine)
    assert len(listed(engine)) == len(events)
    assert {row[3] for row in listed(engine)} == {0}
    clear_tables(engine)
    deliver(engine, *events)
    assert work(engine) == rows


def test_backfill_begins_an_hour_before_the_cursor_and_moves_it_to_now(
    engine: Engine, api: StripeApi
) -> None:
    set_marks(engine, NOW - 3 * HOUR)
    run_backfill()

    assert [request[1]["created[gte]"] for request in api.requests] == [str(epoch(NOW - 4 * HOUR))] * 2
    assert [request[1]["created[lt]"] for request in api.requests] == [str(epoch(NOW))] * 2
    with transaction(engine) as tx:
        assert {find_cursor(tx, 1, "stripe", stream) for stream in ("events", "charges")} == {NOW}


def test_shop_that_was_never_pulled_is_read_from_thirty_days_ago(engine: Engine, api: StripeApi) -> None:
    run_backfill()

    begins = [request[1]["created[gte]"] for request in api.requests if request[0] == "/v1/events"]
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

    counts = run_backfill()

    assert {k: n for k, n in counts.items() if k != "seen"} == {
        "missing": 3, "charge.updated": 1, "refund.updated": 1, "payout.updated": 1
    }  # fmt: skip
    assert [row[0] for row in work(engine)] == ["ch_0001", "po_1", "re_1"]
    assert incidents(engine) == [("open", "P2", (lost_at - DAY).date().isoformat())]

    run_backfill(NOW + HOUR)
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

    counts = run_backfill(is_dry=True)

    assert counts["missing"] == len(events) + len(charges)
    assert listed(engine) == []
    with transaction(engine) as tx:
        assert find_cursor(tx, 1, "stripe", "events") is None


def test_slices_cover_the_window_once() -> None:
    slices = list(plan_slices(NOW, NOW + 2 * DAY + HOUR))

    assert slices == [(NOW, NOW + DAY), (NOW + DAY, NOW + 2 * DAY), (NOW + 2 * DAY, NOW + 2 * DAY + HOUR)]
    assert list(plan_slices(NOW, NOW)) == list(plan_slices(NOW + HOUR, NOW)) == []
