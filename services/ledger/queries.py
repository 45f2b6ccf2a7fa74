"""Reads rows of the ledger for commands and pages: lists with limits, and single rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, false, func, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid
from services.ledger.filters import EventFilter, WorkFilter
from services.ledger.pause import PauseScope
from services.ledger.tables import UNLOCKED, inbound_events, work_queue
from services.ledger.topics import TOPICS

EventLine = Row[Any]
"""A row of ``inbound_events`` without headers and body.

Also ``body_bytes`` (the body's size) and ``work`` (its work by status, such as ``{"done": 1}``).
"""
WorkLine = Row[Any]
"""A row of ``work_queue``."""


_WORK = literal_column(
    "(select coalesce(jsonb_object_agg(status, items), '{}') from (select status, count(*) as items"
    " from work_queue where event_id = inbound_events.id group by status) by_status)",
    JSONB,
)


class RowUnknown(InputInvalid):
    """The ledger has no row with this id."""


def list_events(tx: Connection, wanted: EventFilter, *, limit: int) -> Page[EventLine]:
    """Return up to ``limit`` events that match, newest first."""
    return fetch_page(tx, _select_events(wanted), limit)


def _select_events(wanted: EventFilter) -> Select[Any]:
    shown = [column for column in inbound_events.c if column.name not in ("headers", "body")]
    size = func.octet_length(inbound_events.c.body).label("body_bytes")
    found = select(*shown, size, _WORK.label("work")).where(wanted.where())
    return found.order_by(inbound_events.c.id.desc())


def get_event(tx: Connection, event_id: int) -> tuple[EventLine, dict[str, str], bytes, list[WorkLine]]:
    """Return an event, its headers, its body as received, and its work; raise ``RowUnknown``."""
    found = tx.execute(_select_events(EventFilter(ids=(event_id,)))).first()
    if found is None:
        raise RowUnknown(f"there is no event {event_id}: `fleet events list` shows the newest")
    is_this = inbound_events.c.id == event_id
    row = tx.execute(select(inbound_events.c.headers, inbound_events.c.body).where(is_this)).one()
    of_event = select(work_queue).where(work_queue.c.event_id == event_id).order_by(work_queue.c.id)
    return found, dict(row.headers), bytes(row.body), [*tx.execute(of_event)]


def describe_origin(event: EventLine) -> str:
    """Return where an event is from, such as ``webhook`` or ``edit of 1042``."""
    return f"{event.origin} of {event.replay_of}" if event.replay_of else str(event.origin)


def list_work(tx: Connection, wanted: WorkFilter, *, limit: int) -> Page[WorkLine]:
    """Return up to ``limit`` rows of work that match, newest first."""
    return fetch_page(tx, select(work_queue).where(wanted.where()).order_by(work_queue.c.id.desc()), limit)


def count_work(tx: Connection, *wanted: WorkFilter) -> int:
    """Return how many rows of work match any of ``wanted``; a row that matches several counts once."""
    matches = or_(*(each.where() for each in wanted))
    return tx.scalar(select(func.count()).select_from(work_queue).where(matches)) or 0


def count_waiting(tx: Connection, scopes: Sequence[PauseScope], limit: int | None = None) -> int:
    """Return how much unlocked work is in any of ``scopes``, counted up to ``limit``.

    It is read by the index of unlocked work, by topic: work of topics of other versions is not counted.
    """
    column = work_queue.c
    of_scopes = [
        and_(
            column.topic.in_([name for name, topic in TOPICS.items() if scope.holds(topic)]),
            true() if scope.shop_id is None else column.shop_id == scope.shop_id,
        )
        for scope in scopes
    ]
    found = select(column.id).where(UNLOCKED, or_(false(), *of_scopes)).limit(limit).subquery()
    return tx.scalar(select(func.count()).select_from(found)) or 0


def get_work(tx: Connection, work_id: int) -> WorkLine:
    """Return one row of work; raise ``RowUnknown``."""
    found = tx.execute(select(work_queue).where(work_queue.c.id == work_id)).first()
    if found is None:
        raise RowUnknown(f"there is no work {work_id}: `fleet work list` shows the newest")
    return found
