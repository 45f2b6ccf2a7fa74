"""Replay: an event that came in once comes in again, under an identity of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from services.audit.append import Entry, Mutation, append_all
from services.ledger.accept import NewEvent, WorkRef, record_events
from services.ledger.filters import EventFilter, FilterInvalid
from services.ledger.requeue import id_ranges
from services.ledger.tables import inbound_events, work_queue

SET_SIZE = 100
"""Events read at a time: a body may have 5 MiB, and a night's window holds many."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: the new events' ids, and the work to ring for once it is committed."""

    event_ids: tuple[int, ...]
    work: tuple[WorkRef, ...]


def count_replayable(tx: Connection, wanted: EventFilter) -> int:
    """Return how many events ``replay_events`` would repeat, changing nothing."""
    return tx.scalar(select(func.count()).select_from(inbound_events).where(_chosen(wanted))) or 0


def replay_events(
    tx: Connection,
    wanted: EventFilter,
    *,
    now: datetime,
    by: str,
    reason: str = "",
    request_id: str = "",
) -> Replayed:
    """Each chosen event is in the ledger once more, its work planned as today's code plans it.

    Effects that are already there are found by their own keys, so a replay repairs and does not double.
    A filter that names no ids leaves out earlier replays, or a window replayed twice would grow each time.
    A replay keeps its event's request id, so that one search shows all that came of it.
    """
    ids = tx.scalars(select(inbound_events.c.id).where(_chosen(wanted)).order_by(inbound_events.c.id)).all()
    repeated: list[tuple[int, int, int]] = []
    work: list[WorkRef] = []
    for originals in _in_sets(tx, ids):
        again = [_again(row, now) for row in originals]
        for row, accepted in zip(originals, record_events(tx, again), strict=True):
            repeated.append((row.shop_id, row.id, accepted.event_id))
            work += accepted.work
    entries: list[Entry] = []
    for shop_id, of_shop in groupby(sorted(repeated), key=lambda place: place[0]):
        places = list(of_shop)
        summary = f"replayed {len(places)} events" + (f": {reason}" if reason else "")
        after = {
            "originals": id_ranges(original for _, original, _ in places),
            "replays": id_ranges(event_id for _, _, event_id in places),
            "reason": reason,
        }
        row_id = str(places[0][1]) if len(places) == 1 else f"{len(places)} rows"
        mutation = Mutation("inbound_events", row_id, summary, None, after)
        entries.append(Entry(shop_id, by, "event.replay", request_id, [mutation]))
    append_all(tx, entries, now)
    return Replayed(tuple(event_id for _, _, event_id in repeated), tuple(work))


def _chosen(wanted: EventFilter) -> ColumnElement[bool]:
    if wanted.is_open:
        raise FilterInvalid("nothing chosen: name ids, a shop, a provider, a topic, or a time since or until")
    if wanted.ids:
        return wanted.where()
    return wanted.where() & (inbound_events.c.origin != "replay")


def _in_sets(tx: Connection, ids: Sequence[int]) -> Iterator[Sequence[Row[Any]]]:
    for start in range(0, len(ids), SET_SIZE):
        yield tx.execute(_originals(ids[start : start + SET_SIZE])).all()


def _originals(ids: Sequence[int]) -> Select[Any]:
    key = (
        select(work_queue.c.key)
        .where(work_queue.c.event_id == inbound_events.c.id)
        .order_by(work_queue.c.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(inbound_events, func.coalesce(key, "").label("key"))
        .where(inbound_events.c.id.in_(ids))
        .order_by(inbound_events.c.id)
    )


def _again(row: Row[Any], now: datetime) -> NewEvent:
    body = bytes(row.body)
    return NewEvent(
        shop_id=row.shop_id,
        provider=row.provider,
        topic=row.topic,
        delivery_key=f"replay:{uuid4()}",
        headers=row.headers,
        body=body,
        received_at=now,
        occurred_at=row.occurred_at,
        request_id=row.request_id,
        origin="replay",
        replay_of=row.replay_of or row.id,
        key=row.key,
        readable=_is_readable(body),
    )


def _is_readable(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
