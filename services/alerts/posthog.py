"""Topic ``posthog_capture``: sends events to PostHog."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.core.errors import WorkError
from services.core.settings import get_settings
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.providers.http import get_http_client


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
