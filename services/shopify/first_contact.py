"""First contact with a shop: its credentials are checked at Shopify before anything is stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from services.core.errors import Misconfigured, join_faults
from services.providers.provider import SecretInvalid
from services.providers.registry import get_secret_kind
from services.shopify.shop_access import ShopAccess, open_admin_with_stored_token
from services.shopify.uninstall import record_installed
from services.shops.secrets import record_secret
from services.shops.shops import Shop, ShopInvalid, set_shop

if TYPE_CHECKING:
    from services.providers.shopify_answers import GrantedAccess

REQUIRED_SCOPES = ("read_orders", "read_products", "read_inventory", "read_locations")

COUNT_CATALOGUE = """
select (select count(*) from products where shop_id = %(shop_id)s and deleted_at is null) as products,
       (select count(*) from inventory_levels
         where shop_id = %(shop_id)s and disconnected_at is null) as levels
"""

# The work of a backfill by the state that a person sees.
COUNT_WORK = """
select count(*) filter (where status in ('pending', 'error')) as waiting,
       count(*) filter (where status = 'dead') as dead
  from work_queue
 where shop_id = %(shop_id)s and origin = 'backfill' and topic = any(%(topic)s::text[])
   and status in ('pending', 'error', 'dead')
"""


def check_credentials(shop: Shop, domain: str, secrets: Mapping[str, str]) -> "GrantedAccess":
    """Call ``domain`` with the new ``shopify-token``, and return what it may do. Stores nothing.

    Raises ``ShopInvalid`` with every fault: a value of the wrong form, another shop's token, a currency or a
    time zone that differs from the shop's, a missing scope; or the ``WorkError`` of a failed call.
    """
    faults = []
    for name, value in secrets.items():
        try:
            get_secret_kind(name).parse(value)
        except SecretInvalid as fault:
            faults.append(str(fault))
    if faults:
        raise ShopInvalid(join_faults(faults))
    try:
        access = open_admin_with_stored_token(
            ShopAccess(shop.id, domain, secrets["shopify-token"]), None
        ).fetch_access()
    except Misconfigured as fault:
        hint = f"check shopify-token and the domain {domain}"
        raise Misconfigured(fault.code, f"{fault.detail}; nothing was stored: {hint}") from fault
    check_access(shop, domain, access)
    return access


def check_access(shop: Shop, domain: str, access: "GrantedAccess") -> None:
    """Raise ``ShopInvalid`` unless the token is of ``shop`` and may read what a backfill reads."""
    faults = find_token_faults(shop, domain, access)
    for field, found in (("currency", access.currency), ("timezone", access.timezone)):
        if found and found != getattr(shop, field):
            faults.append(
                f"{field}={getattr(shop, field)!r} is {found!r} at Shopify: if Shopify is right, run "
                f"`fleet shops set {shop.slug} {field}={found}`; else change it in Shopify's settings"
            )
    if faults:
        raise ShopInvalid("nothing was stored: " + join_faults(faults))


def find_token_faults(shop: Shop, domain: str, access: "GrantedAccess") -> list[str]:
    """Return whether the token belongs to another shop than ``shop``, and which scopes it lacks."""
    faults = []
    if access.domain != domain:
        faults.append(f"shopify_domain={domain!r} is not the shop of the token, which is {access.domain!r}")
    needed = [*REQUIRED_SCOPES, *(["write_inventory"] if shop.stock_owner != "shopify" else [])]
    if missing := [scope for scope in needed if not access.has(scope)]:
        faults.append(
            f"the token lacks {', '.join(missing)}: add the scopes to the app, and install it again"
        )
    return faults


def record_credentials(
    tx: Connection,
    shop: Shop,
    domain: str,
    secrets: Mapping[str, str],
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> list[str]:
    """Store the domain and the secrets; return the names of those that are new."""
    set_shop(tx, shop.slug, {"shopify_domain": domain}, now=now, by=by, request_id=request_id)
    changed = [
        name
        for name, value in secrets.items()
        if record_secret(tx, shop.id, name, value, now, by=by, request_id=request_id)
    ]
    if "shopify-token" in changed:
        record_installed(tx, shop.id, now)
    return changed
