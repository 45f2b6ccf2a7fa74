"""Accept: inbound events become rows, and their planned work with them, in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.ledger.plan import plan_review, plan_topic
from services.ledger.topics import TOPICS, Topic
from services.ledger.work import NewWork


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it arrived. ``body`` is the bytes that were signed, untouched."""

    shop_id: int
    provider: str
    topic: str
    delivery_key: str
    body: bytes
    received_at: datetime
    headers: dict[str, str] = field(default_factory=dict)
    occurred_at: datetime | None = None
    request_id: str = ""
    origin: str = "webhook"
    replay_of: int | None = None
    key: str = ""
    readable: bool = True

    @property
    def identity(self) -> tuple[int, str, str, str]:
        """What makes two deliveries the same event."""
        return (self.shop_id, self.provider, self.topic, self.delivery_key)


@dataclass(frozen=True, slots=True)
class WorkRef:
    """Where to ring for a row of ``work_queue``."""

    id: int
    queue: str
    topic: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one event. A duplicate is a result, not an error."""

    event_id: int
    is_new: bool
    work: tuple[WorkRef, ...] = ()


_INSERT_EVENTS = """
insert into inbound_events as old (shop_id, provider, topic, delivery_key, headers, body, received_at,
                                   occurred_at, request_id, origin, replay_of, duplicate_count)
select * from unnest(%(shop_id)s::int[], %(provider)s::text[], %(topic)s::text[], %(delivery_key)s::text[],
                     %(headers)s::jsonb[], %(body)s::bytea[], %(received_at)s::timestamptz[],
                     %(occurred_at)s::timestamptz[], %(request_id)s::text[], %(origin)s::text[],
                     %(replay_of)s::bigint[], %(copies)s::int[])
on conflict on constraint uq_inbound_events_delivery
do update set duplicate_count = old.duplicate_count + excluded.duplicate_count + 1
returning id, shop_id, provider, topic, delivery_key, xmax = 0
"""
# ``xmax`` is zero on a row that this statement inserted, and set on one that it found and updated.

_INSERT_WORK = """
insert into work_queue (shop_id, queue, topic, key, payload, status, event_id, origin, request_id, created_at,
                        next_retry_at, error_code, last_error, finished_at, dispatched_at, dispatch_count)
select shop_id, queue, topic, key, payload::jsonb, status, event_id, origin, request_id, created_at,
       next_retry_at, error_code, last_error, case when status = 'dead' then created_at end,
       case when status = 'pending' and next_retry_at is null then created_at end,
       case when status = 'pending' and next_retry_at is null then 1 else 0 end
from unnest(%(shop_id)s::int[], %(queue)s::text[], %(topic)s::text[], %(key)s::text[], %(payload)s::text[],
            %(status)s::text[], %(event_id)s::bigint[], %(origin)s::text[], %(request_id)s::text[],
            %(created_at)s::timestamptz[], %(next_retry_at)s::timestamptz[], %(error_code)s::text[],
            %(last_error)s::text[])
     as v(shop_id, queue, topic, key, payload, status, event_id, origin, request_id, created_at,
          next_retry_at, error_code, last_error)
