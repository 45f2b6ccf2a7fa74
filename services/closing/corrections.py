"""Closed months and their corrections: a difference found after the close is a correction.

A difference is computed against the closed figures and every correction since, so that it is recorded once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.closing.sale_items import make_month_period
from services.closing.tax_profile import find_tax_profile
from services.closing.totals import NEW_ACCOUNTS, Accounts, Costs, get_figures
from services.core.pg_arrays import arrays

MONTHS_CHECKED = 12
"""Closed months that are checked for corrections when a month is closed."""


class Correction(NamedTuple):
    """An account of a closed ``period`` had ``before`` cents and has ``after`` cents now."""

    period: str
    account: str
    currency: str
    before: int
    after: int

    @property
    def change(self) -> int:
        return self.after - self.before


class ClosedMonth(NamedTuple):
    period: str
    closed_at: datetime
    figures: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]
    manifest_key: str
    manifest_sha256: str

    @property
    def folder(self) -> str:
        """The prefix of its files in the archive store."""
        return self.manifest_key.rpartition("/")[0] + "/"


_LIST_CLOSED = f"""
select {", ".join(ClosedMonth._fields)} from closed_periods
 where shop_id = %(shop_id)s and (%(since)s::text is null or period >= %(since)s)
   and (%(until)s::text is null or period <= %(until)s)
 order by period
"""  # noqa: S608

_LIST_CORRECTIONS = """
select period, account, currency, before_cents as before, after_cents as after from period_corrections
 where shop_id = %(shop_id)s and (%(period)s::text is null or period = %(period)s)
   and (%(found_in)s::text is null or found_in = %(found_in)s)
 order by period, id
"""

# One row per account and per month that finds it. Until that month is closed, a later run updates the row.
_RECORD = """
insert into period_corrections as c
       (shop_id, period, found_in, account, currency, before_cents, after_cents, at)
select %(shop_id)s, v.period, %(found_in)s, v.account, v.currency, v.before_cents, v.after_cents, %(now)s
  from unnest(%(period)s::text[], %(account)s::text[], %(currency)s::text[], %(before)s::bigint[],
              %(after)s::bigint[]) as v(period, account, currency, before_cents, after_cents)
on conflict (shop_id, period, found_in, account, currency)
do update set after_cents = excluded.after_cents, at = excluded.at
"""


def list_closed_months(
    tx: Connection, shop_id: int, *, since: str | None = None, until: str | None = None
) -> list[ClosedMonth]:
    """Return the shop's closed months from ``since`` to ``until``, both included, oldest first."""
    values = {"shop_id": shop_id, "since": since, "until": until}
    return [ClosedMonth(**row._mapping) for row in tx.exec_driver_sql(_LIST_CLOSED, values)]


def list_checked_months(tx: Connection, shop_id: int, period: str) -> list[ClosedMonth]:
    """Return the closed months before ``period`` that are checked for corrections."""
    since, until = shift_month(period, -MONTHS_CHECKED), shift_month(period, -1)
    return list_closed_months(tx, shop_id, since=since, until=until)


def find_closed_month(tx: Connection, shop_id: int, period: str) -> ClosedMonth | None:
    return next(iter(list_closed_months(tx, shop_id, since=period, until=period)), None)


def list_corrections(
    tx: Connection,
    shop_id: int,
    *,
    period: str | None = None,
    found_in: str | None = None,
    keep_all: bool = False,
) -> list[Correction]:
    """Return the corrections of ``period``, or those found in ``found_in``; ``keep_all`` includes zero."""
    values = {"shop_id": shop_id, "period": period, "found_in": found_in}
    found = [Correction(**row._mapping) for row in tx.exec_driver_sql(_LIST_CORRECTIONS, values)]
    return [correction for correction in found if keep_all or correction.change]


def find_new_corrections(
    tx: Connection, shop_id: int, closed: Sequence[ClosedMonth], costs: Mapping[str, Costs | None]
) -> list[Correction]:
    """Return the differences of today's figures of the ``closed`` months to the recorded ones.

    ``costs`` are those at the close, by month. If None (the file is lost), the cost of goods is not compared.
    """
    found = []
    current = find_tax_profile(tx, shop_id)
    for month in closed:
        registered = month.figures.get("registered")
        profile = replace(
            current,
            province=month.figures["home"],
            registered=None if registered is None else frozenset(registered),
        )
        period = make_month_period(shop_id, month.period, ZoneInfo(month.figures["zone"]), profile)
        costs_at_close = costs[month.period]
        accounts = get_figures(tx, period, costs_at_close).accounts
        recorded = list_corrections(tx, shop_id, period=month.period, keep_all=True)
        planned = plan_corrections(month.period, month.figures["accounts"], recorded, accounts)
        unknown = set(NEW_ACCOUNTS.get(month.figures["format"], ()))
        if costs_at_close is None:
            unknown.add("cost_of_goods")
        found += [c for c in planned if c.account not in unknown]
    return found


def plan_corrections(
    period: str, closed: Mapping[str, Mapping[str, int]], since: Sequence[Correction], today: Accounts
) -> list[Correction]:
    """Return the differences between ``today`` and the ``closed`` accounts with the corrections ``since``."""
    known = _flatten(closed) | {(c.currency, c.account): c.after for c in since}
    now = _flatten(today)
    found = [
        Correction(period, key[1], key[0], known.get(key, 0), now.get(key, 0))
        for key in sorted(known.keys() | now.keys())
    ]
    return [correction for correction in found if correction.change]


def _flatten(accounts: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], int]:
    return {
        (code, account): cents for code, by_name in accounts.items() for account, cents in by_name.items()
    }


def record_corrections(
    tx: Connection, shop_id: int, found_in: str, corrections: Sequence[Correction], now: datetime
) -> None:
    if corrections:
        values = arrays("period account currency before after", corrections)
        tx.exec_driver_sql(_RECORD, values | {"shop_id": shop_id, "found_in": found_in, "now": now})


def merge_corrections(earlier: Sequence[Correction], later: Sequence[Correction]) -> list[Correction]:
    """Return one correction per account, from its first figure to its last."""
    merged: dict[tuple[str, str, str], Correction] = {}
    for correction in (*earlier, *later):
        key = correction[:3]
        merged[key] = correction._replace(before=merged.get(key, correction).before)
    return [correction for _, correction in sorted(merged.items()) if correction.change]


def shift_month(period: str, months: int) -> str:
    """Return the month ``months`` later, or earlier if negative: one after ``2026-12`` is ``2027-01``."""
    count = int(period[:4]) * 12 + int(period[5:7]) - 1 + months
    return f"{count // 12:04d}-{count % 12 + 1:02d}"
