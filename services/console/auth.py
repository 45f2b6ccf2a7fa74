"""Access control of the console. A route that is in no table here is closed."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, render_template, request, session, url_for
from flask_security import current_user, logout_user
from flask_security.utils import check_and_update_authn_fresh
from flask_wtf.csrf import CSRFProtect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.accounts.api_tokens import PREFIX, find_token_access
from services.accounts.people import find_access
from services.accounts.roles import WITHOUT_SECOND_FACTOR, Access, Role
from services.accounts.sessions import find_session
from services.console.answers import (
    RETRY_AFTER_SECONDS,
    database_unavailable,
    has_cron_secret,
    json_error,
    read_bearer,
)
from services.console.api_change_schemas import CHANGES
from services.console.api_schemas import READINGS
from services.console.lists import LISTS
from services.console.rates import limit_rates
from services.console.row_actions import ROW_ACTIONS
from services.console.sign_in import SESSION_KEY
from services.console.sign_in_settings import FRESH_FOR
from services.core.db import is_connection_fault, transaction
from services.core.settings import Settings
from services.ingress.connections import find_client
from services.ingress.page_stats import note_fault

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

PUBLIC_ROUTES: Final = frozenset(
    {
        "static",
        "health.show_alive",
        "health.show_health",
        "health.show_ready",
        "security.static",
        "security.login",
        "security.logout",
        "security.forgot_password",
        "security.reset_password",
        "security.two_factor_setup",  # also the first sign-in of a person who needs a second factor
        "security.two_factor_token_validation",
        "security.two_factor_rescue",
        "security.tf_select",
        "security.mf_recovery",
        "security.wan_signin",
        "security.wan_signin_response",
        "oidc.start",
        "oidc.finish",
    }
)
"""Endpoints without sign-in. None may show data of a shop or a customer."""

SECRET_ROUTES: Final = frozenset({"audit.verify", "cron.start", "cron.start_due_reports", "gate.show"})
"""Endpoints for machines, which send ``CRON_SECRET``."""

ACCOUNT_ROUTES: Final = frozenset(
    {
        "account.show",
        "account.end_session",
        "account.end_all_sessions",
        "account.create_token",
        "account.revoke_token",
        "filters.save",
        "filters.delete",
        "security.change_password",
        "security.verify",
        "security.two_factor_setup_validate",
        "security.mf_recovery_codes",
        "security.wan_register",
        "security.wan_register_response",
        "security.wan_delete",
        "security.wan_verify",
        "security.wan_verify_response",
    }
)
"""Endpoints for everybody who is signed in: they show and change this person's own account alone."""


def _of(blueprint: str, names: str) -> tuple[str, ...]:
    return tuple(f"{blueprint}.{name}" for name in names.split())


PAGE_ROUTES: Final[Mapping[str, Role]] = MappingProxyType(
    {"bulk.confirm": Role.OPERATOR, "time_connection.show": Role.ADMIN}
    | dict.fromkeys(
        (
            *_of("pages", "home dead"), *_of("queues", "index show plan"), *_of("jobs", "index show plan"),
            *_of("letters", "index show"), *_of("reports", "index show"), *_of("shops", "health index show"),
            *_of("details", "work event error incident postmortem mail"), "bulk.show",
            *_of("lists", " ".join(LISTS)), *_of("api", " ".join(LISTS)),
            *_of("api", "openapi show_work show_event show_incident show_mail show_bulk_action list_filters"),
            *(f"api.{one.operation}" for one in READINGS.values()),
        ),
        Role.VIEWER,
    )
)  # fmt: skip
"""Endpoints that only read, and the least role for them."""

CHANGE_ROUTES: Final[Mapping[str, Role]] = MappingProxyType(
    dict.fromkeys(
        (
            *(f"{name}.{action.endpoint}" for name in ("details", "api") for action in ROW_ACTIONS),
            "queues.change", "jobs.change", "filters.share", "audit_pages.verify",
            *_of("reports", "preview send"), *_of("letters", "edit plan unplan"),
            *_of("bulk", "start stop"), *_of("api", "start_bulk_action stop_bulk_action import_people"),
            *_of("api", "save_filter share_filter delete_filter"),
        ),
        Role.OPERATOR,
    )
    | dict.fromkeys(
        (
            "audit_pages.export", *_of("details", "unmask_work unmask_event unmask_mail"), "event_edit.edit",
            *_of("shop_changes", "change_settings change_staff record_secret download_month set_threshold"),
            *_of("reports", "save pause"), *_of("time_connection", "start finish"),
        ),
        Role.ADMIN,
    )
    | {f"api.{one.operation}": one.role for one in CHANGES}
)  # fmt: skip
"""Endpoints that change something, and the least role for them; each checks the shop too."""

DANGEROUS_ROUTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "account.create_token": "account.show",
        "account.end_all_sessions": "account.show",
        **dict.fromkeys(("shop_changes.record_secret", "api.record_secret"), "shops.show"),
        "time_connection.start": "shops.show",
        "time_connection.finish": "shops.index",
        "security.two_factor_setup": "security.two_factor_setup",
        "security.two_factor_setup_validate": "security.two_factor_setup",
        "security.mf_recovery_codes": "security.mf_recovery_codes",
        "security.wan_register": "security.wan_register",
        "security.wan_register_response": "security.wan_register",
        "security.wan_delete": "security.wan_register",
    }
)
"""Endpoints that need a sign-in of the last ``FRESH_FOR``, and the page that opens after it."""

PERSONAL_BLUEPRINTS: Final = ("security", "account", "filters", "oidc")
"""Their endpoints are for browsers: a request with an API token is refused."""

CRON_CALLER: Final = "cron secret"
"""Who acts, for the audit, in a request with ``CRON_SECRET``."""

