"""A shop's Shopify access token, refreshed before it expires under one lock per shop."""

import threading
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.core.locks import lock_objects
from services.core.settings import get_settings
from services.providers.call_outcomes import CallOutcomes
from services.providers.http import get_http_client
from services.shops.connections import record_provider_calls
from services.shops.secret_uses import write_current_uses
from services.shops.secrets import find_secrets, record_secret

GOOD_FOR = timedelta(minutes=5)
"""A token that is valid for at least this long is not refreshed."""

STILL_GOOD_FOR = timedelta(seconds=30)
"""A token that is valid for this long is used if Shopify does not answer the refresh."""

_TOKEN, _REFRESH = "shopify-token", "shopify-refresh-token"
_ID, _SECRET = "shopify-client-id", "shopify-client-secret"

# Each refresh keeps one of the process's few database connections while it waits for Shopify.
_REFRESH_SLOTS = threading.BoundedSemaphore(2)

_FIND_SHOP = """
select p.slug, s.shopify_domain, c.token_expires_at
  from shop_config s join shops p on p.id = s.shop_id
  left join connections c on c.shop_id = s.shop_id and c.provider = 'shopify'
 where s.shop_id = %(shop_id)s
"""

_STORE_EXPIRY = """
update connections set token_expires_at = %(expires)s, refresh_expires_at = %(refresh_expires)s
 where shop_id = %(shop_id)s and provider = 'shopify'
"""


def is_due(token_expires_at: datetime | None, now: datetime) -> bool:
    """Return whether a token must be refreshed before its use; False without an expiry."""
    return token_expires_at is not None and token_expires_at - now < GOOD_FOR


def get_shopify_token(shop_id: int, now: datetime, *, refused: str = "") -> str:
    """Return an access token that is valid for some minutes, refreshed at Shopify if necessary.

    ``refused`` is a token that the shop did not accept: another one is returned, or ``Misconfigured`` raised.
    Call it without an open transaction. Only one of several workers refreshes: they wait for an advisory lock
    of the shop, then read the token again. No row is locked during the call. The new pair and its expiry are
    committed together. After a crash before that, the old refresh token is valid until the new one is used.
    """
    with _REFRESH_SLOTS:
        try:
            return _refresh_once(shop_id, now, refused)
        except Misconfigured as fault:
            failed_at = utc_now()
            with transaction() as tx:
                append_all(tx, _record_call(tx, shop_id, fault, failed_at), failed_at)
            raise


def _refresh_once(shop_id: int, now: datetime, refused: str) -> str:
    # Imported here, because it loads the HTTP client, which most processes never need.
    from services.providers.shopify_admin import admin_base_url
    from services.providers.shopify_oauth import send_refresh

    with transaction() as tx:
        lock_objects(tx, [(shop_id, "shopify-token-refresh")])
        shop = tx.exec_driver_sql(_FIND_SHOP, {"shop_id": shop_id}).one()
        domain, expires_at = shop.shopify_domain, shop.token_expires_at
        token, refresh, client_id, client_secret = _open(tx, shop_id)
        if token and token != refused and not is_due(expires_at, now):
            return token
        if not refresh:
            if token and token != refused:
                return token  # only Shopify can decide whether it is still valid
            raise Misconfigured(
                "shopify.token_refused",
                f"{'HTTP 401: ' * bool(refused)}the shop refuses the access token, and there is no "
                "shopify-refresh-token: record a good token with "
                f"`fleet shops secret {shop.slug} shopify-token`, then requeue the waiting work",
            )
        if not (client_id and client_secret):
            missing = " and ".join(
                n for n, value in ((_ID, client_id), (_SECRET, client_secret)) if not value
            )
            raise Misconfigured(
                "shopify.no_client",
                f"the token must be refreshed and the shop has no {missing}: `fleet shops secret {shop.slug} "
                f"{_ID}` and `{_SECRET}`, then requeue the waiting work",
            )
        base_url = admin_base_url(domain, get_settings().shopify_api_base)
        try:
            grant = send_refresh(get_http_client(), base_url, client_id, client_secret, refresh)
        except RetryLater:
            if token and token != refused and expires_at is not None and expires_at - now > STILL_GOOD_FOR:
                return token
            raise
        stored_at = utc_now()
        audit = _record_call(tx, shop_id, None, stored_at)
        for name, value in ((_TOKEN, grant.access_token), (_REFRESH, grant.refresh_token)):
            record_secret(tx, shop_id, name, value, stored_at, by="token refresh")
        write_current_uses(tx, [(shop_id, _ID), (shop_id, _SECRET)], stored_at)
        until = grant.refresh_expires_in
        tx.exec_driver_sql(
            _STORE_EXPIRY,
            {
                "shop_id": shop_id,
                "expires": stored_at + grant.expires_in,
                "refresh_expires": stored_at + until if until else None,
            },
        )
        append_all(tx, audit, stored_at)
        return grant.access_token


def _open(tx: Connection, shop_id: int) -> list[str]:
    """Return the access token, the refresh token, the client's id and secret; "" for a missing one."""
    names = (_TOKEN, _REFRESH, _ID, _SECRET)
    found = find_secrets(tx, [(shop_id, name) for name in names])
    values = [found.get((shop_id, name), "") for name in names]
    for name, value in zip(names, values, strict=True):
        if isinstance(value, SealBroken):
            raise Misconfigured("shopify.token_unreadable", f"the shop's {name} does not open: {value}")
    return [value for value in values if isinstance(value, str)]


def _record_call(
    tx: Connection, shop_id: int, fault: Misconfigured | None, now: datetime
) -> list[AuditEntry]:
    calls = CallOutcomes()
    calls.note("shopify", "token refresh", fault)
    return record_provider_calls(tx, [(shop_id, calls)], now)
