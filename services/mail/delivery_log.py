"""What the outbox says around the handing over of a mail: before it, that it begins; after it, its fate.

Between the two a mail is ``sending``. Whoever finds it so later knows that a worker went away in just that
moment; so it is kept short, and held by no more mails than are on the line.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.audit.chain import Entry
from services.core.batch_writer import BatchWriter
from services.core.clock import utc_now
from services.core.db import KeptConnection, get_engine, transaction
from services.core.pg_arrays import int_array, text_array
from services.ledger.batch_result import is_connection_fault
from services.ledger.limits import record_throttle
from services.mail.transports import Route
from services.shops.connections import record_connection_broken, record_connection_ok

NOTE_WITHIN_SECONDS = 25.0
"""How long a database that is away is waited for with what became of a mail."""
_UNLIMITED = 1000.0

# The number of attempts is the fence: of two workers that hold the same row only one gets it.
_BEGIN = """
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

# That a mail was sent is true whoever holds the row by now; every other fate is the last attempt's to say.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStarted:
    """A mail that is about to be handed over, for the ``attempt``-th time after so many."""

    mail_id: int
    attempt: int
    transport: str
    account: str
    message_id: str
    work_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """What became of a mail. ``status`` None leaves the row as it is; then only the route is noted.

    ``breaks`` says that the transport refuses our credentials; ``closed_for`` that it takes nothing for
    so long.
    """

    mail_id: int
    attempt: int
    status: str | None
    route: Route
    provider_id: str = ""
    error_code: str | None = None
    last_error: str | None = None
    entry: Entry | None = None
    breaks: bool = False
    closed_for: timedelta | None = None


class DeliveryLog:
    """Writes beginnings and fates, those of many threads together."""

    def __init__(
        self, engine: Callable[[], Engine] = get_engine, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._engine, self._clock = engine, clock
        self._beginner: KeptConnection | None = None
        self._beginnings: BatchWriter[SendStarted, bool] = BatchWriter(self._write_beginnings)
        self._fates: BatchWriter[SendResult, None] = BatchWriter(self._write_fates)

    def begin(self, beginning: SendStarted) -> bool:
        """The mail is ``sending`` and this worker's alone; False where somebody else had it meanwhile."""
        return self._beginnings.submit(beginning)

    def end(self, fate: SendResult) -> None:
        """The outbox says what became of the mail, and so does the audit, in one transaction.

        A database that is away is waited for: what is known now nobody can find out later.
        """
        give_up_at = time.monotonic() + NOTE_WITHIN_SECONDS
        pause_seconds = 0.1
        while True:
            try:
                return self._fates.submit(fate)
            except Exception as fault:
                if not is_connection_fault(fault) or time.monotonic() > give_up_at:
                    raise
            time.sleep(pause_seconds)
            pause_seconds = min(2.0, 2 * pause_seconds)

    def _write_beginnings(self, group: Sequence[SendStarted]) -> list[bool]:
        values: dict[str, Any] = {
            "now": self._clock(),
            "id": int_array(one.mail_id for one in group),
            "attempt": int_array(one.attempt for one in group),
            "transport": text_array([one.transport for one in group]),
            "account": text_array([one.account for one in group]),
            "message_id": text_array([one.message_id for one in group]),
            "work_id": int_array(one.work_id for one in group),
        }
        if self._beginner is None:
            self._beginner = KeptConnection(self._engine())
        with self._beginner() as tx:
            got = set(tx.exec_driver_sql(_BEGIN, values).scalars())
        return [one.mail_id in got for one in group]

    def _write_fates(self, group: Sequence[SendResult]) -> list[None]:
        now = self._clock()
        with transaction(self._engine()) as tx:
            changed = _write_rows(tx, group, now)
            entries = [one.entry for one in group if one.entry is not None and one.mail_id in changed]
            for route in sorted(
                {one.route for one in group}, key=lambda route: (route.account, route.owner or 0)
            ):
                entries += _write_route(tx, route, [one for one in group if one.route == route], now)
            append_all(tx, entries, now)
        return [None] * len(group)


def _write_rows(tx: Connection, group: Sequence[SendResult], now: datetime) -> set[int]:
    told = [one for one in group if one.status is not None]
    if not told:
        return set()
    values: dict[str, Any] = {
        "now": now,
        "id": int_array(one.mail_id for one in told),
        "attempt": int_array(one.attempt for one in told),
        "status": text_array([one.status for one in told]),
        "provider_id": text_array([_kept(one.provider_id) for one in told]),
        "error_code": text_array([one.error_code for one in told]),
        "last_error": text_array([one.last_error and _kept(one.last_error) for one in told]),
    }
    return set(tx.exec_driver_sql(_END, values).scalars())


def _write_route(tx: Connection, route: Route, fates: Sequence[SendResult], now: datetime) -> list[Entry]:
    closed = max((one.closed_for for one in fates if one.closed_for is not None), default=None)
    if closed is not None:
        block_bucket(tx, route, closed, now)
    broken = [one for one in fates if one.breaks]
    if broken:
        last = broken[-1]
        return record_connection_broken(
            tx, route.owner, route.transport, last.error_code or "", last.last_error or "", now
        )
    if any(one.status == "sent" for one in fates):
        return record_connection_ok(tx, route.owner, route.transport, now)
    return []


def block_bucket(tx: Connection, route: Route, wait: timedelta, now: datetime) -> None:
    """Nothing more goes to the route's account until ``wait`` is over, from whatever process."""
    rate = route.rate_per_second or _UNLIMITED
    record_throttle(
        tx,
        route.account,
        route.limit,
        maximum=max(1.0, rate),
        available=-wait.total_seconds() * rate,
        restore_per_second=rate,
        now=now,
    )


def _kept(text: str) -> str:
    return text[:500].replace("\0", "").encode("utf-8", "replace").decode()
