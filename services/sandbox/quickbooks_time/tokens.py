"""Tokens of one company of the sandbox. A refresh token is valid once: the next one replaces it.

QuickBooks Time API documentation, "Authentication".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

Answer = tuple[int, dict[str, Any]]


@dataclass
class TimeTokens:
    """Issues and checks tokens. ``refuse_status`` is the HTTP status of a refusal; 200 is a known quirk."""

    client_id: str
    clock: Callable[[], float]
    secrets: set[str] = field(default_factory=set)
    refresh_token: str = ""
    expires_in_seconds: float = 864_000.0
    refuse_status: int = 200
    access: dict[str, float] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    issued: int = 0

    def control(self, request: Mapping[str, Any]) -> None:
        """Set ``client_secrets``, ``access_token``, ``refresh_token``, ``expires_in``, ``refuse_status``.

        ``expire_tokens`` ends every access token, ``revoke`` all tokens.
        """
        if "client_secrets" in request:
            self.secrets = {str(one) for one in request["client_secrets"]}
        self.expires_in_seconds = float(request.get("expires_in", self.expires_in_seconds))
        self.refuse_status = int(request.get("refuse_status", self.refuse_status))
        if request.get("expire_tokens") or request.get("revoke"):
            self.access.clear()
        if request.get("revoke"):
            self.refresh_token = ""
        self.refresh_token = str(request.get("refresh_token", self.refresh_token))
        if "access_token" in request:
            self.access[str(request["access_token"])] = self.clock() + self.expires_in_seconds

    def accepts(self, token: str) -> bool:
        return self.access.get(token, float("-inf")) > self.clock()

    def authorise(self, query: Mapping[str, str]) -> str:
        """Return the address to which the browser goes back, with a code: the admin allows the app."""
        code = f"code-{self.client_id}-{len(self.codes)}-{self.issued}"
        self.codes.add(code)
        return f"{query.get('redirect_uri', '')}?{urlencode({'code': code, 'state': query.get('state', '')})}"

    def grant(self, request: Mapping[str, Any]) -> Answer:
        """Return (HTTP status, body) of POST /grant."""
        if request.get("client_secret") not in self.secrets:
            return self._refuse("invalid_client")
        match request.get("grant_type"):
            case "authorization_code":
                if request.get("code") not in self.codes:
                    return self._refuse("invalid_grant")
                self.codes.discard(str(request["code"]))
            case "refresh_token":
                if not self.refresh_token or request.get("refresh_token") != self.refresh_token:
                    return self._refuse("invalid_grant")
            case _:
                return self._refuse("unsupported_grant_type")
        self.issued += 1
        token = f"time-access-{self.client_id}-{self.issued}"
        self.access[token] = self.clock() + self.expires_in_seconds
        self.refresh_token = f"time-refresh-{self.client_id}-{self.issued}"
        return 200, {
            "access_token": token,
            "expires_in": int(self.expires_in_seconds),
            "token_type": "bearer",
            "scope": "",
            "refresh_token": self.refresh_token,
            "user_id": "1",
            "company_id": "1",
            "client_url": self.client_id,
        }

    def _refuse(self, error: str) -> Answer:
        return self.refuse_status, {"error": error, "error_description": "The request was refused."}
