"""Job ``daily-reconciliation``: a shop's charges of one day are held against Stripe's own list."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial
from typing import NamedTuple, Protocol

import orjson
from sqlalchemy import Connection

from services.audit.chain import Entry
from services.books.break_notice import record_break_mail
from services.books.breaks import record_breaks
from services.books.compare import Booked, Break, find_breaks
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.jobs.due import period_bounds
from services.jobs.effect import Finished, Run
from services.ledger.work import Recorded
from services.providers.stripe_api import Charge, list_charges
from services.shops.secrets import get_secret

JOB = "daily-reconciliation"


class ListCharges(Protocol):
    """Yields the charges that Stripe has of [``created_gte``, ``created_lt``)."""

    def __call__(
        self, key: str, base_url: str, created_gte: datetime, created_lt: datetime
    ) -> Iterator[Charge]:
        """Raise a ``WorkError`` where Stripe does not answer."""
        ...


class Day(NamedTuple):
    """A shop's day, as the shop's own clocks bound it."""

    shop_id: int
    day: date
    begins: datetime
    ends: datetime


_FIND_OURS = """
select provider_id, amount_cents, currency, status from transactions
 where shop_id = %(shop_id)s and kind = 'charge' and occurred_at >= %(begins)s and occurred_at < %(ends)s
"""

_RECORD_SUMMARY = """
insert into shop_config as c (shop_id, last_daily_run) values (%(shop_id)s, %(summary)s::jsonb)
on conflict (shop_id) do update set last_daily_run = excluded.last_daily_run
 where coalesce(c.last_daily_run ->> 'day', '') <= excluded.last_daily_run ->> 'day'
"""


class Reconcile:
    """Reconciles days: the work of the job ``daily-reconciliation``.

    ``list_theirs`` asks Stripe; ``clock`` dates the result.
    """

    def __init__(
        self, list_theirs: ListCharges = list_charges, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._list_theirs, self._clock = list_theirs, clock

    def __call__(self, run: Run) -> Finished:
        """The shop's day is held against Stripe's list, and its open breaks are exactly those found.

        A shop that has nothing to do with Stripe is ``no_stripe``; one that takes Stripe's webhooks but
        has no ``stripe-key`` is ``Misconfigured``.
        """
        assert run.shop_id is not None  # noqa: S101 - the job is per shop
        begins, ends = period_bounds(run.covers, run.period, run.zone)
        day = Day(run.shop_id, date.fromisoformat(run.period), begins, ends)
        with transaction() as tx:
            try:
                key = get_secret(tx, day.shop_id, "stripe-key")
            except SealBroken as fault:
                why = f"the shop's stripe-key does not open: {fault}"
                raise Misconfigured("stripe.key_unreadable", why) from fault
            ours = [Booked(*row) for row in tx.exec_driver_sql(_FIND_OURS, day._asdict())]
            if key is None:
                return self._finish_without_key(tx, day, ours)
        base_url = get_settings().stripe_api_base
        theirs = [_booked(charge) for charge in self._list_theirs(key, base_url, day.begins, day.ends)]
        breaks = find_breaks(ours, theirs)
        stats = {"ours": len(ours), "theirs": len(theirs), "breaks": len(breaks)}
        record = partial(_record, day, breaks, stats, self._clock(), run.request_id)
        return Finished(stats=stats, verdict="breaks" if breaks else "clean", record=record)

    def _finish_without_key(self, tx: Connection, day: Day, ours: Sequence[Booked]) -> Finished:
        if ours or get_secret(tx, day.shop_id, "stripe-webhook") is not None:
            raise Misconfigured(
                "stripe.no_key",
                "the shop takes Stripe's webhooks but has no stripe-key to compare with: record a restricted "
                "key that may read charges, then requeue this",
            )
        stats = {"ours": 0, "theirs": 0, "breaks": 0}
        record = partial(_record_no_stripe, day, stats, self._clock())
        return Finished(stats=stats, verdict="no_stripe", record=record)


def _booked(charge: Charge) -> Booked:
    status = "paid" if charge.status == "succeeded" else charge.status
    return Booked(charge.id, charge.amount_cents, charge.currency, status)


def _record(
    day: Day,
    breaks: Sequence[Break],
    stats: dict[str, int],
    now: datetime,
    request_id: str,
    tx: Connection,
) -> Recorded:
    """The day's open breaks are exactly ``breaks``, and a mail is due if there are any."""
    changed = record_breaks(tx, day.shop_id, day.day, breaks, now)
    _record_summary(tx, day, stats, now, "breaks" if breaks else "clean")
    mails = record_break_mail(tx, day.shop_id, day.day, now, request_id=request_id) if breaks else []
    entry = Entry(day.shop_id, f"job {JOB}", "reconcile", request_id, changed)
    return Recorded(mails, [entry] if changed else ())


def _record_no_stripe(day: Day, stats: dict[str, int], now: datetime, tx: Connection) -> Recorded:
    _record_summary(tx, day, stats, now, "no_stripe")
    return Recorded()


def _record_summary(tx: Connection, day: Day, stats: dict[str, int], now: datetime, status: str) -> None:
    summary = {"day": day.day.isoformat(), "at": now.isoformat(), "status": status, **stats}
    tx.exec_driver_sql(_RECORD_SUMMARY, {"shop_id": day.shop_id, "summary": orjson.dumps(summary).decode()})
