"""Handler of ``sentry_checkin``: sends check-ins to Sentry Crons as runs start and end."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.core.errors import WorkError
from services.core.settings import get_settings
from services.jobs.sentry_monitors import find_closed
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.providers.http import get_http_client


class SentryCheckin:
    """Sends check-ins. One that is sent twice counts once: Sentry knows it by its id."""

    def prepare(
        self,
        tx: Connection,
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002 - the ledger's form
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, the call; ``superseded`` for the start of a check-in that is closed already.

        An ``in_progress`` after the ``ok`` of the same id would open the check-in again.
        """
        settings = get_settings()
        if not settings.sentry_dsn:
            return [Done("disabled") for _ in items]
        closed = find_closed(tx, {item.payload["checkin"] for item in items})
        return [
            Done("superseded")
            if item.payload["status"] == "in_progress" and item.payload["checkin"] in closed
            else PreparedCall(
                item=item, act=partial(_send, settings.sentry_dsn, settings.environment, item.payload)
            )
            for item in items
        ]


def _send(dsn: str, environment: str, payload: Mapping[str, Any]) -> Outcome:
    # Loaded where it is used: every worker knows this module, and few fleets have a DSN.
    from services.providers.sentry_crons import send_checkin

    checkin = {name: value for name, value in payload.items() if name != "checkin"}
    try:
        send_checkin(get_http_client(), dsn, checkin | {"environment": environment})
    except WorkError as fault:
        return fault
    return Done("delivered")
