"""The inputs of a month close, read in one snapshot: the shop, its tax profile, and new corrections."""

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

MONTHS_CHECKED = 12
"""Closed months that are checked for corrections when a month is closed."""

_PROVINCE = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")

_ONE_STATE = "set transaction isolation level repeatable read, read only"

_FIND_HOME = "select province from storefronts where shop_id = %(shop_id)s"


def use_one_snapshot(tx: Connection) -> None:
    """All reads of ``tx`` have one snapshot; call this first in it."""
    tx.exec_driver_sql(_ONE_STATE)


def get_close_inputs(tx: Connection, shop: Shop, period: str, zone: ZoneInfo) -> CloseInputs:
    """Return the inputs of the package of ``period``, including the figures of the month before."""
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
    """Return the bounds of ``period``; raise ``ValueError`` if it is not a month."""
    begins, ends = period_bounds(Covers.MONTH, period, zone)
    return SalesPeriod(shop_id, begins, ends, home, profile.exempt_array)


def find_profile_at_home(tx: Connection, shop_id: int) -> TaxProfile:
    """Return the shop's tax profile with the province of counter sales.

    That is the profile's own, else that of the shop at Shopify; empty if neither is known.
    """
    profile = find_tax_profile(tx, shop_id)
    if profile.province:
        return profile
    at_shopify = tx.exec_driver_sql(_FIND_HOME, {"shop_id": shop_id}).scalar() or ""
    return replace(profile, province=at_shopify if _PROVINCE.fullmatch(at_shopify) else "")


def find_new_corrections(
    tx: Connection, shop_id: int, closed: Sequence[ClosedMonth], costs: Mapping[str, Costs | None]
) -> list[Correction]:
    """Return the differences of the ``closed`` months' figures to what was recorded before.

    ``costs`` by month are those of its closing. If they are lost (None), the cost of goods is not compared.
    """
    found = []
    own = find_tax_profile(tx, shop_id)
    for month in closed:
        zone, home = ZoneInfo(month.figures["zone"]), month.figures["home"]
        profile = own.at_closing(home, month.figures.get("registered"))
        bounds = get_month(shop_id, month.period, zone, home, profile)
        of_closing = costs[month.period]
        today = get_figures(tx, bounds, zone, profile, of_closing)
        recorded = list_corrections(tx, shop_id, period=month.period, keep_all=True)
        late = plan_corrections(month.period, month.figures["accounts"], recorded, today.accounts)
        unknown = {
            *NEW_ACCOUNTS.get(month.figures["format"], ()),
            *(["cost_of_goods"] if of_closing is None else []),
        }
        found += [c for c in late if c.account not in unknown]
    return found


def list_package_corrections(
    tx: Connection, shop_id: int, period: str, found: Sequence[Correction]
) -> list[Correction]:
    """Return the corrections in the package of ``period``: those recorded, and ``found`` now."""
    return merge_corrections(list_corrections(tx, shop_id, found_in=period), found)


def _accounts_of(
    tx: Connection, shop_id: int, period: str, zone: ZoneInfo, profile: TaxProfile, home: str
) -> Accounts:
    """Return the accounts of a month: as it was closed, else from today's rows."""
    closed = list_closed_months(tx, shop_id, since=period, until=period)
    if closed:
        accounts: Accounts = closed[0].figures["accounts"]
        return accounts
    return get_figures(tx, get_month(shop_id, period, zone, home, profile), zone, profile).accounts
