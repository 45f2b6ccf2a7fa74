"""Reading the ledger for people: lists with limits, and one row with all there is to know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from services.core.errors import ShopfleetError
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.tables import inbound_events, work_queue


class RowUnknown(ShopfleetError):
    """There is no such row in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """An event as a list shows it. ``work`` counts its work by status, as ``{"done": 1}``."""

    id: int
    shop_id: int
    provider: str
    topic: str
    delivery_key: str
    received_at: datetime
    occurred_at: datetime | None
    duplicate_count: int
    origin: str
    replay_of: int | None
    request_id: str
    body_bytes: int
    work: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLine:
    """A row of ``work_queue``, whole."""

    id: int
    shop_id: int
    queue: str
    topic: str
    key: str
    payload: dict[str, Any]
    status: str
    retry_count: int
    next_retry_at: datetime | None
    locked_at: datetime | None
    locked_by: str | None
    lease_until: datetime | None
    last_error: str | None
    error_code: str | None
    result: str | None
    event_id: int | None
    origin: str
    request_id: str
    created_at: datetime
    dispatched_at: datetime | None
    dispatch_count: int
    finished_at: datetime | None
    died_at: datetime | None


def find_events(tx: Connection, wanted: EventFilter, *, limit: int) -> list[EventLine]:
    """Return the newest ``limit`` events that match, newest first, without their bodies."""
    newest = _event_lines().where(wanted.where()).order_by(inbound_events.c.id.desc()).limit(limit)
    rows = tx.execute(newest).mappings().all()
    work = _count_work(tx, [row["id"] for row in rows])
    return [EventLine(**row, work=work.get(row["id"], {})) for row in rows]


def get_event(tx: Connection, event_id: int) -> tuple[EventLine, dict[str, str], bytes, list[WorkLine]]:
    """Return an event, its headers, its body as it came, and its work; raise ``RowUnknown``."""
    found = find_events(tx, EventFilter(ids=(event_id,)), limit=1)
    if not found:
        raise RowUnknown(f"there is no event {event_id}: `fleet events list` shows the newest")
    is_this = inbound_events.c.id == event_id
    row = tx.execute(select(inbound_events.c.headers, inbound_events.c.body).where(is_this)).one()
    of_event = select(work_queue).where(work_queue.c.event_id == event_id).order_by(work_queue.c.id)
    work = [WorkLine(**line) for line in tx.execute(of_event).mappings()]
    return found[0], dict(row.headers), bytes(row.body), work


def find_work(tx: Connection, wanted: WorkFilter, *, limit: int) -> list[WorkLine]:
    """Return the newest ``limit`` rows of work that match, newest first."""
    newest = select(work_queue).where(wanted.where()).order_by(work_queue.c.id.desc()).limit(limit)
    return [WorkLine(**row) for row in tx.execute(newest).mappings()]


def count_work(tx: Connection, *wanted: WorkFilter) -> int:
    """Return how many rows of work match any of ``wanted``; a row that matches several counts once."""
    matches = or_(*(each.where() for each in wanted))
    return tx.scalar(select(func.count()).select_from(work_queue).where(matches)) or 0


def get_work(tx: Connection, work_id: int) -> WorkLine:
    """Return one row of work; raise ``RowUnknown``."""
    found = find_work(tx, WorkFilter(ids=(work_id,)), limit=1)
    if not found:
        raise RowUnknown(f"there is no work {work_id}: `fleet work list` shows the newest")
    return found[0]


def _event_lines() -> Select[Any]:
    shown = [column for column in inbound_events.c if column.name not in ("headers", "body")]
    return select(*shown, func.octet_length(inbound_events.c.body).label("body_bytes"))


def _count_work(tx: Connection, event_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    counted: dict[int, dict[str, int]] = {}
    by_status = (
        select(work_queue.c.event_id, work_queue.c.status, func.count().label("count"))
        .where(work_queue.c.event_id.in_(event_ids))
        .group_by(work_queue.c.event_id, work_queue.c.status)
        .order_by(work_queue.c.status)
    )
    for row in tx.execute(by_status):
        counted.setdefault(row.event_id, {})[row.status] = row._mapping["count"]
    return counted
