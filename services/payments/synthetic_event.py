"""An object of Stripe's, as it is now, told as the event that would have told it. Pure.

What was asked of Stripe enters the books by the same door as what Stripe told by itself, so that one
reader, one order of states and one audit hold for both.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import orjson

from services.ledger.accept import NewEvent
from services.providers.stripe import object_key

CLOCKS_APART = timedelta(minutes=1)
"""How far our clock may be ahead of Stripe's: a state counts as seen so much earlier, and loses to any
event that Stripe dates later. It can only be newer than its date says, so nothing is lost by that."""

_TOPICS = MappingProxyType({"dispute": "charge.dispute.updated"})


def plan_state_event(
    shop_id: int,
    source: Mapping[str, Any],
    *,
    delivery_key: str,
    asked_at: datetime,
    now: datetime,
    request_id: str = "",
    not_before: datetime | None = None,
) -> NewEvent:
    """Return the event (``charge.updated``, ``payout.updated``) that tells the state of ``source``.

    ``asked_at`` is when Stripe was asked, before the answer; ``not_before`` is the date of an event that
    is known to be contained in the answer. ``origin`` is ``backfill``.
    """
    kind = str(source.get("object", ""))
    topic = _TOPICS.get(kind, f"{kind}.updated")
    seen_at = max(asked_at - CLOCKS_APART, not_before or asked_at - CLOCKS_APART)
    body = {
        "id": delivery_key,
        "object": "event",
        "type": topic,
        "created": int(seen_at.timestamp()),
        "livemode": source.get("livemode", False),
        "data": {"object": source},
    }
    return NewEvent(
        shop_id=shop_id,
        provider="stripe",
        topic=topic,
        delivery_key=delivery_key,
        body=orjson.dumps(body),
        received_at=now,
        occurred_at=seen_at,
        request_id=request_id,
        origin="backfill",
        key=object_key(body),
    )
