"""Topic ``reconcile``: a shop's charges of one day are held against Stripe's own list."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection

from services.books.compare import Booked, Break, find_breaks
from services.core.arrays import text_array
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.errors import Misconfigured, Refused, WorkError
from services.core.settings import get_settings
from services.jobs.daily import JOB
from services.jobs.due import day_bounds
from services.jobs.runs import record_run_ended
from services.ledger.work import Done, NewWork, Outcome, Prepared, WorkItem
from services.providers.stripe_api import Charge, list_charges
from services.shops.secrets import get_secret

MAIL_TOPIC = "reconciliation_mail"


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

_CLOSE_BREAKS = """
update reconciliation_breaks set closed_at = %(now)s
 where shop_id = %(shop_id)s and day = %(day)s and closed_at is null
   and (kind, provider_id) not in (select * from unnest(%(kind)s::text[], %(provider_id)s::text[]))
"""

_UPSERT_BREAKS = """
insert into reconciliation_breaks as b (shop_id, day, kind, provider_id, ours, theirs, found_at)
select %(shop_id)s, %(day)s, v.kind, v.provider_id, v.ours::jsonb, v.theirs::jsonb, %(now)s
  from unnest(%(kind)s::text[], %(provider_id)s::text[], %(ours)s::text[], %(theirs)s::text[])
       as v(kind, provider_id, ours, theirs)
on conflict (shop_id, day, kind, provider_id) do update set
   ours = excluded.ours, theirs = excluded.theirs, closed_at = null,
   found_at = case when b.closed_at is null then b.found_at else excluded.found_at end
"""

_RECORD_SUMMARY = """
insert into shop_config as c (shop_id, last_daily_run) values (%(shop_id)s, %(summary)s::jsonb)
on conflict (shop_id) do update set last_daily_run = excluded.last_daily_run
 where coalesce(c.last_daily_run ->> 'day', '') <= excluded.last_daily_run ->> 'day'
"""


class Reconcile:
    """Reconciles days. ``list_theirs`` asks Stripe; ``clock`` dates the result."""

    def __init__(
        self, list_theirs: ListCharges = list_charges, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._list_theirs, self._clock = list_theirs, clock

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[Prepared | Outcome]:
        """Return, per item, the comparison to make, with our side of it read.

        A shop that has nothing to do with Stripe is ``no_stripe`` and its run is done; one that takes
        Stripe's webhooks but has no ``stripe-key`` is ``Misconfigured``.
        """
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> Prepared | Outcome:
        try:
            day = _read_day(tx, item)
            key = get_secret(tx, item.shop_id, "stripe-key")
            ours = [Booked(*row) for row in tx.exec_driver_sql(_FIND_OURS, day._asdict())]
            if key is None:
                return _settle_without_key(tx, day, ours, now)
        except WorkError as fault:
            return fault
        except SealBroken as fault:
            return Misconfigured("stripe.key_unreadable", f"the shop's stripe-key does not open: {fault}")
        return Prepared(item=item, act=partial(self._compare, item, day, ours, key))

    def _compare(self, item: WorkItem, day: Day, ours: Sequence[Booked], key: str) -> Outcome:
        base_url = get_settings().stripe_api_base
        try:
            theirs = [_booked(charge) for charge in self._list_theirs(key, base_url, day.begins, day.ends)]
        except WorkError as fault:
            return fault
        breaks = find_breaks(ours, theirs)
        stats = {"ours": len(ours), "theirs": len(theirs), "breaks": len(breaks)}
        return Done(
            "breaks" if breaks else "clean", partial(_record, day, breaks, stats, self._clock(), item)
        )


def _read_day(tx: Connection, item: WorkItem) -> Day:
    asked = item.payload.get("day")
    try:
        day = date.fromisoformat(asked)  # type: ignore[arg-type] # what is not text is refused here
    except (TypeError, ValueError):
        raise Refused("reconcile.no_day", f"day is {asked!r}: it should be like 2026-11-20") from None
    zone = tx.exec_driver_sql("select timezone from shops where id = %(id)s", {"id": item.shop_id}).scalar()
    if zone is None:
        raise Refused("reconcile.no_shop", f"there is no shop with the id {item.shop_id}")
    return Day(item.shop_id, day, *day_bounds(ZoneInfo(zone), day))


def _settle_without_key(tx: Connection, day: Day, ours: Sequence[Booked], now: datetime) -> Outcome:
    if ours or get_secret(tx, day.shop_id, "stripe-webhook") is not None:
        return Misconfigured(
            "stripe.no_key",
            "the shop takes Stripe's webhooks but has no stripe-key to compare with: record a restricted "
            "key that may read charges, then requeue this",
        )
    _record_run(tx, day, {"ours": 0, "theirs": 0, "breaks": 0}, now, "no_stripe")
    return Done("no_stripe")


def _booked(charge: Charge) -> Booked:
    status = "paid" if charge.status == "succeeded" else charge.status
    return Booked(charge.id, charge.amount_cents, charge.currency, status)


def _record(
    day: Day,
    breaks: Sequence[Break],
    stats: dict[str, int],
    now: datetime,
    item: WorkItem,
    tx: Connection,
) -> Sequence[NewWork]:
    """The day's open breaks are exactly ``breaks``, its run has ended, and a mail is due if there are any."""
    found: dict[str, Any] = {
        "shop_id": day.shop_id,
        "day": day.day,
        "now": now,
        "kind": text_array([b.kind for b in breaks]),
        "provider_id": text_array([b.provider_id for b in breaks]),
        "ours": text_array([_json(b.ours) for b in breaks]),
        "theirs": text_array([_json(b.theirs) for b in breaks]),
    }
    tx.exec_driver_sql(_CLOSE_BREAKS, found)
    if breaks:
        tx.exec_driver_sql(_UPSERT_BREAKS, found)
    _record_run(tx, day, stats, now, "breaks" if breaks else "clean")
    if not breaks:
        return ()
    period = day.day.isoformat()
    return (
        NewWork(
            shop_id=day.shop_id,
            topic=MAIL_TOPIC,
            key=period,
            payload={"day": period},
            request_id=item.request_id,
        ),
    )


def _record_run(tx: Connection, day: Day, stats: dict[str, int], now: datetime, status: str) -> None:
    period = day.day.isoformat()
    record_run_ended(tx, job=JOB, shop_id=day.shop_id, period=period, now=now, stats=stats)
    summary = {"day": period, "at": now.isoformat(), "status": status, **stats}
    tx.exec_driver_sql(_RECORD_SUMMARY, {"shop_id": day.shop_id, "summary": orjson.dumps(summary).decode()})


def _json(charge: Booked | None) -> str | None:
    return None if charge is None else orjson.dumps(charge.as_json()).decode()
