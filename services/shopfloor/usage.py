"""Events of use for PostHog: ``print``, ``scan``, ``assign``, ``undo``, ``release``. They name no person."""

from collections.abc import Mapping
from typing import Any, Unpack

from sqlalchemy import Connection

from services.alerts.posthog import plan_capture
from services.audit.append import Author
from services.ledger.accept import record_work


def record_use(
    tx: Connection,
    event: str,
    shop_id: int,
    identity: str,
    properties: Mapping[str, Any],
    **author: Unpack[Author],
) -> None:
    """Plan that ``event`` is sent to PostHog once for each ``identity``; nothing without ``POSTHOG_KEY``."""
    now, request_id = author["now"], author.get("request_id", "")
    planned = plan_capture(
        event,
        shop_id,
        f"{shop_id}:{event}:{identity}",
        properties,
        now,
        key=f"floor:{identity}",
        origin="floor",
        request_id=request_id,
    )
    record_work(tx, planned, now)
