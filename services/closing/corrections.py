"""What became of closed months since: they stand as they were told, and what changed is told in the next.

Pure but for the rows it reads and writes. A difference is found against the figures of the closing and every
correction since, so that it is told once.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.closing.totals import Accounts
from services.core.pg_arrays import int_array, text_array


class Correction(NamedTuple):
    """An account of a closed ``period`` came to ``before`` as it was told, and comes to ``after`` now."""

    period: str
    account: str
    currency: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """By how much it differs."""
        return self.after - self.before


class ClosedMonth(NamedTuple):
    """A month that was closed, as its row has it."""

    period: str
    closed_at: datetime
    figures: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]
    manifest_key: str
    manifest_sha256: str


_FIND_CLOSED = """
select period, closed_at, figures, files, manifest_key, manifest_sha256 from closed_periods
 where shop_id = %(shop_id)s and (%(since)s::text is null or period >= %(since)s)
   and (%(until)s::text is null or period <= %(until)s)
 order by period
"""

_FIND_TOLD = """
select period, account, currency, before_cents, after_cents from period_corrections
 where shop_id = %(shop_id)s and (%(period)s::text is null or period = %(period)s)
   and (%(found_in)s::text is null or found_in = %(found_in)s)
 order by period, id
"""

# One row per account and month that finds it: until that month is closed, a later look moves its end.
_RECORD = """
insert into period_corrections as c
       (shop_id, period, found_in, account, currency, before_cents, after_cents, at)
select %(shop_id)s, v.period, %(found_in)s, v.account, v.currency, v.before_cents, v.after_cents, %(now)s
  from unnest(%(period)s::text[], %(account)s::text[], %(currency)s::text[], %(before)s::bigint[],
              %(after)s::bigint[]) as v(period, account, currency, before_cents, after_cents)
on conflict (shop_id, period, found_in, account, currency)
do update set after_cents = excluded.after_cents, at = excluded.at
"""

_FIND_NEWEST = "select max(period) from closed_periods where shop_id = %(shop_id)s"


def list_closed_months(
    tx: Connection, shop_id: int, *, since: str | None = None, until: str | None = None
) -> list[ClosedMonth]:
    """Return the shop's closed months from ``since`` to ``until``, both included."""
    values = {"shop_id": shop_id, "since": since, "until": until}
    return [ClosedMonth(*row) for row in tx.exec_driver_sql(_FIND_CLOSED, values)]


def find_newest_closed(tx: Connection, shop_id: int) -> str | None:
    """Return the newest month that was closed."""
    newest: str | None = tx.exec_driver_sql(_FIND_NEWEST, {"shop_id": shop_id}).scalar()
    return newest


def list_corrections(
    tx: Connection,
    shop_id: int,
    *,
    period: str | None = None,
    found_in: str | None = None,
    keep_all: bool = False,
) -> list[Correction]:
    """Return what was told late, of a month or in one, in the order it was found.

    What came back to what it was is left out unless ``keep_all``.
    """
    values = {"shop_id": shop_id, "period": period, "found_in": found_in}
    found = [Correction(*row) for row in tx.exec_driver_sql(_FIND_TOLD, values)]
    return [correction for correction in found if keep_all or correction.change]


def plan_corrections(
    period: str, told: Mapping[str, Mapping[str, int]], since: Sequence[Correction], today: Accounts
) -> list[Correction]:
    """Return what differs between what was told of ``period`` and what its rows come to today."""
    known = {(currency, account): cents for currency, of in told.items() for account, cents in of.items()}
    known.update({(c.currency, c.account): c.after for c in since})
    now = {(currency, account): cents for currency, of in today.items() for account, cents in of.items()}
    found = [
        Correction(period, account, currency, known.get(key, 0), now.get(key, 0))
        for key in sorted(known.keys() | now.keys())
        for currency, account in (key,)
    ]
    return [correction for correction in found if correction.change]


def record_corrections(
    tx: Connection, shop_id: int, found_in: str, corrections: Sequence[Correction], now: datetime
) -> None:
    """The corrections are rows of the month ``found_in``, which tells of them when it is closed."""
    if corrections:
        values = {
            "shop_id": shop_id,
            "found_in": found_in,
            "now": now,
            "period": text_array([c.period for c in corrections]),
            "account": text_array([c.account for c in corrections]),
            "currency": text_array([c.currency for c in corrections]),
            "before": int_array(c.before for c in corrections),
            "after": int_array(c.after for c in corrections),
        }
        tx.exec_driver_sql(_RECORD, values)


def merge_corrections(told: Sequence[Correction], found: Sequence[Correction]) -> list[Correction]:
    """Return the corrections of one month: an account found twice goes from its first to its last figure."""
    merged: dict[tuple[str, str, str], Correction] = {}
    for correction in (*told, *found):
        key = correction[:3]
        first = merged.get(key, correction)
        merged[key] = correction._replace(before=first.before)
    return [correction for _, correction in sorted(merged.items()) if correction.change]


def next_month(period: str) -> str:
    """Return the month after: ``2026-12`` has ``2027-01``."""
    return shift_month(period, 1)


def shift_month(period: str, months: int) -> str:
    """Return the month so many months away."""
    count = int(period[:4]) * 12 + int(period[5:7]) - 1 + months
    return f"{count // 12:04d}-{count % 12 + 1:02d}"
