"""Limits of requests by address, in the memory of the console's one process."""

from typing import Any, Final

from flask import Flask, g, render_template, request
from flask_limiter import ApplicationLimit, Limiter
from flask_limiter.errors import RateLimitExceeded

from services.accounts.api_tokens import PREFIX
from services.console.answers import json_error
from services.core.networks import find_network

SIGN_INS_PER_MINUTE: Final = 30
"""Forms of sign-in that one address may post, and requests of single sign-on."""
TOKEN_REQUESTS_PER_MINUTE: Final = 600
"""Requests with an API token, valid or not, that one address may send."""
_WAIT_SECONDS: Final = "60"


def limit_rates(app: Flask) -> None:
    """Answer 429 above a limit. ``g.address`` must be set before."""
    sign_ins = ApplicationLimit(
        f"{SIGN_INS_PER_MINUTE} per minute", scope="sign-in", exempt_when=lambda: not _is_sign_in()
    )
    tokens = ApplicationLimit(
        f"{TOKEN_REQUESTS_PER_MINUTE} per minute", scope="token", exempt_when=lambda: not _has_token()
    )
    Limiter(
        lambda: find_network(g.address),
        app=app,
        application_limits=[sign_ins, tokens],
        storage_uri="memory://",
        strategy="moving-window",
        key_prefix=str(id(app)),
    )

    @app.errorhandler(RateLimitExceeded)
    def refuse(_fault: RateLimitExceeded) -> Any:
        headers = {"Retry-After": _WAIT_SECONDS}
        if _has_token():
            detail = (
                f"more than {TOKEN_REQUESTS_PER_MINUTE} requests in a minute: try again in {_WAIT_SECONDS} s"
            )
            return json_error(429, "too_many_requests", detail, headers)
        detail = (
            f"Your address sent more than {SIGN_INS_PER_MINUTE} forms of sign-in in a minute. "
            "Wait a minute, then try again."
        )
        return render_template("error.html", title="Too many requests", detail=detail), 429, headers


def _is_sign_in() -> bool:
    return request.blueprint == "oidc" or (request.method == "POST" and request.blueprint == "security")


def _has_token() -> bool:
    return PREFIX in request.headers.get("Authorization", "")
