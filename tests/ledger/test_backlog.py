"""The backlog counts each row once; the drift is due rows minus messages."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine, Row, text, update

from services.core.db import transaction
from services.ledger.backlog import measure_drift, read_backlog
from services.ledger.tables import work_queue
from services.ledger.topics import QUEUES, TOPICS
from tests.ledger_rows import NOW, plan


def set_rows(engine: Engine, ids: list[int], **values: Any) -> None:
    """Update rows as a worker would leave them."""
    with transaction(engine) as tx:
        tx.execute(update(work_queue).where(work_queue.c.id.in_(ids)).values(**values))


def backlog_of(engine: Engine, topic: str) -> Row[Any]:
    with transaction(engine) as tx:
        return next(row for row in read_backlog(tx, NOW) if row.topic == topic)


def test_every_row_is_counted_once_in_its_state(engine: Engine) -> None:
    ids = plan(engine, "inventory_push", 7)
    later = NOW + timedelta(minutes=5)
    set_rows(engine, [ids[1]], next_retry_at=later)
    set_rows(engine, [ids[2]], locked_at=NOW, locked_by="w")
    set_rows(engine, [ids[3]], status="error", next_retry_at=later)
    for row_id, status in zip(ids[4:], ("dead", "done", "discarded"), strict=True):
        set_rows(engine, [row_id], status=status)

    row = backlog_of(engine, "inventory_push")

    assert (row.waiting, row.due, row.locked, row.error, row.dead) == (2, 1, 1, 1, 1)


def test_age_is_that_of_the_oldest_waiting_row(engine: Engine) -> None:
    first, _ = plan(engine, "inventory_push", 2)
    set_rows(engine, [first], created_at=NOW - timedelta(minutes=10))

    assert backlog_of(engine, "inventory_push").oldest_waiting_seconds == 600


def test_empty_ledger_lists_every_topic_with_zeros(engine: Engine) -> None:
    with transaction(engine) as tx:
        rows = read_backlog(tx, NOW)

    assert {row.topic for row in rows} == set(TOPICS)
    assert {tuple(row[2:]) for row in rows} == {(0, 0, 0, 0, 0, None)}
    assert [QUEUES.index(row.queue) for row in rows] == sorted(QUEUES.index(row.queue) for row in rows)


def test_topic_that_this_version_does_not_know_is_still_shown(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.execute(text("insert into work_queue (shop_id, queue, topic) values (1, 'old', 'gone')"))
        rows = read_backlog(tx, NOW)

    assert (rows[-1].queue, rows[-1].topic, rows[-1].waiting) == ("old", "gone", 1)
    assert measure_drift(rows, {})[-1].queue == "old"


def test_drift_is_due_rows_less_messages() -> None:
    rows: list[Any] = [
        SimpleNamespace(queue="webhooks", due=5),
        SimpleNamespace(queue="webhooks", due=1),
    ]

    drifts = {drift.queue: drift for drift in measure_drift(rows, {"webhooks": 2, "email": 3})}

    assert {queue: drifts[queue].drift for queue in ("webhooks", "email", "ops")} == {
        "webhooks": 4,
        "email": -3,
        "ops": 0,
    }


def test_drift_is_unknown_while_the_broker_is_away() -> None:
    assert {drift.drift for drift in measure_drift([], None)} == {None}


def test_backlog_reads_the_partial_indexes_and_never_the_done_rows(engine: Engine) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into work_queue (shop_id, queue, topic, status) "
                "select 1, 'webhooks', 'order_ingest', 'done' from generate_series(1, 20000)"
            )
        )
    plan(engine, "order_ingest", 3)
    with transaction(engine) as tx:
        from services.ledger.backlog import _BACKLOG, _topic_values

        tx.execute(text("set local enable_seqscan = off"))
        plan_lines = tx.exec_driver_sql("explain " + _BACKLOG, _topic_values(NOW)).scalars().all()

    assert not [line for line in plan_lines if "Seq Scan on work_queue" in line]
