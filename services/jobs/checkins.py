"""Topic ``sentry_checkin``: Sentry Crons hears that a round began, and how it ended."""

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
    """Sends check-ins. Each may be sent twice: Sentry knows it by its id, and takes it once."""

    def prepare(
        self,
        tx: Connection,
        items: Sequence[WorkItem],
        now: datetime,  # noqa: ARG002 - the ledger's form
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, the call; ``superseded`` for the begin of a round whose end is told already.

        After an ``ok`` an ``in_progress`` of the same id would open the check-in again.
        """
        settings = get_settings()
        if not settings.sentry_dsn:
            return [Done("disabled") for _ in items]
        closed = find_closed(tx, {item.payload["round"] for item in items})
        return [
            Done("superseded")
            if item.payload["status"] == "in_progress" and item.payload["round"] in closed
            else PreparedCall(
                item=item, act=partial(_send, settings.sentry_dsn, settings.environment, item.payload)
            )
            for item in items
        ]


def _send(dsn: str, environment: str, payload: Mapping[str, Any]) -> Outcome:
    # Loaded where it is used: every worker knows this module, and few fleets have a DSN.
    from services.providers.sentry_crons import send_checkin

    checkin = {name: value for name, value in payload.items() if name != "round"}
    try:
        send_checkin(get_http_client(), dsn, checkin | {"environment": environment})
    except WorkError as fault:
        return fault
    return Done("delivered")
