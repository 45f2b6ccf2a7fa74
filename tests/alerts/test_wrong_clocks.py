"""A clock was two hours ahead and was set back: what it recorded for later proves nothing about now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from services.alerts.channel_figures import CHANNEL_FAILED, collect_channel_figures, record_sent
from services.alerts.own_figures import collect_figures
from services.alerts.work_figures import COLLECTORS
from services.ledger.accept import record_work
from services.ledger.health import list_components_down, read_heartbeats
from services.ledger.heartbeats import record_beat
from services.ledger.topics import QUEUES
from services.ledger.work import FLEET, NewWork
from services.mail.formatting import span

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AHEAD = NOW + 2 * HOUR
COUNTS = """
insert into request_counts (minute, shop, provider, route, outcome, status, count)
values (:at, 'harbour', 'stripe', '/webhooks/stripe', 'unavailable', 503, 10),
       (:at, 'harbour', 'stripe', '/webhooks/stripe', 'invalid_signature', 401, 10)
"""
SHOP = "insert into shops (slug, name, timezone, currency) values ('harbour', 'H', 'UTC', 'CAD')"
STATEMENT = "insert into statement_stats values (:at, 'console', 'select 1', 1, 1, '{1}')"
ADD_HEARTBEAT = "insert into heartbeats (name, at, detail) values (:name, :at, '{}')"
DEAD = "update work_queue set status = 'dead', finished_at = :at, error_code = 'slack.address_refused'"


@pytest.mark.parametrize("at, is_counted", [(NOW - MINUTE, True), (NOW + MINUTE, True), (AHEAD, False)])
def test_it_counts_for_no_figure(tx: Connection, at: datetime, is_counted: bool) -> None:
    tx.execute(text(SHOP))
    for statement in (COUNTS, STATEMENT):
        tx.execute(text(statement), {"at": at})

    figures = collect_figures(tx, NOW)

    assert bool(figures["requests_failed"]) is is_counted
    assert bool(figures["signature_failures"]) is is_counted
    assert ("database_slow" in figures) is is_counted  # without a statement nobody knows


def test_samples_of_a_backlog_are_deleted(tx: Connection) -> None:
    collect = COLLECTORS["backlog_growing"]
    collect(tx, AHEAD)
    collect(tx, NOW)

    assert tx.scalar(text("select max(minute) from topic_backlogs")) == NOW


def test_a_worker_that_stops_is_named_in_its_time(tx: Connection) -> None:
    """Beat has sent since the clock was set back, and not since a time of the wrong clock."""
    record_beat(tx, AHEAD, is_refused=False)
    names = ["sweep", *(f"queue:{queue}" for queue in QUEUES)]
    tx.execute(text(ADD_HEARTBEAT), [{"name": name, "at": NOW} for name in names])
    for seconds in range(0, 301, 5):
        record_beat(tx, NOW + timedelta(seconds=seconds), is_refused=False)

    now = NOW + timedelta(seconds=300)
    down = list_components_down(replace(read_heartbeats(tx), broker_latency_ms=0.0), now)
    assert down == ["sweep", *(f"worker:{queue}" for queue in QUEUES)]


def test_a_message_that_was_sent_later_does_not_hide_that_its_channel_fails(tx: Connection) -> None:
    record_work(tx, [NewWork(shop_id=FLEET, topic="alert_send", key="1", payload={"channel": "slack"})], NOW)
    tx.execute(text("update work_queue set origin = 'alert'"))
    tx.execute(text(DEAD), {"at": NOW})
    tx.execute(text("insert into alert_channels (name, sent_at) values ('slack', now() + interval '1 hour')"))

    assert len(collect_channel_figures(tx, NOW, ["slack"])[CHANNEL_FAILED]) == 1
    record_sent(tx, "slack")
    assert collect_channel_figures(tx, NOW, ["slack"])[CHANNEL_FAILED] == []


def test_an_incident_that_ends_before_it_opened_lasted_no_time() -> None:
    assert span(-HOUR) == "0 s"
