"""Requests a pair of OAuth 2 tokens; an access token expires and its refresh token rotates.

Each provider has a ``TokenEndpoint``. Source: RFC 6749, sections 5 and 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from services.core.errors import Misconfigured, RetryLater
from services.providers.http import find_json, post

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 15.0
_CLIENT_ERRORS = ("invalid_client", "unauthorized_client", "application_cannot_be_found")


class TokenGrant(NamedTuple):
    """A new pair of tokens. ``refresh_expires_in`` may be missing."""

    access_token: str
    refresh_token: str
    expires_in: timedelta
    refresh_expires_in: timedelta | None

    def __repr__(self) -> str:
        return f"TokenGrant(expires_in={self.expires_in})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """Where and how a provider issues tokens. ``code`` begins the codes of its errors.

    ``refuser`` is who refuses a token. ``reconnect`` is what a person does about a refused refresh token,
    ``fix_client`` about a refused client.
    """

    provider: str
    code: str
    path: str
    host: str
    refuser: str
    reconnect: str
    fix_client: str
    sends_json: bool = False


def request_grant(
    endpoint: TokenEndpoint, http: "httpx.Client", base_url: str, fields: Mapping[str, str]
) -> TokenGrant:
    """Return the pair of tokens for ``fields``, whose ``grant_type`` may be any.

    Raises ``Misconfigured`` if the provider refuses (``<code>.refresh_refused``: the refresh token or the
    authorisation; ``<code>.client_refused``: the app's id or secret), else ``RetryLater``.
    """
    body: dict[str, Any] = {"json" if endpoint.sends_json else "data": dict(fields)}
    try:
        response = post(
            endpoint.provider,
            base_url.rstrip("/") + endpoint.path,
            {"Accept": "application/json"},
            http=http,
            is_repeatable=True,
            host=endpoint.host,
            timeout=_TIMEOUT_SECONDS,
            **body,
        )
    except RetryLater as error:
        raise RetryLater(
            f"{endpoint.code}.no_answer", f"no answer to a token refresh: {error.detail}"
        ) from error
    return _read_grant(endpoint, response)


def _read_grant(endpoint: TokenEndpoint, response: "httpx.Response") -> TokenGrant:
    status, body = response.status_code, find_json(response) or {}
    if status == 429 or status >= 500:
        raise RetryLater(f"{endpoint.code}.unavailable", f"HTTP {status} to a token refresh")
    error = body.get("error")
    if status != 200 or error:  # QuickBooks Time refuses with 200, too
        # The code only: the rest of the response may repeat the request.
        detail = f"HTTP {status}" + (f" {error}" if isinstance(error, str) and len(error) < 60 else "")
        if status in (301, 302, 404):
            raise Misconfigured(
                f"{endpoint.code}.address_wrong", f"{detail} to a token refresh: check {endpoint.host}"
            )
        if status in (401, 403) or error in _CLIENT_ERRORS:
            raise Misconfigured(f"{endpoint.code}.client_refused", f"{detail}: {endpoint.fix_client}")
        raise Misconfigured(f"{endpoint.code}.refresh_refused", f"{detail}: {endpoint.reconnect}")
    access, refresh = body.get("access_token"), body.get("refresh_token")
    expires_in = _find_seconds(body, "expires_in")
    if not (isinstance(access, str) and access and isinstance(refresh, str) and refresh and expires_in):
        raise RetryLater(
            f"{endpoint.code}.no_answer", "the answer to a token refresh holds no pair of tokens"
        )
    return TokenGrant(access, refresh, expires_in, _find_seconds(body, "refresh_token_expires_in"))


def _find_seconds(body: dict[str, Any], name: str) -> timedelta | None:
    value = body.get(name)
    return timedelta(seconds=value) if type(value) is int and 0 < value < 10**9 else None
