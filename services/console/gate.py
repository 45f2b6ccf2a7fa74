"""Who may open which page. A route that nobody thought about is closed, not open."""

from typing import Final

from flask import Flask, Response, abort, request

PUBLIC_ROUTES: Final = frozenset(
    {
        "home",  # figures of the fleet, no customer's data
        "static",
        "health.show_alive",
        "health.show_health",
        "health.show_ready",
    }
)
"""Endpoints anybody who reaches the console may open. Each must show no shop's and no customer's data."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def close_all_but_public(app: Flask) -> None:
    """Answer 403 on every route that is not public, whoever asks, and harden every answer's headers."""

    @app.before_request
    def refuse() -> None:
        if request.endpoint is not None and request.endpoint not in PUBLIC_ROUTES:
            abort(403, f"{request.path} has no sign-in yet, so nobody may open it")

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        return response
