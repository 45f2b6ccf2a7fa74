"""What of Stripe's lists the ledger lacks: events by their id, objects by their state."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.core.fields import Unreadable, as_object
from services.core.pg_arrays import text_array
from services.core.pg_copy import fetch_binary
from services.ledger.accept import NewEvent
from services.ledger.routing import plan_topic
from services.payments.payload import Transaction, read_object
from services.payments.synthetic_event import CLOCKS_APART, plan_state_event
from services.providers.delivery import find_dict, find_instant, find_object, id_text
from services.providers.stripe import object_key

INGEST = "transaction_ingest"
_ANY_TIME = datetime.fromtimestamp(0, UTC)

_FIND_KNOWN = """
select e.topic, e.delivery_key
  from unnest(%(topic)s::text[], %(delivery_key)s::text[]) as v(topic, delivery_key)
  join inbound_events e on e.shop_id = %(shop_id)s and e.provider = 'stripe' and e.topic = v.topic
       and e.delivery_key = v.delivery_key
"""

_FIND_CHANGED = """
select v.provider_id, coalesce(extract(epoch from t.version_at)::bigint, 0)
  from unnest(%(provider_id)s::text[], %(digest)s::text[]) as v(provider_id, digest)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
 where t.content_digest is distinct from v.digest and coalesce(t.version_at < %(seen_at)s, true)
"""

# Work that waits, and work in a worker's hand: each half has an index of its own.
_FIND_WAITING = """
select e.body from (
  select event_id from work_queue
   where topic = %(topic)s and shop_id = %(shop_id)s and key = any(%(key)s::text[])
     and status in ('pending', 'error') and locked_at is null
   union all
  select event_id from work_queue
   where topic = %(topic)s and key = any(%(key)s::text[]) and shop_id = %(shop_id)s
     and status in ('pending', 'error') and locked_at is not null
) w join inbound_events e on e.id = w.event_id
"""


def plan_pulled_event(
    shop_id: int, event: Mapping[str, Any], now: datetime, request_id: str
) -> NewEvent | None:
    """Return ``event``, one of Stripe's list, as it would have come by webhook; None for a type we leave.

    The bytes are ours and not the signed ones, and Stripe may render a listed event in another version of
    its API than the webhook's: what the books read of it is the same.
    """
    topic, event_id = id_text(event.get("type")), id_text(event.get("id"))
    planned = plan_topic("stripe", topic)
    if planned is None or planned.name != INGEST or not event_id:
        return None
    return NewEvent(
        shop_id=shop_id,
        provider="stripe",
        topic=topic,
        delivery_key=event_id,
        body=orjson.dumps(event),
        received_at=now,
        occurred_at=find_instant(event.get("created")),
        request_id=request_id,
        origin="backfill",
        key=object_key(event),
    )


def find_unknown(tx: Connection, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Return those of ``events``, all of one shop, that are no rows yet.

    Looked up first, as ``record_events`` would count a known one as delivered again, and it was not.
    """
    if not events:
        return []
    values = {
        "shop_id": events[0].shop_id,
        "topic": text_array([event.topic for event in events]),
        "delivery_key": text_array([event.delivery_key for event in events]),
    }
    known = {(topic, key) for topic, key in tx.exec_driver_sql(_FIND_KNOWN, values)}
    return [event for event in events if (event.topic, event.delivery_key) not in known]


def find_changed(
    tx: Connection,
    shop_id: int,
    objects: Sequence[Mapping[str, Any]],
    asked_at: datetime,
    now: datetime,
    request_id: str,
) -> tuple[list[NewEvent], int]:
    """Return an event for each object whose state is another than ours, and how many were unreadable.

    Not for one that an event newer than the question has told of, nor for one whose state is on its way:
    in an event that waits for its worker. The event's name is the object's, its state and the version
    of ours: a second look enters nothing, and yet a state that comes back later enters again.
    """
    seen_at = asked_at - CLOCKS_APART
    theirs, unreadable = _read_all(shop_id, objects, seen_at)
    if not theirs:
        return [], unreadable
    values = {
        "shop_id": shop_id,
        "seen_at": seen_at,
        "provider_id": text_array(list(theirs)),
        "digest": text_array([read.content_digest for read, _ in theirs.values()]),
    }
    changed = [(*theirs[row[0]], row[1]) for row in tx.exec_driver_sql(_FIND_CHANGED, values)]
    waiting = _find_waiting(tx, shop_id, [source for _, source, _ in changed])
    return [
        plan_state_event(
            shop_id,
            source,
            delivery_key=f"pull:{read.provider_id}:{read.content_digest}:{version}",
            asked_at=asked_at,
            now=now,
            request_id=request_id,
        )
        for read, source, version in changed
        if read.content_digest not in waiting[read.provider_id]
    ], unreadable


def _read_all(
    shop_id: int, objects: Sequence[Mapping[str, Any]], seen_at: datetime
) -> tuple[dict[str, tuple[Transaction, Mapping[str, Any]]], int]:
    """Return the transactions among ``objects`` by id, each with its source, and how many were unreadable."""
    theirs: dict[str, tuple[Transaction, Mapping[str, Any]]] = {}
    unreadable = 0
    for source in objects:
        try:
            read = read_object(as_object(source, "entry"), shop_id=shop_id, version_at=seen_at)
        except Unreadable:
            unreadable += 1
            continue
        if read is not None:
            theirs[read.provider_id] = (read, source)
    return theirs, unreadable


def _find_waiting(tx: Connection, shop_id: int, objects: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, per object, the digests of the states that work which waits will tell."""
    states: dict[str, set[str]] = defaultdict(set)
    if objects:
        keys = text_array([object_key({"data": {"object": source}}) for source in objects])
        values = {"shop_id": shop_id, "topic": INGEST, "key": keys}
        for (body,) in fetch_binary(tx, _FIND_WAITING, values):
            source = find_dict(find_dict(find_object(bytes(body)) or {}, "data"), "object")
            with suppress(Unreadable):
                read = read_object(as_object(source, "entry"), shop_id=shop_id, version_at=_ANY_TIME)
                states[read.provider_id if read else ""].add(read.content_digest if read else "")
    return states
