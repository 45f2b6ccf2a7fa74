"""Topic ``posthog_capture``: sends events to PostHog."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection

from services.core.errors import WorkError
from services.core.settings import get_settings
from services.ledger.work import FLEET, Done, NewWork, Outcome, PreparedCall, WorkItem
from services.providers.http import get_http_client

_NAMESPACE = UUID("0c1f2a53-6d0e-4a35-9a80-3a1f0f5b7d21")


def plan_capture(
    event: str,
    shop_id: int | None,
    identity: str,
    properties: Mapping[str, Any],
    now: datetime,
    *,
    key: str,
    origin: str,
    request_id: str,
) -> list[NewWork]:
    """Return the work that sends ``event`` to PostHog; none without ``POSTHOG_KEY``.

    Events of one ``identity`` have one uuid: PostHog counts them once.
    """
    if not get_settings().posthog_key:
        return []
    payload = {
        "event": event,
        "distinct_id": "fleet" if shop_id is None else f"shop-{shop_id}",
        "uuid": str(uuid5(_NAMESPACE, identity)),
        "timestamp": now.isoformat(),
        "properties": {"shop_id": shop_id, **properties},
    }
    return [
        NewWork(
            shop_id=shop_id or FLEET,
            topic="posthog_capture",
            key=key,
            payload=payload,
            origin=origin,
            request_id=request_id,
        )
    ]


class PosthogCaptureHandler:
    """Sends events. An event that is sent twice has the same uuid, so PostHog counts it once."""

    def prepare(
        self,
        tx: Connection,  # noqa: ARG002 - the arguments of every handler
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002
    ) -> Sequence[PreparedCall | Outcome]:
        """Return a call per item, or ``disabled`` if ``POSTHOG_KEY`` is not set any more."""
        settings = get_settings()
        if not settings.posthog_key:
            return [Done("disabled") for _ in items]
        return [
            PreparedCall(
                item=item, act=partial(_send, settings.posthog_host, settings.posthog_key, item.payload)
            )
            for item in items
        ]


def _send(host: str, key: str, event: Mapping[str, Any]) -> Outcome:
    # Imported here: every worker loads this module, and few call PostHog.
    from services.providers.posthog import send_events

    try:
        return Done(send_events(get_http_client(), host, key, [event]))
    except WorkError as fault:
        return fault
