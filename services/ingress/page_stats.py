"""Counts the requests to a Flask application, and records those that failed."""

from time import perf_counter
from uuid import uuid4

from flask import Flask, Response, g, got_request_exception, request

from services.core.clock import utc_now
from services.core.log_redaction import HIDDEN, is_secret_name
from services.ingress.request_stats import UNKNOWN, RequestStats
from services.ledger.request_errors import NO_FAULT, RequestError, clean_text, find_origin
from services.providers.delivery import is_storable


def count_pages(app: Flask, stats: RequestStats | None) -> None:
    """Give each request to ``app`` an id, which its answer has as ``X-Request-Id``; count it in ``stats``.

    Call it before other functions are registered. A view that answers an error itself calls ``note_fault``.
    """

    @app.before_request
    def begin() -> None:
        g.request_id, g.began, g.at = uuid4().hex, perf_counter(), utc_now()

    def note(_app: Flask, exception: Exception) -> None:
        note_fault(exception)

    got_request_exception.connect(note, app, weak=False)

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.request_id
        if stats is not None:
            _count(stats, response.status_code)
        return response


def note_fault(fault: Exception) -> None:
    """Keep ``fault`` as the cause of this request's answer."""
    g.fault = fault


def _find_path() -> str:
    """Return the path of this request without the values of its secret arguments, such as a token."""
    path = request.path
    for name, value in (request.view_args or {}).items():
        if is_secret_name(name) and isinstance(value, str):
            path = path.replace(str(value), HIDDEN)
    return clean_text(path)


def _count(stats: RequestStats, status: int) -> None:
    outcome = "health" if request.blueprint == "health" else "answered"
    route = request.url_rule.rule if request.url_rule else UNKNOWN
    shop = (request.view_args or {}).get("shop") or request.args.get("shop", "")
    # A caller whom nobody knows could name any number of shops.
    shop = shop if "staff_label" in g and is_storable(shop) else UNKNOWN
    stats.count(g.at, shop, "", outcome, route, status, (perf_counter() - g.began) * 1000)
    if status >= 500 and outcome not in NO_FAULT:
        fault = g.get("fault")
        stats.add_error(
            RequestError(
                request_id=g.request_id,
                at=g.at,
                shop=shop,
                route=route,
                status=status,
                error_class=type(find_origin(fault)).__name__ if fault else f"Status{status}",
                reason="",
                staff_label=g.get("staff_label", ""),
                request={"method": request.method, "path": _find_path()},
            )
        )
