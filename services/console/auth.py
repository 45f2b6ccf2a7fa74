"""Access control of the console. A route that is in no list here is closed."""

from hmac import compare_digest
from typing import Final

from flask import Flask, Response, abort, g, request
from werkzeug.datastructures import Headers

SECRET_HEADERS = ("X-Cron-Secret", "X-Internal-Secret")
_BEARER = "bearer "

PUBLIC_ROUTES: Final = frozenset(
    {
        "home",  # figures of the fleet, no customer's data
        "static",
        "health.show_alive",
        "health.show_health",
        "health.show_ready",
    }
)
"""Endpoints without sign-in. None may show data of a shop or a customer."""

SECRET_ROUTES: Final = frozenset({"audit.verify", "cron.start", "cron.start_due_reports", "gate.show"})
"""Endpoints for machines, which send ``CRON_SECRET``."""

CRON_CALLER: Final = "cron secret"
"""Who acts, for the audit, in a request with ``CRON_SECRET``."""

HOW_TO_SEND_IT: Final = "send CRON_SECRET as X-Cron-Secret, X-Internal-Secret or Authorization: Bearer"
HOW_TO_SET_IT: Final = "CRON_SECRET is not set, so this route is closed: set it and restart the console"

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def close_all_but_public(app: Flask, cron_secrets: tuple[str, ...] = ()) -> None:
    """Answer 403 on every route that is not public, and set security headers on every response.

    A route for machines needs one of ``cron_secrets``; without any it is closed.
    """

    @app.before_request
    def refuse() -> tuple[dict[str, str], int] | None:
        if request.endpoint is None or request.endpoint in PUBLIC_ROUTES:
            return None
        if request.endpoint not in SECRET_ROUTES:
            abort(403, f"{request.path} is closed: there is no sign-in yet")
        if has_cron_secret(request.headers, cron_secrets):
            g.staff_label = CRON_CALLER
            return None
        return {"error": "forbidden", "detail": HOW_TO_SEND_IT if cron_secrets else HOW_TO_SET_IT}, 403

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response


def has_cron_secret(headers: Headers, cron_secrets: tuple[str, ...]) -> bool:
    """Return, in constant time, whether one of the three headers has one of ``cron_secrets``.

    An empty secret matches nothing.
    """
    given = [headers.get(name, "") for name in SECRET_HEADERS]
    authorization = headers.get("Authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        given.append(authorization[len(_BEARER) :].strip())
    found = False
    for wanted in filter(None, cron_secrets):
        for candidate in given:
            # Bytes, because ``compare_digest`` does not accept text that is not ASCII.
            found |= compare_digest(candidate.encode("latin-1", "replace"), wanted.encode())
    return found
