"""A shop's access tokens, refreshed before they expire under one lock per shop and provider."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.core.locks import lock_objects
from services.providers.call_outcomes import CallOutcomes
from services.providers.http import get_http_client
from services.providers.oauth import TokenEndpoint, TokenGrant, request_grant
from services.shops.connections import record_provider_calls
from services.shops.secret_uses import write_current_uses
from services.shops.secrets import find_previous_secret, find_secrets, record_secret

STILL_GOOD_FOR = timedelta(seconds=30)
"""A token that is valid for this long is used if the provider does not answer the refresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKind:
    """The tokens of a provider.

    The shop's secrets are ``<provider>-token``, ``-refresh-token``, ``-client-id`` and ``-client-secret``.
    A token that is valid for at least ``good_for`` is not refreshed. ``find_base_url`` gets the shop's
    Shopify domain.
    """

    endpoint: TokenEndpoint
    good_for: timedelta
    find_base_url: Callable[[str], str]

    @property
    def provider(self) -> str:
        return self.endpoint.provider

    def name(self, part: str) -> str:
        """Return the name of a secret: of ``token`` that is ``shopify-token``."""
        return f"{self.provider}-{part}"

    def is_due(self, expires_at: datetime | None, now: datetime) -> bool:
        """Return whether a token must be refreshed before its use; False without an expiry."""
        return expires_at is not None and expires_at - now < self.good_for


# Each refresh keeps one of the process's few database connections while it waits for the provider.
_REFRESH_SLOTS = threading.BoundedSemaphore(2)

_FIND_SHOP = """
select p.slug, s.shopify_domain, c.token_expires_at
  from shop_config s join shops p on p.id = s.shop_id
  left join connections c on c.shop_id = s.shop_id and c.provider = %(provider)s
 where s.shop_id = %(shop_id)s
"""

_STORE_EXPIRY = """
update connections set token_expires_at = %(expires)s, refresh_expires_at = %(refresh_expires)s
 where shop_id = %(shop_id)s and provider = %(provider)s
"""


class _StoredTokens(NamedTuple):
    """The secrets of a connection; "" for a missing one."""

    token: str
    refresh: str
    client_id: str
    client_secret: str


def get_access_token(kind: TokenKind, shop_id: int, now: datetime, *, refused: str = "") -> str:
    """Return an access token that is valid for some minutes, refreshed at the provider if necessary.

    ``refused`` is a token that the provider did not accept: another one is returned, or ``Misconfigured``
    raised. Call it without an open transaction. Only one of several workers refreshes: they wait for an
    advisory lock of the shop, then read the token again. No row is locked during the call. The new pair and
    its expiry are committed together, before the new token is used. After a crash before that, the refresh is
    repeated with the old refresh token. A token that is still valid is used although its refresh failed; a
    refused refresh breaks the connection at once.
    """
    with _REFRESH_SLOTS:
        try:
            return _refresh_once(kind, shop_id, now, refused)
        except Misconfigured as fault:
            failed_at = utc_now()
            with transaction() as tx:
                append_all(tx, _record_call(tx, kind, shop_id, fault, failed_at), failed_at)
            raise


def _refresh_once(kind: TokenKind, shop_id: int, now: datetime, refused: str) -> str:
    with transaction() as tx:
        lock_objects(tx, [(shop_id, f"{kind.name('token')}-refresh")])
        values = {"shop_id": shop_id, "provider": kind.provider}
        shop = tx.exec_driver_sql(_FIND_SHOP, values).one()
        expires_at = shop.token_expires_at
        stored = _open(tx, kind, shop_id)
        token = stored.token if stored.token != refused else ""
        if token and not kind.is_due(expires_at, now):
            return token
        if not stored.refresh:
            if token:
                return token  # only the provider can decide whether it is still valid
            raise _no_refresh_token(kind, shop.slug, is_refused=bool(refused))
        is_good = bool(token) and expires_at is not None and expires_at - now > STILL_GOOD_FOR
        try:
            _check_client(kind, stored, shop.slug)
            grant = _request(tx, kind, shop_id, stored, kind.find_base_url(shop.shopify_domain), now)
        except RetryLater:
            if is_good:
                return token
            raise
        except Misconfigured as fault:
            if not is_good:
                raise
            fault.is_partial = True
            append_all(tx, _record_call(tx, kind, shop_id, fault, now), now)
            return token
        record_grant(tx, kind, shop_id, grant, by="token refresh")
        return grant.access_token


