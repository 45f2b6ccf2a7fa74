"""Helpers: rows that are made old, and the job as the ledger runs it."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, text

from services.audit.append import append_all
from services.audit.store import ObjectStore
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.event_archive import ArchivedEvent, SealedEvent
from services.ledger.filters import EventFilter
from services.ledger.replay_archived import read_archived
from services.providers.object_store import open_store
from services.retention.events import ArchiveRun, archive_old_events
from services.retention.job import delete_old

AGE = timedelta(days=100)


def make_old(engine: Engine, condition: str = "true", age: timedelta = AGE) -> None:
    """Set the times of events (those of ``condition``), and of their work, ``age`` back from now."""
    with transaction(engine) as tx:
        values = {"at": utc_now() - age}
        ids = list(tx.scalars(text(f"select id from inbound_events where {condition}")))  # noqa: S608
        tx.execute(
            text("update inbound_events set received_at = :at where id = any(:ids)"), values | {"ids": ids}
        )
        tx.execute(
            text(
                "update work_queue set created_at = :at, finished_at = case when finished_at is not null "
                "then cast(:at as timestamptz) end where event_id = any(:ids)"
            ),
            values | {"ids": ids},
        )


def run_job(engine: Engine) -> dict[str, Any]:
    """Run the job as its handler does; return its stats."""
    run = JobRun(
        id=1, job="retention", shop_id=None, period="2026-11-20", covers=Covers.DAY, zone=ZoneInfo("UTC"),
        request_id="r-1", work_id=1,
    )  # fmt: skip
    finished = delete_old(run)
    if finished.record:
        with transaction(engine) as tx:
            append_all(tx, finished.record(tx).audit, utc_now())
    return dict(finished.stats)


def archive_with(store: ObjectStore, age: timedelta = timedelta(days=90)) -> ArchiveRun:
    """Archive the old events in ``store``; return what was done."""
    run = ArchiveRun(
        begin=transaction, store=store, now=utc_now(), retain_until=None, by="job retention", request_id="r-1"
    )
    archive_old_events(run, utc_now() - age, lambda: False)
    return run


def read_all(engine: Engine, **wanted: Any) -> tuple[dict[int, ArchivedEvent], dict[int, SealedEvent]]:
    """Return all archived events by id: those that can be read, and the others."""
    store = open_store(get_settings().archive_url)
    matches = [*read_archived(transaction, store, EventFilter(**wanted))]
    events = [event for match in matches for event in match.events]
    sealed = [event for match in matches for event in match.sealed]
    assert len({event.id for event in events + sealed}) == len(events) + len(sealed), "an event is twice"
    return {event.id: event for event in events}, {event.id: event for event in sealed}


def select_all(engine: Engine, statement: str) -> list[Any]:
    """Return the rows of ``statement``, single columns as values."""
    with transaction(engine) as tx:
        rows = tx.execute(text(statement)).all()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]