HOW_TO_SEND_IT: Final = "send CRON_SECRET as X-Cron-Secret, X-Internal-Secret or Authorization: Bearer"
HOW_TO_SET_IT: Final = "CRON_SECRET is not set, so this route is closed: set it and restart the console"

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def control_access(app: Flask, settings: Settings) -> None:
    """Close every route that is in no table, find who calls, and set security headers on every response."""
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # the check is below: machines and tokens need none
    csrf = CSRFProtect(app)

    @app.before_request
    def find_address() -> None:
        g.address = find_client(
            f"{request.remote_addr or ''}:0",
            request.headers.getlist("X-Forwarded-For"),
            settings.trusted_proxies,
        )
        g.access = None

    limit_rates(app)

    @app.before_request
    def check() -> Any:
        endpoint = request.endpoint
        if endpoint is None:
            return None
        if endpoint in SECRET_ROUTES:
            return _check_secret(settings.cron_secrets)
        if endpoint in PUBLIC_ROUTES and request.blueprint not in PERSONAL_BLUEPRINTS:
            return None  # without the database too
        is_token = _find_caller()
        if is_token and request.blueprint in PERSONAL_BLUEPRINTS:
            return json_error(403, "forbidden", f"{request.path} needs a person: open it in a browser")
        # Without access nothing but the public routes changes anything: such a caller is sent to sign in.
        is_form = not is_token and (g.access is not None or endpoint in PUBLIC_ROUTES)
        if is_form and request.method not in SAFE_METHODS:
            csrf.protect()
        refusal = None if endpoint in PUBLIC_ROUTES else _check_role(endpoint)
        # The token of an admin was made with a fresh sign-in.
        return refusal or (None if is_token and request.blueprint == "api" else needs_fresh_sign_in(endpoint))

    @app.errorhandler(DBAPIError)
    @app.errorhandler(PoolTimeout)
    def show_unavailable(fault: Exception) -> Any:
        if not is_connection_fault(fault):
            raise fault
        note_fault(fault)
        g.access = None
        if request.path.startswith("/api/"):
            return database_unavailable()
        detail = "The database cannot be reached. Webhooks are answered 503, and their senders try again."
        headers = {"Retry-After": RETRY_AFTER_SECONDS}
        return render_template("error.html", title="No database", detail=detail, is_red=True), 503, headers

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(SECURITY_HEADERS)
        if request.endpoint not in ("static", "security.static"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def _check_secret(cron_secrets: tuple[str, ...]) -> Any:
    if has_cron_secret(request.headers, cron_secrets):
        g.staff_label = CRON_CALLER
        return None
    return {"error": "forbidden", "detail": HOW_TO_SEND_IT if cron_secrets else HOW_TO_SET_IT}, 403


def _find_caller() -> bool:
    """Set ``g.access`` to what the caller may do, or None; return whether the request has an API token.

    A request with an API token is not that of a browser: its cookie gives no access. A cookie whose session
    ended is signed out in each request, because Flask-Security reads the cookie too.
    """
    token = read_bearer(request.headers)
    is_token = token.startswith(PREFIX)
    access = _find_session_access() if current_user.is_authenticated else None
    if is_token:
        with transaction() as tx:
            access = find_token_access(tx, token, g.address, g.at)
    g.access = access
    if access is not None:
        g.staff_label = access.email
    return is_token


def _find_session_access() -> Access | None:
    """Return what the person of the cookie may do; sign the cookie out if its session ended."""
    with transaction() as tx:
        found = find_session(tx, session.get(SESSION_KEY, ""), g.at)
        access = find_access(tx, found.user_id) if found and found.user_id == current_user.id else None
    if found is None or access is None:
        logout_user()
        return None
    return access if found.has_second_factor else access.limited_to(WITHOUT_SECOND_FACTOR)


def _check_role(endpoint: str) -> Any:
    is_page = not request.path.startswith("/api/")
    if g.access is None:
        if is_page:
            return redirect(url_for("security.login", next=_find_page()))
        return json_error(401, "unauthorized", "send an API token as Authorization: Bearer sf_...")
    needed = PAGE_ROUTES.get(endpoint) or CHANGE_ROUTES.get(endpoint)
    if endpoint in ACCOUNT_ROUTES or (needed and g.access.highest >= needed):
        return None
    if needed is None:
        abort(403, f"{request.path} is closed: no role is set for it")
    detail = f"{request.path} needs the role {needed.title}; you are {g.access.highest.title}"
    if is_page:
        return render_template("error.html", title="Not allowed", detail=detail), 403
    return json_error(403, "forbidden", detail)


def _find_page() -> str:
    """Return the page to open after the sign-in: this one, or the one whose form was sent."""
    if request.method in SAFE_METHODS:
        return request.full_path.rstrip("?")
    sender = urlsplit(request.referrer or "")
    return f"{sender.path}?{sender.query}".rstrip("?") if sender.netloc == request.host else "/"


def needs_fresh_sign_in(endpoint: str) -> Any:
    """Return the redirect to "Sign in again" for a dangerous endpoint and an old sign-in; else None."""
    if endpoint not in DANGEROUS_ROUTES or g.access is None:
        return None
    if check_and_update_authn_fresh(FRESH_FOR, timedelta(0)):
        return None
    if request.blueprint == "api":
        return json_error(403, "forbidden", "this needs a sign-in of the last 30 minutes, or an API token")
    page = DANGEROUS_ROUTES[endpoint]
    wanted = {name for rule in current_app.url_map.iter_rules(page) for name in rule.arguments}
    values = {name: value for name, value in (request.view_args or {}).items() if name in wanted}
    page = url_for(page, **values)
    return redirect(url_for("security.verify", next=page))