returning id, queue, topic, event_id, status, next_retry_at is null
"""


def record_events(tx: Connection, events: Sequence[NewEvent]) -> list[Accepted]:
    """Every event is a row once the caller commits, with its work planned; one ``Accepted`` each, in order.

    A delivery seen before is counted on its row and plans nothing. Copies inside ``events`` count as
    duplicates of the first. An unreadable event is kept, and its work waits as ``dead``.
    """
    copies: dict[tuple[int, str, str, str], int] = {}
    for event in events:
        copies[event.identity] = copies.get(event.identity, 0) + 1
    first = list({event.identity: event for event in reversed(events)}.values())
    # Sorted, so that two processes that meet the same deliveries lock them in the same order.
    first.sort(key=lambda event: event.identity)
    rows = tx.exec_driver_sql(
        _INSERT_EVENTS,
        {
            "shop_id": [e.shop_id for e in first],
            "provider": [e.provider for e in first],
            "topic": [e.topic for e in first],
            "delivery_key": [e.delivery_key for e in first],
            "headers": [orjson.dumps(e.headers).decode() for e in first],
            "body": [e.body for e in first],
            "received_at": [e.received_at for e in first],
            "occurred_at": [e.occurred_at for e in first],
            "request_id": [e.request_id for e in first],
            "origin": [e.origin for e in first],
            "replay_of": [e.replay_of for e in first],
            "copies": [copies[e.identity] - 1 for e in first],
        },
    ).all()
    found = {(r[1], r[2], r[3], r[4]): (int(r[0]), bool(r[5])) for r in rows}
    work = _record_event_work(tx, [(e, found[e.identity][0]) for e in first if found[e.identity][1]])
    answers: list[Accepted] = []
    for event in events:
        event_id, is_new = found[event.identity]
        answers.append(Accepted(event_id, is_new, work.pop(event_id, ()) if is_new else ()))
        found[event.identity] = (event_id, False)
    return answers


def _record_event_work(
    tx: Connection, events: Sequence[tuple[NewEvent, int]]
) -> dict[int, tuple[WorkRef, ...]]:
    planned: list[tuple[Topic, NewWork, datetime, bool]] = []
    for event, event_id in events:
        review = not event.readable
        topic = (
            plan_review(event.provider, event.topic) if review else plan_topic(event.provider, event.topic)
        )
        if topic is None:
            continue
        new = NewWork(
            shop_id=event.shop_id, topic=topic.name, key=event.key, event_id=event_id, origin=event.origin,
            request_id=event.request_id,
        )  # fmt: skip
        planned.append((topic, new, event.received_at, review))
    refs: dict[int, tuple[WorkRef, ...]] = {}
    for ref, row_event_id in _insert_work(tx, planned):
        refs[row_event_id or 0] = (ref,)
    return refs


def record_work(tx: Connection, new: Sequence[NewWork], now: datetime) -> list[WorkRef]:
    """``new`` is in the queue once the caller commits. Returns those that may be rung for at once."""
    planned = [(TOPICS[work.topic], work, now, False) for work in new]
    return [ref for ref, _ in _insert_work(tx, planned)]


def _insert_work(
    tx: Connection, planned: Sequence[tuple[Topic, NewWork, datetime, bool]]
) -> list[tuple[WorkRef, int | None]]:
    if not planned:
        return []
    values: dict[str, list[Any]] = {
        "shop_id": [new.shop_id for _, new, _, _ in planned],
        "queue": [topic.queue for topic, _, _, _ in planned],
        "topic": [topic.name for topic, _, _, _ in planned],
        "key": [new.key for _, new, _, _ in planned],
        "payload": [orjson.dumps(new.payload).decode() if new.payload else "{}" for _, new, _, _ in planned],
        "status": ["dead" if review else "pending" for _, _, _, review in planned],
        "event_id": [new.event_id for _, new, _, _ in planned],
        "origin": [new.origin for _, new, _, _ in planned],
        "request_id": [new.request_id for _, new, _, _ in planned],
        "created_at": [at for _, _, at, _ in planned],
        "next_retry_at": [new.not_before for _, new, _, _ in planned],
        "error_code": ["unreadable" if review else None for _, _, _, review in planned],
        "last_error": [_UNREADABLE if review else None for _, _, _, review in planned],
    }
    rows = tx.exec_driver_sql(_INSERT_WORK, values).all()
    return [(WorkRef(int(r[0]), r[1], r[2]), r[3]) for r in rows if r[4] == "pending" and r[5]]


_UNREADABLE = (
    "the signature is right but the body is not the JSON this topic has: look at it with "
    "`fleet events show`, then requeue it once it can be read, or discard it"
)
