"""Change the settings of a shop, with all checks: for commands and the console."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.db import transaction
from services.core.errors import WorkError
from services.costs.store import list_month_costs
from services.shopify.shop_access import fetch_shop_domain
from services.shopify.stock.pool_checks import check_joining
from services.shops.shops import Shop, ShopInvalid, check_domain, get_shop, normalize_domain, set_shop


class ShopChange(NamedTuple):
    """A shop before and after a change. ``left``: costs that count against a limit no more."""

    before: Shop
    after: Shop
    left: list[str]


def compare_domain(slug: str, wanted: str) -> str:
    """Compare ``wanted`` with the domain in Shopify's answer; return why it was not checked, or "".

    Raises ``ShopInvalid`` if Shopify returns another domain.
    """
    domain = normalize_domain(wanted)
    with transaction() as tx:
        shop_id = get_shop(tx, slug).id
        check_domain(tx, slug, domain)
    try:
        found = fetch_shop_domain(shop_id, domain)
    except WorkError as fault:
        return f"{domain} was not checked: {fault}. Repeat this later to check it."
    if not found:
        hint = f"record it with `fleet shops secret {slug} shopify-token --stdin` and repeat this"
        return f"{domain} was not checked: {slug} has no shopify-token; {hint}."
    if found != domain:
        raise ShopInvalid(
            f"shopify_domain={domain!r} is not the domain of the shop of the token: "
            f"use {found!r}, or record the token of {domain!r} first"
        )
    return ""


def change_shop(
    tx: Connection, slug: str, wanted: Mapping[str, str], now: datetime, *, by: str, request_id: str
) -> ShopChange:
    """Set the fields ``wanted``; return the shop before and after.

    The caller decides whether ``left`` costs are allowed, and calls ``release_levels`` after the commit if
    the stock owner changed. Raises ``ShopInvalid`` and ``PoolRefused``.
    """
    before = get_shop(tx, slug)
    left_before = _find_left_costs(tx, before, now)
    check_joining(tx, before, wanted.get("stock_owner", ""), wanted.get("stock_location_id", ""))
    after = set_shop(tx, slug, wanted, now=now, by=by, request_id=request_id)
    left = [one for one in _find_left_costs(tx, before, now) if one not in left_before]
    return ShopChange(before, after, left)


def _find_left_costs(tx: Connection, shop: Shop, now: datetime) -> list[str]:
    """Return the costs of this month that do not count against a limit of ``shop``."""
    found = list_month_costs(tx, now, shop_id=shop.id)
    texts = [(one, one.not_converted) for one in found]
    return [
        f"{left} of the {one.kind} costs of {one.month} do not count against {one.limit}"
        for one, left in texts
        if left
    ]
