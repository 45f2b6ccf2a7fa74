"""Stores the start and the result of each send in the outbox.

Between the two a mail is ``sending``. It stays ``sending`` if its worker dies in that time, so the time is
kept short.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.audit.chain import AuditEntry
from services.core.batch_writer import BatchWriter
from services.core.clock import utc_now
from services.core.db import KeptConnection, is_connection_fault, transaction
from services.core.errors import Misconfigured, WorkError
from services.core.pg_arrays import arrays
from services.ledger.rate_limits import record_throttle
from services.mail.delivery_plan import MailDelivery, plan_entry
from services.mail.outbox import make_storable
from services.mail.transports import MailRoute
from services.shops.connections import record_connection_broken, record_connection_ok
from services.shops.secret_uses import SecretUses

RESULT_RETRY_SECONDS = 25.0
"""How long a result is retried while the database is unavailable."""
_UNLIMITED = 1000.0

# The number of attempts is the fence: of two workers with the same row only one updates it.
_START = """
update mail_outbox m
   set status = 'sending', attempt = m.attempt + 1, transport = v.transport,
       account = v.account, message_id = v.message_id,
       work_id = v.work_id, error_code = null, last_error = null,
       handed_over_at = case when m.status = 'sending' then m.handed_over_at else %(now)s end
  from unnest(%(id)s::bigint[], %(attempt)s::int[], %(transport)s::text[], %(account)s::text[],
              %(message_id)s::text[],
              %(work_id)s::bigint[]) as v(id, attempt, transport, account, message_id, work_id)
 where m.id = v.id and m.attempt = v.attempt and m.status in ('queued', 'refused', 'sending')
returning m.id
"""

# "sent" counts even if another worker has the row now; any other result only for the last attempt.
_END = """
update mail_outbox m
   set status = v.status, provider_id = v.provider_id, error_code = v.error_code, last_error = v.last_error,
       sent_at = case when v.status = 'sent' then %(now)s::timestamptz end,
       handed_over_at = case when v.status = 'queued' then null else m.handed_over_at end
  from unnest(%(id)s::bigint[], %(attempt)s::int[], %(status)s::text[], %(provider_id)s::text[],
              %(error_code)s::text[], %(last_error)s::text[])
       as v(id, attempt, status, provider_id, error_code, last_error)
 where m.id = v.id and ((v.status = 'sent' and m.status in ('sending', 'unknown'))
                        or (m.status = 'sending' and m.attempt = v.attempt))
returning m.id
"""


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of one attempt. ``status`` None leaves the row as it is and stores the route's state only.

    ``summary`` is the audit text (empty: no entry). ``pause`` is how long the transport accepts nothing.
    """

    delivery: MailDelivery
    status: str | None
    fault: WorkError | None = None
    provider_id: str = ""
    summary: str = ""
    pause: timedelta | None = None

    @property
    def is_broken(self) -> bool:
        """Whether the transport refuses our credentials, or a quota is used up."""
        is_quota = self.pause is not None and self.fault is not None and "quota" in self.fault.code
        return is_quota or isinstance(self.fault, Misconfigured)


class DeliveryLog:
    """Writes starts and results; threads that write at the same time share a transaction."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._connection: KeptConnection | None = None
        self._uses = SecretUses()
        self._starts: BatchWriter[MailDelivery, bool] = BatchWriter(self._write_starts)
        self._results: BatchWriter[SendResult, None] = BatchWriter(self._write_results)

    def begin(self, delivery: MailDelivery) -> bool:
        """Set the mail to ``sending``; return False if another worker changed it first."""
        return self._starts.submit(delivery)

    def end(self, result: SendResult) -> None:
        """Store the result in the outbox and the audit, in one transaction.

        Retries while the database is unavailable: the result cannot be found out later.
        """
        give_up_at = time.monotonic() + RESULT_RETRY_SECONDS
        pause_seconds = 0.1
        while True:
            try:
                return self._results.submit(result)
            except Exception as fault:
                if not is_connection_fault(fault) or time.monotonic() > give_up_at:
                    raise
            time.sleep(pause_seconds)
            pause_seconds = min(2.0, 2 * pause_seconds)

    def _write_starts(self, group: Sequence[MailDelivery]) -> list[bool]:
        rows = []
        for one in group:
            ids = (one.row.id, one.row.attempt, one.item.id, one.message_id)
            rows.append((*ids, one.route.transport, one.route.fingerprint))
        values = arrays("id attempt work_id message_id transport account", rows)
        if self._connection is None:
            self._connection = KeptConnection(self._engine())
        with self._connection() as tx:
            updated = set(tx.exec_driver_sql(_START, {**values, "now": utc_now()}).scalars())
        return [one.row.id in updated for one in group]

    def _write_results(self, group: Sequence[SendResult]) -> list[None]:
        now = utc_now()
        with transaction(self._engine()) as tx:
            changed = _write_rows(tx, group, now)
            entries = [
                plan_entry(one.delivery, one.status, one.summary)
                for one in group
                if one.status and one.summary and one.delivery.row.id in changed
            ]
            routes = {one.delivery.route for one in group}
            for route in sorted(routes, key=lambda route: (route.account, route.owner or 0)):
                entries += _write_route(tx, route, [one for one in group if one.delivery.route == route], now)
            append_all(tx, entries, now)
        sent = {one.delivery.route for one in group if one.status == "sent"}
        calls = [(route.owner, route.transport) for route in sent if route.owner]
        self._uses.record_calls(self._engine(), calls, now)
        return [None] * len(group)


def _write_rows(tx: Connection, group: Sequence[SendResult], now: datetime) -> set[int]:
    rows = []
    for one in group:
        if one.status is not None:
            row, fault = one.delivery.row, one.fault
            error = (fault.code, make_storable(fault.detail[:500])) if fault else (None, None)
            rows.append((row.id, row.attempt + 1, one.status, make_storable(one.provider_id[:500]), *error))
    if not rows:
        return set()
    values = arrays("id attempt status provider_id error_code last_error", rows)
    return set(tx.exec_driver_sql(_END, {**values, "now": now}).scalars())


def _write_route(
    tx: Connection, route: MailRoute, results: Sequence[SendResult], now: datetime
) -> list[AuditEntry]:
    pause = max((one.pause for one in results if one.pause is not None), default=None)
    if pause is not None:
        # An empty bucket stops every process from sending through the account.
        rate = route.rate_per_second or _UNLIMITED
        record_throttle(
            tx,
            route.account,
            route.limit,
            maximum=max(1.0, rate),
            available=-pause.total_seconds() * rate,
            restore_per_second=rate,
            now=now,
        )
    broken = [one.fault for one in results if one.fault is not None and one.is_broken]
    if broken:
        code, detail = broken[-1].code, broken[-1].detail
        return record_connection_broken(tx, route.owner, route.transport, code, detail, now)
    if any(one.status == "sent" for one in results):
        return record_connection_ok(tx, route.owner, route.transport, now)
    return []
