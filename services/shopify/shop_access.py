"""Access to a shop's Admin API: its domain, a valid token, and the base URL."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.pg_arrays import int_array
from services.core.settings import get_settings
from services.providers.http import get_http_client
from services.providers.shopify_oauth import SHOPIFY_TOKENS
from services.shops.secrets import find_secrets
from services.shops.tokens import TokenKind, get_access_token

if TYPE_CHECKING:
    from services.providers.shopify_admin import ShopifyAdmin

_FIND_SHOPS = """
select s.shop_id, p.slug, s.shopify_domain, c.token_expires_at
  from shop_config s join shops p on p.id = s.shop_id
  left join connections c on c.shop_id = s.shop_id and c.provider = 'shopify'
 where s.shop_id = any(%(shop_id)s::int[])
"""


def _find_base_url(domain: str) -> str:
    # Imported here: every worker imports this module, but few call Shopify.
    from services.providers.shopify_admin import admin_base_url

    return admin_base_url(domain, get_settings().shopify_api_base)


SHOPIFY = TokenKind(endpoint=SHOPIFY_TOKENS, good_for=timedelta(minutes=5), find_base_url=_find_base_url)
_MISSING = "the shop has no {}: `fleet shops connect {}` records it"


class ShopAccess(NamedTuple):
    """What a call to a shop needs. ``open_admin_for`` refreshes the token if it expires soon."""

    shop_id: int
    domain: str
    token: str
    token_expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"ShopAccess(shop_id={self.shop_id}, domain={self.domain!r})"


def open_admin(shop_id: int) -> "ShopifyAdmin":
    """Return the Admin API of the shop, or the sandbox's where ``SHOPIFY_API_BASE`` is set.

    Call it without an open transaction: a token that is about to expire is refreshed at Shopify. Raises
    ``Misconfigured`` with the command that a person has to run.
    """
    return open_admin_for(get_access(shop_id))


def open_admin_for(access: ShopAccess) -> "ShopifyAdmin":
    return open_admin_with_stored_token(_refresh(access), partial(renew_token, access.shop_id))


def open_admin_with_stored_token(access: ShopAccess, renew: Callable[[str], str] | None) -> "ShopifyAdmin":
    """Return the Admin API with the stored token, even an expired one; a 401 calls ``renew`` for another."""
    from services.providers.shopify_admin import ShopifyAdmin

    base_url = _find_base_url(access.domain)
    return ShopifyAdmin(get_http_client(), base_url, access.token, renew)


def fetch_shop_domain(shop_id: int, domain: str) -> str:
    """Call the shop at ``domain`` with our token; return the domain in its answer, or "" without a token.

    Stores nothing and does not renew a refused token: it may be another shop's. Raises the ``WorkError`` of a
    failed call.
    """
    try:
        access = get_access(shop_id, domain)
    except Misconfigured as fault:
        if fault.code == "shopify.no_token":
            return ""
        raise
    return open_admin_with_stored_token(_refresh(access), None).fetch_domain()


def get_access(shop_id: int, domain: str = "") -> ShopAccess:
    """Return the access to a shop, at ``domain`` if given; raise ``Misconfigured`` without one."""
    with transaction() as tx:
        access = find_access(tx, [shop_id], domain)[shop_id]
    if isinstance(access, Misconfigured):
        raise access
    return access


def find_access(
    tx: Connection, shop_ids: Collection[int], domain: str = ""
) -> dict[int, ShopAccess | Misconfigured]:
    """Return the access to each of the shops, or the missing setting. Two queries."""
    shops = {row.shop_id: row for row in tx.exec_driver_sql(_FIND_SHOPS, {"shop_id": int_array(shop_ids)})}
    tokens = find_secrets(tx, [(shop_id, "shopify-token") for shop_id in shop_ids])

    def find(shop_id: int) -> ShopAccess | Misconfigured:
        token, shop = tokens.get((shop_id, "shopify-token")), shops.get(shop_id)
        slug = shop.slug if shop else "SHOP"
        if not (at := domain or (shop.shopify_domain if shop else "")):
            return Misconfigured("shopify.no_domain", _MISSING.format("shopify_domain", slug))
        if token is None:
            return Misconfigured("shopify.no_token", _MISSING.format("shopify-token", slug))
        if isinstance(token, SealBroken):
            return Misconfigured(
                "shopify.token_unreadable", f"the shop's shopify-token cannot be decrypted: {token}"
            )
        return ShopAccess(shop_id, at, token, shop.token_expires_at if shop else None)

    return {shop_id: find(shop_id) for shop_id in shop_ids}


def renew_token(shop_id: int, refused: str) -> str:
    """Return a token other than the ``refused`` one; see ``get_access_token``."""
    return get_access_token(SHOPIFY, shop_id, utc_now(), refused=refused)


def _refresh(access: ShopAccess) -> ShopAccess:
    now = utc_now()
    if SHOPIFY.is_due(access.token_expires_at, now):
        return access._replace(token=get_access_token(SHOPIFY, access.shop_id, now))
    return access
