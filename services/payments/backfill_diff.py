"""The difference between Stripe's lists and the ledger, as new events: events by id, objects by their
state."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from services.core.fields import Unreadable, as_object, find_object
from services.core.pg_arrays import text_array
from services.core.pg_copy import fetch_binary
from services.ledger.accept import NewEvent
from services.ledger.topics import plan_topic
from services.payments.payload import Transaction, parse_transaction
from services.providers.delivery import find_instant, id_text, parse_object
from services.providers.stripe import object_key

INGEST = "transaction_ingest"

CLOCK_SKEW = timedelta(minutes=1)
"""How far our clock may be ahead of Stripe's: a fetched state is dated so much earlier, and loses to any
event that Stripe dates later. It can only be newer than its date, so nothing is lost."""

_ANY_TIME = datetime.fromtimestamp(0, UTC)
_TOPICS = {"dispute": "charge.dispute.updated"}

_FIND_KNOWN = """
select e.topic, e.delivery_key
  from unnest(%(topic)s::text[], %(delivery_key)s::text[]) as v(topic, delivery_key)
  join inbound_events e on e.shop_id = %(shop_id)s and e.provider = 'stripe' and e.topic = v.topic
       and e.delivery_key = v.delivery_key
"""

_FIND_CHANGED = """
select v.provider_id, coalesce(extract(epoch from t.version_at)::bigint, 0) as version
  from unnest(%(provider_id)s::text[], %(digest)s::text[]) as v(provider_id, digest)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
 where t.content_digest is distinct from v.digest and coalesce(t.version_at < %(seen_at)s, true)
"""

# Work that waits, and work that a worker has locked: each half has an index of its own.
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


def plan_events(shop_id: int, events: Iterable[Any], now: datetime, request_id: str) -> list[NewEvent]:
    """Return ``events`` of Stripe's as webhooks would have entered them, without those of unused types.

    The bytes are ours and not the signed ones, and Stripe may render a listed event in another API version
    than the webhook's; ``payload`` reads the same from both.
    """
    planned = []
    for event in events:
        fields = event if isinstance(event, dict) else {}
        topic, event_id = id_text(fields.get("type")), id_text(fields.get("id"))
        work = plan_topic("stripe", topic)
        if work is not None and work.name == INGEST and event_id:
            planned.append(
                NewEvent(
                    shop_id=shop_id,
                    provider="stripe",
                    topic=topic,
                    delivery_key=event_id,
                    body=orjson.dumps(fields),
                    received_at=now,
                    occurred_at=find_instant(fields.get("created")),
                    request_id=request_id,
                    origin="backfill",
                    key=object_key(fields),
                )
            )
    return planned


def make_state_event(
    source: Mapping[str, Any], event_id: str, asked_at: datetime, *, not_before: datetime | None = None
) -> dict[str, Any]:
    """Return an event of Stripe's form (``charge.updated``) with the current state of ``source``.

    A fetched object enters the ledger as a webhook does, so that it has the same parser, order and audit.
    ``asked_at`` is the time before the call; ``not_before`` the date of an event that the answer includes.
    """
    seen_at = asked_at - CLOCK_SKEW
    kind = str(source.get("object", ""))
    return {
        "id": event_id,
        "object": "event",
        "type": _TOPICS.get(kind, f"{kind}.updated"),
        "created": int(max(seen_at, not_before or seen_at).timestamp()),
        "livemode": source.get("livemode", False),
        "data": {"object": source},
    }


def find_missing_events(tx: Connection, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Return those of ``events``, all of one shop, that have no row.

    Looked up first, because ``record_events`` counts an existing one as a duplicate delivery.
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


def find_changed_objects(
    tx: Connection,
    shop_id: int,
    objects: Sequence[Mapping[str, Any]],
    asked_at: datetime,
    now: datetime,
    request_id: str,
) -> tuple[list[NewEvent], int]:
    """Return an event for each object whose state differs from its row, and how many were unreadable.

    None for an object with an event newer than the call, nor for a state in an event that waits for its
    worker. The delivery key has the object's id, its state and the version of our row: a second call enters
    nothing, and a state that comes back later enters again.
    """
    seen_at = asked_at - CLOCK_SKEW
    parsed: dict[str, tuple[Transaction, Mapping[str, Any]]] = {}
    unreadable = 0
    for source in objects:
        try:
            state = parse_transaction(as_object(source, "entry"), shop_id=shop_id, version_at=seen_at)
        except Unreadable:
            unreadable += 1
        else:
            parsed |= {state.provider_id: (state, source)} if state else {}
    if not parsed:
        return [], unreadable
    values = {
        "shop_id": shop_id,
        "seen_at": seen_at,
        "provider_id": text_array(list(parsed)),
        "digest": text_array([state.content_digest for state, _ in parsed.values()]),
    }
    versions = {row.provider_id: row.version for row in tx.exec_driver_sql(_FIND_CHANGED, values)}
    waiting = _find_waiting(tx, shop_id, [parsed[provider_id][1] for provider_id in versions])
    changed = []
    for provider_id, version in versions.items():
        state, source = parsed[provider_id]
        if state.content_digest not in waiting[provider_id]:
            event_id = f"pull:{provider_id}:{state.content_digest}:{version}"
            changed.append(make_state_event(source, event_id, asked_at))
    return plan_events(shop_id, changed, now, request_id), unreadable


def _find_waiting(tx: Connection, shop_id: int, objects: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, per object, the digests of the states in events whose work waits."""
    digests: dict[str, set[str]] = defaultdict(set)
    if objects:
        keys = text_array([object_key({"data": {"object": source}}) for source in objects])
        values = {"shop_id": shop_id, "topic": INGEST, "key": keys}
        for (body,) in fetch_binary(tx, _FIND_WAITING, values):
            source = find_object(find_object(parse_object(bytes(body)) or {}, "data"), "object")
            with suppress(Unreadable):
                state = parse_transaction(as_object(source, "entry"), shop_id=shop_id, version_at=_ANY_TIME)
                if state is not None:
                    digests[state.provider_id].add(state.content_digest)
    return digests