def record_grant(tx: Connection, kind: TokenKind, shop_id: int, grant: TokenGrant, *, by: str) -> None:
    """Store a new pair of tokens with its expiry; the connection works."""
    now = utc_now()
    audit = _record_call(tx, kind, shop_id, None, now)
    for part, value in (("token", grant.access_token), ("refresh-token", grant.refresh_token)):
        record_secret(tx, shop_id, kind.name(part), value, now, by=by)
    write_current_uses(tx, [(shop_id, kind.name(part)) for part in ("client-id", "client-secret")], now)
    until = grant.refresh_expires_in
    tx.exec_driver_sql(
        _STORE_EXPIRY,
        {
            "shop_id": shop_id,
            "provider": kind.provider,
            "expires": now + grant.expires_in,
            "refresh_expires": now + until if until else None,
        },
    )
    append_all(tx, audit, now)


def _request(
    tx: Connection, kind: TokenKind, shop_id: int, stored: _StoredTokens, base_url: str, now: datetime
) -> TokenGrant:
    """Return the next pair. A refused client is tried with its previous secret, too.

    A refused refresh token is read again and tried once more if another process replaced it.
    """
    try:
        return _send(kind, base_url, stored)
    except Misconfigured as fault:
        if fault.code.endswith(".client_refused"):
            again = stored._replace(
                client_secret=find_previous_secret(tx, shop_id, kind.name("client-secret"), now) or ""
            )
        else:
            again = _open(tx, kind, shop_id)
        if again == stored or not all(again[1:]):
            raise
        return _send(kind, base_url, again)


def _send(kind: TokenKind, base_url: str, stored: _StoredTokens) -> TokenGrant:
    fields = {
        "grant_type": "refresh_token",
        "client_id": stored.client_id,
        "client_secret": stored.client_secret,
        "refresh_token": stored.refresh,
    }
    return request_grant(kind.endpoint, get_http_client(), base_url, fields)


def _no_refresh_token(kind: TokenKind, slug: str, *, is_refused: bool) -> Misconfigured:
    code = kind.endpoint.code
    return Misconfigured(
        f"{code}.token_refused",
        f"{'HTTP 401: ' * is_refused}{kind.endpoint.refuser} refuses the access token, and there is no "
        f"{kind.name('refresh-token')}: record a good token with `fleet shops secret {slug} "
        f"{kind.name('token')}`, then requeue the waiting work",
    )


def _check_client(kind: TokenKind, stored: _StoredTokens, slug: str) -> None:
    """Raise ``Misconfigured`` if the client's id or secret is missing."""
    names = (kind.name("client-id"), kind.name("client-secret"))
    missing = [name for name, value in zip(names, stored[2:], strict=True) if not value]
    if missing:
        raise Misconfigured(
            f"{kind.endpoint.code}.no_client",
            f"the token must be refreshed and the shop has no {' and '.join(missing)}: `fleet shops secret "
            f"{slug} {names[0]}` and `{names[1]}`, then requeue the waiting work",
        )


def _open(tx: Connection, kind: TokenKind, shop_id: int) -> _StoredTokens:
    names = [kind.name(part) for part in ("token", "refresh-token", "client-id", "client-secret")]
    found = find_secrets(tx, [(shop_id, name) for name in names])
    values = [found.get((shop_id, name), "") for name in names]
    for name, value in zip(names, values, strict=True):
        if isinstance(value, SealBroken):
            code = f"{kind.endpoint.code}.token_unreadable"
            raise Misconfigured(code, f"the shop's {name} does not open: {value}")
    return _StoredTokens(*(value for value in values if isinstance(value, str)))


def _record_call(
    tx: Connection, kind: TokenKind, shop_id: int, fault: Misconfigured | None, now: datetime
) -> list[AuditEntry]:
    calls = CallOutcomes()
    calls.note(kind.provider, "token refresh", fault)
    return record_provider_calls(tx, [(shop_id, calls)], now)
