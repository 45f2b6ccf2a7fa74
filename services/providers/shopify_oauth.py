"""Refreshes Shopify's expiring offline access tokens with the refresh token.

Source: shopify.dev, "Offline access tokens", and ``refreshToken`` of shopify-api-js. The refresh token
rotates. Since 2026-08-28 the previous one stays valid until the new one is used, so after a lost response the
refresh is repeated with the stored token.
"""

from datetime import timedelta
from typing import Any, NamedTuple

import httpx

from services.core.errors import Misconfigured, RetryLater
from services.providers.http import find_json, post

TIMEOUT = httpx.Timeout(15.0, connect=5.0, pool=5.0)

_RECONNECT = (
    "open the app in the shop's admin to install it again, then record its new shopify-token and "
    "shopify-refresh-token with `fleet shops secret`, and requeue the waiting work"
)


class TokenGrant(NamedTuple):
    """A new pair of tokens. ``refresh_expires_in`` may be missing."""

    access_token: str
    refresh_token: str
    expires_in: timedelta
    refresh_expires_in: timedelta | None

    def __repr__(self) -> str:
        return f"TokenGrant(expires_in={self.expires_in})"


def send_refresh(
    http: httpx.Client, base_url: str, client_id: str, client_secret: str, refresh_token: str
) -> TokenGrant:
    """Return the next pair of tokens of the shop at ``base_url``.

    Raises ``Misconfigured`` if Shopify refuses (``shopify.refresh_refused``: the refresh token;
    ``shopify.client_refused``: the app's id or secret), else ``RetryLater``.
    """
    body = {
        "client_id": client_id,
        "client_secret": client_secret,
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
    }
    try:
        response = post(
            "shopify",
            f"{base_url.rstrip('/')}/admin/oauth/access_token",
            {"Accept": "application/json"},
            http=http,
            is_repeatable=True,
            host="a shop's domain",
            json=body,
            timeout=TIMEOUT,
        )
    except RetryLater as error:
        raise RetryLater("shopify.no_answer", f"no answer to a token refresh: {error.detail}") from error
    return _read_grant(response)


def _read_grant(response: httpx.Response) -> TokenGrant:
    status, body = response.status_code, find_json(response) or {}
    if status == 429 or status >= 500:
        raise RetryLater("shopify.unavailable", f"HTTP {status} to a token refresh")
    if status != 200:
        # The code only: the rest of the response may repeat the request.
        code = body.get("error")
        detail = f"HTTP {status}" + (f" {code}" if isinstance(code, str) and len(code) < 60 else "")
        if status in (301, 302, 404):
            raise Misconfigured(
                "shopify.address_wrong", f"{detail} to a token refresh: check the shop's domain"
            )
        if status in (401, 403) or code in ("invalid_client", "application_cannot_be_found"):
            raise Misconfigured(
                "shopify.client_refused",
                f"{detail}: Shopify refuses the app's credentials: record shopify-client-id and "
                "shopify-client-secret again with `fleet shops secret`, then requeue the waiting work",
            )
        raise Misconfigured(
            "shopify.refresh_refused", f"{detail}: Shopify refuses the refresh token: {_RECONNECT}"
        )
    access, refresh = body.get("access_token"), body.get("refresh_token")
    expires_in = _find_seconds(body, "expires_in")
    if not (isinstance(access, str) and access and isinstance(refresh, str) and refresh and expires_in):
        raise RetryLater("shopify.no_answer", "the answer to a token refresh holds no pair of tokens")
    return TokenGrant(access, refresh, expires_in, _find_seconds(body, "refresh_token_expires_in"))


def _find_seconds(body: dict[str, Any], name: str) -> timedelta | None:
    value = body.get(name)
    return timedelta(seconds=value) if type(value) is int and 0 < value < 10**9 else None
