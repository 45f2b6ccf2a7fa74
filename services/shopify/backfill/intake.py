"""Records pulled objects as inbound events, each state once.

The delivery key is the object and a digest of its payload, so a state enters once however often a list shows
it. Known keys are looked up first: the ledger would count them as duplicate deliveries.
"""

import hashlib
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


def find_new_events(
    tx: Connection, shop_id: int, pulled: Sequence[PulledEvent], now: datetime, request_id: str
) -> list[NewEvent]:
    """Return the events of ``pulled`` that are not in the ledger yet."""
    events = {event.identity: event for event in (_event(shop_id, one, now, request_id) for one in pulled)}
    if not events:
        return []
    values = {
        "shop_id": shop_id,
        "topic": text_array([event.topic for event in events.values()]),
        "delivery_key": text_array([event.delivery_key for event in events.values()]),
    }
    known = {(topic, key) for topic, key in tx.exec_driver_sql(_FIND_KNOWN, values)}
    return [event for event in events.values() if (event.topic, event.delivery_key) not in known]


def record_pulled_events(tx: Connection, events: Sequence[NewEvent]) -> list[WorkRef]:
    """Record ``events``; return their work, of which the workers are notified after the commit."""
    return [ref for accepted in record_events(tx, events) for ref in accepted.work] if events else []


def _event(shop_id: int, pulled: PulledEvent, now: datetime, request_id: str) -> NewEvent:
    body = orjson.dumps(pulled.body)
    digest = hashlib.sha256(body).hexdigest()[:24]
    return NewEvent(
        shop_id=shop_id,
        provider="shopify",
        topic=pulled.topic,
        delivery_key=f"pull:{pulled.gid.removeprefix('gid://shopify/')}:{digest}",
        body=body,
        received_at=now,
        occurred_at=pulled.occurred_at,
        request_id=request_id,
        origin="backfill",
        key=object_key(pulled.topic, pulled.body),
    )
