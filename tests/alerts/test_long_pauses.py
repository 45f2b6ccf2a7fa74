"""A pause that stays in force too long is an incident, and its end resolves it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from services.alerts.channel_figures import CHANNEL_FAILED, collect_channel_figures
from services.alerts.work_rules import LIMIT, record_long_pauses
from services.core.db import transaction
from services.ledger.pause import PauseScope, clear_pauses, end_pauses, record_pause
from tests.alerts.slack import MINUTE, NOW, failure, fire, notify
from tests.fakes.web import Web

BEGAN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LONG_AFTER = BEGAN + LIMIT + timedelta(seconds=1)
SCOPE = PauseScope(topic="inventory_push", shop_id=7)


def incidents(tx: Connection) -> list[tuple[Any, ...]]:
    rows = tx.execute(text("select shop_id, rule, period, severity, status from incidents order by id"))
    return [tuple(row) for row in rows]


INCIDENT = (7, "pause_long:inventory_push", "2026-11-20T12:00:00Z", "P2")


def test_pause_past_the_limit_is_one_incident_with_person_and_reason(tx: Connection) -> None:
    record_pause(tx, SCOPE, "hold", now=BEGAN, by="ada", reason="counting stock")

    assert record_long_pauses(tx, BEGAN + LIMIT) == 0
    assert record_long_pauses(tx, LONG_AFTER) == 1
    assert record_long_pauses(tx, LONG_AFTER + timedelta(minutes=1)) == 0

    assert incidents(tx) == [(*INCIDENT, "open")]
    summary = tx.scalar(text("select summary from incidents"))
    assert "by ada and has no end: counting stock" in str(summary)
    assert "celery -A tasks resume" in str(summary)


@pytest.mark.parametrize("rate", [None, 5.0])
def test_end_of_the_pause_resolves_the_incident_and_a_later_pause_opens_another(
    tx: Connection, rate: float | None
) -> None:
    record_pause(tx, SCOPE, "refuse", now=BEGAN, by="ada")
    record_long_pauses(tx, LONG_AFTER)

    clear_pauses(tx, [SCOPE], rate, now=LONG_AFTER, by="ada")
    assert record_long_pauses(tx, LONG_AFTER) == 1
    assert incidents(tx) == [(*INCIDENT, "resolved")]

    record_pause(tx, SCOPE, "hold", now=LONG_AFTER, by="ada")
    record_long_pauses(tx, LONG_AFTER + LIMIT + timedelta(seconds=1))
    assert [row[4] for row in incidents(tx)] == ["resolved", "open"]


def test_pause_with_an_end_opens_no_incident(tx: Connection) -> None:
    ends_at = LONG_AFTER + timedelta(hours=1)
    record_pause(tx, PauseScope(), "hold", now=BEGAN, by="ada", ends_at=ends_at)
    assert record_long_pauses(tx, LONG_AFTER) == 0

    end_pauses(tx, ends_at)
    assert record_long_pauses(tx, ends_at) == 0
    assert incidents(tx) == []


def test_each_scope_has_an_incident_of_its_own(tx: Connection) -> None:
    scopes = [
        PauseScope(),
        PauseScope(queue="inventory"),
        PauseScope(topic="inventory_push"),
        PauseScope(queue="inventory", topic="inventory_push"),
    ]
    for scope in scopes:
        record_pause(tx, scope, "hold", now=BEGAN, by="ada")

    assert record_long_pauses(tx, LONG_AFTER) == 4
    assert {row[1] for row in incidents(tx)} == {
        "pause_long:everything",
        "pause_long:inventory",
        "pause_long:inventory_push",
        "pause_long:inventory/inventory_push",
    }


def test_other_incidents_stay_as_they_are(tx: Connection) -> None:
    tx.execute(
        text(
            "insert into incidents (rule, period, severity, summary, opened_at, updated_at) "
            "values ('pause_longish', 'x', 'P2', 's', now(), now())"
        )
    )
    assert record_long_pauses(tx, LONG_AFTER) == 0


def test_drift_task_records_the_incident(engine: Any, broker_url: str) -> None:
    from tasks.ops import drift

    with engine.begin() as tx:
        record_pause(tx, SCOPE, "hold", now=datetime.now(UTC) - LIMIT - timedelta(minutes=1), by="ada")

    drift()

    with engine.connect() as tx:
        assert [row[1] for row in incidents(tx)] == ["pause_long:inventory_push"]


def test_a_pause_that_holds_the_alerts_for_15_minutes_is_a_channel_that_fails(
    engine: Engine, web: Web
) -> None:
    """Nobody reads of a P1 while everything is paused."""
    with transaction(engine) as tx:
        record_pause(tx, PauseScope(), "hold", now=NOW, by="ada", request_id="r", reason="maintenance")
    fire(engine, failure(severity="P1"), now=NOW)
    assert notify(engine, web, NOW) == []

    for minutes, codes in ((14, []), (15, ["alert.not_sent"])):
        with transaction(engine) as tx:
            found = collect_channel_figures(tx, NOW + minutes * MINUTE, ["slack"])[CHANNEL_FAILED]
        assert [one.detail["code"] for one in found] == codes
