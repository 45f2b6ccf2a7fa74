"""Health figures from a real database; only the clock is a double."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from services.ledger import backlog
from services.ledger.health import Health, QueueHealth, list_components_down, read_heartbeats
from services.ledger.heartbeats import record_beat
from services.ledger.topics import QUEUES
from tests.health.fleet_rows import add_drift, add_heartbeats, add_settled, add_work

NOW = datetime(2026, 11, 21, 9, 0, 30, tzinfo=UTC)


def read_health(tx: Connection, now: datetime) -> Health:
    return replace(read_heartbeats(tx), topics=backlog.list_topic_figures(tx, now))


def read_queue(tx: Connection, name: str) -> QueueHealth:
    return next(queue for queue in read_health(tx, NOW).queues if queue.queue == name)


def test_every_queue_is_listed_even_when_nothing_ever_ran(tx: Connection) -> None:
    health = read_health(tx, NOW)

    assert tuple(queue.queue for queue in health.queues) == QUEUES
    assert {(queue.depth, queue.dead, queue.error_rate) for queue in health.queues} == {(0, 0, None)}
    assert health.database_latency_ms is not None


def test_queue_counts_waiting_locked_dead_and_final_items_separately(tx: Connection) -> None:
    add_work(tx, "order_ingest", count=3)
    add_work(tx, "refund_ingest", count=2, status="error", next_retry_at=NOW + timedelta(hours=1))
    add_work(tx, "order_ingest", count=4, locked_at=NOW, locked_by="w1")
    add_work(tx, "order_ingest", count=5, status="dead")
    add_work(tx, "order_ingest", count=6, status="done")
    add_work(tx, "order_ingest", count=7, status="discarded")
    add_work(tx, "inventory_push", count=8)

    webhooks = read_queue(tx, "webhooks")

    assert (webhooks.depth, webhooks.locked, webhooks.dead) == (5, 4, 5)
    assert read_queue(tx, "inventory").depth == 8


def test_the_oldest_is_the_one_that_has_been_ready_longest(tx: Connection) -> None:
    add_work(tx, "order_ingest", created_at=NOW - timedelta(minutes=2))
    add_work(
        tx,
        "order_ingest",
        status="error",
        created_at=NOW - timedelta(hours=9),
        next_retry_at=NOW - timedelta(minutes=7),
    )
    add_work(
        tx,
        "order_ingest",
        status="error",
        created_at=NOW - timedelta(hours=10),
        next_retry_at=NOW + timedelta(minutes=7),
    )

    assert read_queue(tx, "webhooks").due_since == NOW - timedelta(minutes=7)


def test_rates_cover_the_last_five_minutes_and_the_one_that_runs(tx: Connection) -> None:
    minute = NOW.replace(second=0)
    add_settled(tx, "order_ingest", minute, done=44)
    add_settled(tx, "refund_ingest", minute - timedelta(minutes=5), done=0, retried=8, dead=3)
    add_settled(tx, "order_ingest", minute - timedelta(minutes=6), done=1000)

    webhooks = read_queue(tx, "webhooks")

    assert webhooks.items_per_minute == pytest.approx(10.0)  # 55 tries in five and a half minutes
    assert webhooks.error_rate == pytest.approx(0.2)
    assert webhooks.last_processed_at == minute


def test_idle_queue_has_the_time_of_its_last_item(tx: Connection) -> None:
    add_settled(tx, "reconcile", NOW - timedelta(hours=8), done=1)

    reconciliation = read_queue(tx, "reconciliation")

    assert reconciliation.last_processed_at == NOW - timedelta(hours=8)
    assert (reconciliation.items_per_minute, reconciliation.error_rate) == (0.0, None)


def test_work_of_an_unknown_topic_is_counted_under_its_name(tx: Connection) -> None:
    add_work(tx, "order_ingest", count=1)
    tx.execute(text("update work_queue set topic = 'retired_topic', queue = 'sync'"))

    assert read_queue(tx, "sync").depth == 1


@pytest.mark.parametrize(
    ("lease", "missing"), [(timedelta(seconds=5), []), (timedelta(seconds=-5), ["worker:reconciliation"])]
)
def test_a_worker_too_busy_for_a_canary_lives_as_long_as_it_renews_its_lease(
    tx: Connection, lease: timedelta, missing: list[str]
) -> None:
    add_heartbeats(tx, NOW, but="queue:reconciliation")
    add_work(tx, "reconcile", locked_at=NOW - timedelta(minutes=8), lease_until=NOW + lease)

    health = replace(read_health(tx, NOW), broker_latency_ms=0.2)

    assert list_components_down(health, NOW) == missing


@pytest.mark.parametrize("stopped", ["beat", "sweep", "queue:email"])
def test_component_without_a_heartbeat_is_missing(tx: Connection, stopped: str) -> None:
    add_heartbeats(tx, NOW, but=stopped)

    health = replace(read_health(tx, NOW), broker_latency_ms=0.2)

    assert list_components_down(health, NOW) == [stopped.replace("queue:", "worker:")]


def test_the_last_measured_drift_is_part_of_the_reading(tx: Connection) -> None:
    add_drift(tx, NOW, {"webhooks": 3})

    assert read_health(tx, NOW).drift == {"webhooks": 3}


def test_backlog_too_long_to_count_does_not_change_the_status(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, NOW)
        add_work(tx, "order_ingest", count=10)
    monkeypatch.setattr(backlog, "FIGURES_TIMEOUT_MS", 50)

    with engine.connect() as blocker, engine.begin() as tx:
        blocker.execute(text("lock table work_queue in access exclusive mode"))
        health = read_health(tx, NOW)
        blocker.rollback()

    assert health.queues == []
    assert list_components_down(health, NOW) == ["broker"]


def test_counting_reads_the_open_rows_and_not_the_final_ones(engine: Engine, owner_engine: Engine) -> None:
    with owner_engine.begin() as tx:  # only a table's owner may analyze it
        add_work(tx, "order_ingest", count=5000, status="done")
        add_work(tx, "order_ingest", count=20)
        tx.execute(text("analyze work_queue"))
        explain = f"explain {backlog._BACKLOG}"
        plan = tx.exec_driver_sql(explain, backlog._topic_values(NOW)).scalars().all()

    assert not [line for line in plan if "Seq Scan" in line], "\n".join(plan)


def test_beat_sends_since_its_last_gap_and_a_refused_message_leaves_its_heartbeat(tx: Connection) -> None:
    def at(seconds: int) -> datetime:
        return NOW + timedelta(seconds=seconds)

    for seconds in (0, 5, 35):
        record_beat(tx, at(seconds), is_refused=False)
    record_beat(tx, at(40), is_refused=True)
    refused = read_health(tx, at(40))
    record_beat(tx, at(45), is_refused=False)
    resumed = read_health(tx, at(45))
    record_beat(tx, at(76), is_refused=False)
    restarted = read_health(tx, at(76))

    seen = [(h.heartbeats["beat"], h.sending_since, h.refused_at) for h in (refused, resumed, restarted)]
    assert seen == [(at(35), at(0), at(40)), (at(45), at(0), None), (at(76), at(76), None)]


def test_a_refused_message_of_a_beat_that_never_sent_is_no_heartbeat(tx: Connection) -> None:
    record_beat(tx, NOW, is_refused=True)

    assert read_health(tx, NOW).heartbeats == {}
