"""Whose month it is, and what is late: what a closing reads of the books, in one state of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.closing.corrections import (
    ClosedMonth,
    Correction,
    list_closed_months,
    list_corrections,
    merge_corrections,
    plan_corrections,
    shift_month,
)
from services.closing.items import SalesPeriod
from services.closing.package import CloseInputs
from services.closing.tax_profile import TaxProfile, find_tax_profile
from services.closing.totals import NEW_ACCOUNTS, Accounts, Costs, get_figures
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.shops.shops import Shop

LOOKED_BACK = 12
"""Closed months that are looked at again when one is closed."""

_PROVINCE = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")

_ONE_STATE = "set transaction isolation level repeatable read, read only"

_FIND_HOME = "select province from storefronts where shop_id = %(shop_id)s"


def use_one_snapshot(tx: Connection) -> None:
    """Everything that ``tx`` reads is of one moment; call this first in it."""
    tx.exec_driver_sql(_ONE_STATE)


def get_close_inputs(tx: Connection, shop: Shop, period: str, zone: ZoneInfo) -> CloseInputs:
    """Return what is needed to make the package of ``period``, the figures of the month before included."""
    profile = find_profile_at_home(tx, shop.id)
    home = profile.province
    before = shift_month(period, -1)
    return CloseInputs(
        shop_id=shop.id,
        slug=shop.slug,
        name=shop.name,
        currency=shop.currency,
        period=period,
        zone=zone,
        month=get_month(shop.id, period, zone, home, profile),
        profile=profile,
        period_before=before,
        accounts_before=_accounts_of(tx, shop.id, before, zone, profile, home),
    )


def get_month(shop_id: int, period: str, zone: ZoneInfo, home: str, profile: TaxProfile) -> SalesPeriod:
    """Return the bounds of ``period``; raise ``ValueError`` for what is no month."""
    begins, ends = period_bounds(Covers.MONTH, period, zone)
    return SalesPeriod(shop_id, begins, ends, home, profile.exempt_array)


def find_profile_at_home(tx: Connection, shop_id: int) -> TaxProfile:
    """Return the shop's tax profile with the province of what is sold over the counter.

    That is the profile's own, else the one of the shop at Shopify; empty where neither is known.
    """
    profile = find_tax_profile(tx, shop_id)
    if profile.province:
        return profile
    at_shopify = tx.exec_driver_sql(_FIND_HOME, {"shop_id": shop_id}).scalar() or ""
    return replace(profile, province=at_shopify if _PROVINCE.fullmatch(at_shopify) else "")


def find_new_corrections(
    tx: Connection, shop_id: int, closed: Sequence[ClosedMonth], costs: Mapping[str, Costs | None]
) -> list[Correction]:
    """Return what the ``closed`` months come to today other than it was told.

    ``costs`` by month: those of its closing. Where they are lost (None) nothing is said of what goods cost.
    """
    found = []
    own = find_tax_profile(tx, shop_id)
    for month in closed:
        zone, home = ZoneInfo(month.figures["zone"]), month.figures["home"]
        profile = own.at_closing(home, month.figures.get("registered"))
        bounds = get_month(shop_id, month.period, zone, home, profile)
        of_closing = costs[month.period]
        today = get_figures(tx, bounds, zone, profile, of_closing)
        told = list_corrections(tx, shop_id, period=month.period, keep_all=True)
        late = plan_corrections(month.period, month.figures["accounts"], told, today.accounts)
        unknown = {
            *NEW_ACCOUNTS.get(month.figures["format"], ()),
            *(["cost_of_goods"] if of_closing is None else []),
        }
        found += [c for c in late if c.account not in unknown]
    return found


def list_corrections_told_in(
    tx: Connection, shop_id: int, period: str, found: Sequence[Correction]
) -> list[Correction]:
    """Return the corrections that the package of ``period`` tells of: found before, and ``found`` now."""
    return merge_corrections(list_corrections(tx, shop_id, found_in=period), found)


def _accounts_of(
    tx: Connection, shop_id: int, period: str, zone: ZoneInfo, profile: TaxProfile, home: str
) -> Accounts:
    """Return the accounts of a month: as it was closed, else by today's rows."""
    closed = list_closed_months(tx, shop_id, since=period, until=period)
    if closed:
        accounts: Accounts = closed[0].figures["accounts"]
        return accounts
    return get_figures(tx, get_month(shop_id, period, zone, home, profile), zone, profile).accounts
