"""Access tokens of one shop of the sandbox: any token, a fixed one, or tokens that expire.

https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens: a refresh returns a new access
token and a new refresh token. The previous refresh token is valid until the new one is used, so that the
client can repeat the request after a lost answer.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.sandbox.faults import ControlInvalid

Answer = tuple[int, dict[str, Any]]


@dataclass
class Tokens:
    """Checks access tokens. ``attempts`` counts refreshes, ``refreshed`` those that succeeded."""

    clock: Callable[[], float]
    fixed: str = ""
    """The only token that does not expire; empty: any token is accepted, unless tokens expire."""
    client: tuple[str, str] = ("", "")
    refresh_token: str = ""
    previous_refresh_token: str = ""
    expires_in_seconds: float = 3600.0
    refresh_expires_in_seconds: float = 30 * 86400.0
    refresh_good_until: float = 0.0
    access: dict[str, float] = field(default_factory=dict)
    attempts: int = 0
    refreshed: int = 0

    def control(self, request: dict[str, Any]) -> None:
        """Set ``token``, ``oauth`` {client_id, client_secret, refresh_token, access_token, expires_in,
        refresh_token_expires_in}, and ``expire_tokens``."""
        self.fixed = str(request.get("token", self.fixed))
        if "oauth" in request:
            wanted = request["oauth"]
            if not wanted.get("refresh_token"):
                raise ControlInvalid("oauth needs a refresh_token")
            self.client = (wanted.get("client_id", ""), wanted.get("client_secret", ""))
            self.expires_in_seconds = float(wanted.get("expires_in", 3600))
            self.refresh_expires_in_seconds = float(wanted.get("refresh_token_expires_in", 30 * 86400))
            self.access = {}
            self._issue(str(wanted["refresh_token"]), "", str(wanted.get("access_token", "")))
        if request.get("expire_tokens"):
            self.access.clear()

    def accepts(self, token: str) -> bool:
        if not token:
            return False
        if self.fixed and hmac.compare_digest(token.encode(), self.fixed.encode()):
            return True
        if self.refresh_token:
            return self.access.get(token, float("-inf")) > self.clock()
        return not self.fixed

    def refresh(self, request: dict[str, Any]) -> Answer:
        """Return (HTTP status, body) of POST /admin/oauth/access_token."""
        self.attempts += 1
        if request.get("grant_type") != "refresh_token":
            return _refuse("unsupported_grant_type", "grant_type should be refresh_token")
        if (request.get("client_id"), request.get("client_secret")) != self.client:
            return _refuse("invalid_client", "The client id or secret is wrong")
        given = str(request.get("refresh_token") or "")
        valid = (self.refresh_token, self.previous_refresh_token)
        if not given or given not in valid or self.clock() >= self.refresh_good_until:
            return _refuse("invalid_grant", "This refresh token is not valid any more")
        self.refreshed += 1
        # A repeated previous token gets new tokens; those issued in between are dropped.
        access_token = f"shpat_{self.refreshed:032x}"
        self._issue(f"shprt_{self.refreshed:032x}", given, access_token)
        return 200, {
            "access_token": access_token,
            "expires_in": int(self.expires_in_seconds),
            "refresh_token": self.refresh_token,
            "refresh_token_expires_in": int(self.refresh_expires_in_seconds),
            "scope": "read_orders,write_inventory",
        }

    def _issue(self, refresh_token: str, previous: str, access_token: str) -> None:
        self.refresh_token, self.previous_refresh_token = refresh_token, previous
        self.refresh_good_until = self.clock() + self.refresh_expires_in_seconds
        self.access[access_token] = self.clock() + self.expires_in_seconds


def _refuse(error: str, description: str) -> Answer:
    return 400, {"error": error, "error_description": description}
