"""Replay: records an event again under a new identity. Also reviews unreadable events."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Unpack
from uuid import uuid4

import orjson
from sqlalchemy import ColumnElement, Connection, Row, func, select

from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.core.errors import InputInvalid, Refused
from services.core.locks import lock_bodies
from services.ledger.accept import NewEvent, WorkRef, record_events
from services.ledger.event_archive import ArchivedEvent
from services.ledger.filters import EventFilter, FilterInvalid
from services.ledger.requeue import id_ranges
from services.ledger.tables import inbound_events, work_queue
from services.ledger.topics import plan_topic
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem

SET_SIZE = 100
"""Events read at a time, because a body may have 5 MiB."""
_COPIED = ("shop_id", "provider", "topic", "headers", "request_id", "key")
COPIES = ("replay", "edit")
ORIGINS = ("webhook", "backfill", *COPIES)
"""Origins of events that were recorded from another one: a filter without ids leaves them out."""


@dataclass(frozen=True, slots=True)
class BodyEdit:
    """A changed body for a replay. ``token`` identifies the edit; ``changes`` names what it changes."""

    body: bytes
    token: str
    changes: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The ids of the new events, the work to notify workers of after the commit, and the replayed ids."""

    event_ids: tuple[int, ...]
    work: tuple[WorkRef, ...]
    original_ids: tuple[int, ...]


EventGroup = tuple[int, str, str]
"""Shop id, provider and topic of events."""


def count_replayable(tx: Connection, wanted: EventFilter) -> Counter[EventGroup]:
    """Return how many events ``replay_events`` would replay."""
    return _count(tx, _to_condition(wanted))


def count_copies(tx: Connection, wanted: EventFilter) -> int:
    """Return how many replays and edits match, which ``replay_events`` leaves out."""
    return (
        0
        if wanted.ids or wanted.origin
        else _count(tx, wanted.where() & inbound_events.c.origin.in_(COPIES)).total()
    )


def _count(tx: Connection, condition: ColumnElement[bool]) -> Counter[EventGroup]:
    by = [inbound_events.c[name] for name in ("shop_id", "provider", "topic")]
    rows = tx.execute(select(*by, func.count().label("events")).where(condition).group_by(*by).order_by(*by))
    return Counter({(row.shop_id, row.provider, row.topic): row.events for row in rows})


def replay_events(tx: Connection, wanted: EventFilter, **author: Unpack[Author]) -> ReplayResult:
    """Record each event of ``wanted`` again, with work planned by the current code.

    Effects have unique keys, so an effect that exists is not repeated. A filter without ids and origin
    leaves out earlier replays and edits. A replay keeps the request id of its event; one of an edit is an
    edit. Bodies are read under the lock of ``lock_bodies``: a redaction waits, and then finds their copies.
    """
    columns = select(inbound_events.c.id, inbound_events.c.shop_id)
    found = tx.execute(columns.where(_to_condition(wanted)).order_by(inbound_events.c.id)).all()
    lock_bodies(tx, {row.shop_id for row in found}, is_shared=True)
    ids = [row.id for row in found]
    sets = (find_originals(tx, ids[start : start + SET_SIZE]) for start in range(0, len(ids), SET_SIZE))
    return record_replays(tx, sets, **author)


def record_replays(
    tx: Connection,
    sets: Iterable[Sequence[Row[Any] | ArchivedEvent]],
    edit: BodyEdit | None = None,
    **author: Unpack[Author],
) -> ReplayResult:
    """Record the events of ``sets`` again, set by set, and one audit entry for each shop.

    With ``edit``: a single event with its body. Raises ``InputInvalid`` if this edit is recorded already.
    """
    reason = author.get("reason", "")
    replays: dict[int, dict[int, int]] = {}
    work: list[WorkRef] = []
    for originals in sets:
        copies = [_copy_event(row, author["now"], edit) for row in originals]
        for row, accepted in zip(originals, record_events(tx, copies), strict=True):
            if not accepted.is_new:
                raise InputInvalid(f"this edit is recorded already, as event {accepted.event_id}")
            replays.setdefault(row.shop_id, {})[row.id] = accepted.event_id
            work += accepted.work
    mutations: dict[int | None, list[Mutation]] = {}
    for shop_id, new_ids in sorted(replays.items()):
        what = f"replayed {format_count(len(new_ids), 'event')}"
        if edit:
            (old, new), *_ = new_ids.items()
            what = f"recorded event {new}, an edit of event {old} that changes {edit.changes}"
        summary = what + (f": {reason}" if reason else "")
        after = {"originals": id_ranges(new_ids), "replays": id_ranges(new_ids.values()), "reason": reason}
        row_id = str(*new_ids) if len(new_ids) == 1 else format_count(len(new_ids), "row")
        mutations[shop_id] = [Mutation("inbound_events", row_id, summary, None, after)]
    append_change(tx, "event.edit" if edit else "event.replay", mutations, **author)
    event_ids = sorted(event_id for new_ids in replays.values() for event_id in new_ids.values())
    return ReplayResult(tuple(event_ids), tuple(work), tuple(chain.from_iterable(replays.values())))


def _to_condition(wanted: EventFilter) -> ColumnElement[bool]:
    if wanted.is_open:
        raise FilterInvalid("the filter is empty: give ids, --shop, --provider, --topic or another filter")
    if wanted.ids or wanted.origin:
        return wanted.where()
    return wanted.where() & inbound_events.c.origin.not_in(COPIES)


def find_originals(tx: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return the events with these ids, to be recorded again; call ``lock_bodies`` before."""
    key = (
        select(work_queue.c.key)
        .where(work_queue.c.event_id == inbound_events.c.id)
        .order_by(work_queue.c.id)
        .limit(1)
        .scalar_subquery()
    )
    wanted = select(inbound_events, func.coalesce(key, "").label("key"))
    return tx.execute(wanted.where(inbound_events.c.id.in_(ids)).order_by(inbound_events.c.id)).all()


def _copy_event(row: Row[Any] | ArchivedEvent, now: datetime, edit: BodyEdit | None) -> NewEvent:
    """Return the event to record, which is as old as ``row``: a body without a time is not the newest."""
    body = edit.body if edit else bytes(row.body)
    origin = "edit" if edit or row.origin == "edit" else "replay"
    return NewEvent(
        **{name: getattr(row, name) for name in _COPIED},
        occurred_at=min(filter(None, (row.occurred_at, row.received_at))),
        delivery_key=f"{origin}:{edit.token if edit else uuid4()}",
        body=body,
        received_at=now,
        origin=origin,
        replay_of=row.replay_of or row.id,
        readable=is_readable(body),
    )


def is_readable(body: bytes) -> bool:
    """Return whether ``body`` is a JSON object."""
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def review_events(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:  # noqa: ARG001
    """Handler of ``event_review``: plan the work of each readable event; refuse the others."""
    outcomes: list[Outcome] = []
    new_work: list[NewWork] = []
    for item in items:
        try:
            orjson.loads(item.body)
        except orjson.JSONDecodeError as fault:
            outcomes.append(Refused("unreadable", f"the body is not JSON: {fault}; discard this work"))
            continue
        topic = plan_topic(item.event_provider, item.event_topic)
        if topic is not None and topic.name != item.topic:
            new_work.append(
                NewWork(
                    shop_id=item.shop_id,
                    topic=topic.name,
                    key=item.key,
                    event_id=item.event_id,
                    origin="review",
                    request_id=item.request_id,
                )
            )
        outcomes.append(Done("reviewed"))
    return HandlerResult(outcomes, new_work)
