"""Accept: inserts inbound events and the work planned for them, in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import arrays
from services.ledger.topics import TOPICS, plan_topic
from services.ledger.work import NewWork

_Identity = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it arrived. ``body`` has exactly the bytes that were signed."""

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
    def identity(self) -> _Identity:
        """Two deliveries with one identity are the same event."""
        return (self.shop_id, self.provider, self.topic, self.delivery_key)


@dataclass(frozen=True, slots=True)
class WorkRef:
    """A row of ``work_queue`` for which a message is to be sent."""

    id: int
    queue: str
    topic: str


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """The result for one event. A duplicate is not an error."""

    event_id: int
    is_new: bool
    work: tuple[WorkRef, ...] = ()


# One statement makes a group atomic in one round trip. One JSON text for all rows and one byte string for all
# bodies are several times cheaper to send than an array per column. ``xmax`` is zero on inserted rows only.
_RECORD_EVENTS = """
with v as (
  select r.*, substring(%(bodies)s::bytea from r.starts for r.size) as body
    from jsonb_to_recordset(%(rows)s::jsonb) as r(
           n int, starts int, size int, shop_id int, provider text, topic text, delivery_key text,
           headers jsonb, received_at timestamptz, occurred_at timestamptz, request_id text,
           origin text, replay_of bigint,
           copies int, work_queue text, work_topic text, key text, readable bool)
), events as (
  insert into inbound_events as old (shop_id, provider, topic, delivery_key, headers, body, received_at,
                                     occurred_at, request_id, origin, replay_of, duplicate_count)
  select shop_id, provider, topic, delivery_key, headers, body, received_at, occurred_at, request_id, origin,
         replay_of, copies from v order by n
  on conflict on constraint uq_inbound_events_delivery
  do update set duplicate_count = old.duplicate_count + excluded.duplicate_count + 1
  returning id, shop_id, provider, topic, delivery_key, xmax = 0 as is_new
), found as (
  select v.n, events.id, events.is_new, v.shop_id, v.work_queue, v.work_topic, v.key, v.readable, v.origin,
         v.request_id, v.received_at
    from events join v using (shop_id, provider, topic, delivery_key)
), work as (
  insert into work_queue (shop_id, queue, topic, key, status, event_id, origin, request_id, created_at,
                          error_code, last_error, finished_at, dispatched_at, dispatch_count)
  select shop_id, work_queue, work_topic, key, case when readable then 'pending' else 'dead' end, id, origin,
         request_id, received_at, case when not readable then 'unreadable' end,
         case when not readable then %(unreadable)s::text end, case when not readable then received_at end,
         case when readable then received_at end, readable::int
    from found where is_new and work_topic is not null order by n
  returning id, event_id, queue, topic, status
)
select found.n, found.id, found.is_new, work.id, work.queue, work.topic, work.status
  from found left join work on work.event_id = found.id
"""

_RECORD_WORK = """
insert into work_queue (shop_id, queue, topic, key, payload, event_id, origin, request_id, created_at,
                        next_retry_at, dispatched_at, dispatch_count)
select shop_id, queue, topic, key, payload, event_id, origin, request_id, %(now)s::timestamptz, not_before,
       case when not_before is null then %(now)s::timestamptz end, (not_before is null)::int
  from jsonb_to_recordset(%(rows)s::jsonb) as v(
         shop_id int, queue text, topic text, key text, payload jsonb, event_id bigint, origin text,
         request_id text, not_before timestamptz)
returning id, queue, topic, next_retry_at is null
"""

_FIND_RECORDED = """
select e.topic, e.delivery_key
  from unnest(%(topic)s::text[], %(delivery_key)s::text[]) as v(topic, delivery_key)
  join inbound_events e on e.shop_id = %(shop_id)s and e.provider = %(provider)s and e.topic = v.topic
                       and e.delivery_key = v.delivery_key
"""

_EVENT_FIELDS = [each.name for each in fields(NewEvent) if each.name != "body"]
_WORK_FIELDS = [each.name for each in fields(NewWork)]


def record_events(tx: Connection, events: Sequence[NewEvent]) -> list[AcceptedEvent]:
    """Insert ``events`` with their work; return one ``AcceptedEvent`` each, in order.

    A delivery received before, or repeated in ``events``, is counted on its row and gets no work. An
    unreadable event is stored, and its work is ``dead``.
    """
    copies: dict[_Identity, int] = {}
    for event in events:
        copies[event.identity] = copies.get(event.identity, -1) + 1
    first = list({event.identity: event for event in reversed(events)}.values())
    # Sorted, so that two processes with the same deliveries lock them in the same order.
    first.sort(key=lambda event: event.identity)
    rows: list[dict[str, Any]] = []
    starts = 1
    for n, event in enumerate(first):
        rows.append(_event_row(event) | {"n": n, "starts": starts, "copies": copies[event.identity]})
        starts += len(event.body)
    values = {
        "rows": orjson.dumps(rows).decode(),
        "bodies": b"".join(event.body for event in first),
        "unreadable": _UNREADABLE,
    }
    results: dict[_Identity, AcceptedEvent] = {}
    for n, event_id, is_new, work_id, queue, topic, status in tx.exec_driver_sql(_RECORD_EVENTS, values):
        ref = (WorkRef(work_id, queue, topic),) if status == "pending" else ()
        results[first[n].identity] = AcceptedEvent(event_id, is_new, ref)
    accepted = []
    for event in events:
        result = results[event.identity]
        accepted.append(result)
        results[event.identity] = AcceptedEvent(result.event_id, is_new=False)  # a later copy is a duplicate
    return accepted


def list_missing_events(tx: Connection, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Return those of one shop's ``events`` from one provider that have no row, each once.

    For events that were read from the provider's list: ``record_events`` would count duplicate deliveries.
    """
    events = list({event.identity: event for event in events}.values())
    if not events:
        return []
    sender = {"shop_id": events[0].shop_id, "provider": events[0].provider}
    values = arrays("topic delivery_key", [(event.topic, event.delivery_key) for event in events]) | sender
    known = {(row.topic, row.delivery_key) for row in tx.exec_driver_sql(_FIND_RECORDED, values)}
    return [event for event in events if (event.topic, event.delivery_key) not in known]


def _event_row(event: NewEvent) -> dict[str, Any]:
    topic = plan_topic(event.provider, event.topic)
    if topic is None and not event.readable:
        topic = TOPICS["event_review"]
    row = {name: getattr(event, name) for name in _EVENT_FIELDS}
    row |= {"size": len(event.body), "work_queue": topic and topic.queue, "work_topic": topic and topic.name}
    return row


def record_work(tx: Connection, new: Sequence[NewWork], now: datetime) -> list[WorkRef]:
    """Insert ``new``; return the work that is due now, for messages after the commit."""
    if not new:
        return []
    rows = [
        {"queue": TOPICS[work.topic].queue} | {name: getattr(work, name) for name in _WORK_FIELDS}
        for work in new
    ]
    found = tx.exec_driver_sql(_RECORD_WORK, {"rows": orjson.dumps(rows).decode(), "now": now})
    return [WorkRef(row_id, queue, topic) for row_id, queue, topic, at_once in found if at_once]


_UNREADABLE = (
    "the signature is valid, but the body is not JSON of the form of this topic: see `fleet events show`, "
    "then discard this work, or requeue it once a new version can read the body"
)
