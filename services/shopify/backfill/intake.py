"""The door for what a pull found: the same as a webhook's, but only for what is not in yet.

A found state is named by its object and a digest of its body, so however often a list shows it, it
enters once. It is looked for before, as the ledger would count a known one as a duplicate delivery.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import orjson
from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.ledger.accept import NewEvent, WorkRef, record_events
from services.providers.shopify import object_key
from services.shopify.backfill.to_webhook import PulledEvent

_FIND_KNOWN = """
select e.topic, e.delivery_key
  from unnest(%(topic)s::text[], %(delivery_key)s::text[]) as v(topic, delivery_key)
  join inbound_events e on e.shop_id = %(shop_id)s and e.provider = 'shopify' and e.topic = v.topic
                       and e.delivery_key = v.delivery_key
"""


def find_new(
    tx: Connection, shop_id: int, found: Sequence[PulledEvent], now: datetime, request_id: str
) -> list[NewEvent]:
    """Return the events that ``found`` asks for and that are not in the ledger yet."""
    events = {event.identity: event for one in found for event in (_event(shop_id, one, now, request_id),)}
    if not events:
        return []
    values = {
        "shop_id": shop_id,
        "topic": text_array([event.topic for event in events.values()]),
        "delivery_key": text_array([event.delivery_key for event in events.values()]),
    }
    known = {(row[0], row[1]) for row in tx.exec_driver_sql(_FIND_KNOWN, values)}
    return [event for event in events.values() if (event.topic, event.delivery_key) not in known]


def enter(tx: Connection, events: Sequence[NewEvent]) -> list[WorkRef]:
    """``events`` are in the ledger once ``tx`` commits; return the work to ring for."""
    return [ref for accepted in record_events(tx, events) for ref in accepted.work] if events else []


def count_topics(events: Sequence[NewEvent]) -> Counter[str]:
    """Return how many of ``events`` are of each topic."""
    return Counter(event.topic for event in events)


def _event(shop_id: int, found: PulledEvent, now: datetime, request_id: str) -> NewEvent:
    body = orjson.dumps(found.body)
    digest = hashlib.sha256(body).hexdigest()[:24]
    return NewEvent(
        shop_id=shop_id,
        provider="shopify",
        topic=found.topic,
        delivery_key=f"pull:{found.gid.removeprefix('gid://shopify/')}:{digest}",
        body=body,
        received_at=now,
        occurred_at=found.occurred_at,
        request_id=request_id,
        origin="backfill",
        key=object_key(found.topic, found.body),
    )
