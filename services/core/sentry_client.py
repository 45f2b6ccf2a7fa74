"""Errors reach Sentry with the ids that lead to the row, and without anybody's data.

No request body, no local variable, no header beyond a few harmless ones, no value that looks like a secret
leaves the process. Everything here returns at once and never raises: events wait in a bounded
queue of the SDK's own thread, and are dropped while Sentry is away.
Options: https://docs.sentry.io/platforms/python/configuration/options/
"""

import contextlib
from collections.abc import Mapping

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.types import Breadcrumb, Event, Hint
from sentry_sdk.utils import BadDsn, Dsn

from services.core.errors import SettingsInvalid
from services.core.redact import redact, redact_text
from services.core.settings import Settings

WEB_COMPONENTS = ("ingress", "console")
HARMLESS_HEADERS = frozenset({"content-length", "content-type", "host", "user-agent", "x-request-id"})
LONGEST_ERROR = 500
SECONDS_TO_SEND_THE_REST = 2.0
"""How long a stopping process waits for Sentry; the fleet has ten seconds to stop in all."""


def start(settings: Settings, component: str) -> None:
    """Report this process's errors from now on, tagged with ``component``."""
    try:
        Dsn(settings.sentry_dsn)
    except BadDsn as fault:
        raise SettingsInvalid(
            f"SENTRY_DSN cannot be read ({fault}): it looks like https://KEY@HOST/PROJECT_NUMBER"
        ) from None
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        environment=settings.environment,
        # Personal data is off by the SDK's default; naming the option is deprecated, and a test looks.
        max_request_body_size="never",
        include_local_variables=False,
        before_send=_scrub,
        before_breadcrumb=_scrub_breadcrumb,
        max_breadcrumbs=20,
        shutdown_timeout=SECONDS_TO_SEND_THE_REST,
        # Chosen by hand: the automatic ones send the command line, and record statements with their values.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=_integrations(component),
    )
    sentry_sdk.set_tag("component", component)


def capture_dead_work(
    *, topic: str, work_id: int, code: str, shop: str, request_id: str, last_error: str
) -> None:
    """Report an item that gave up or was refused. Items of one topic and code are one issue."""
    with contextlib.suppress(Exception), sentry_sdk.new_scope() as scope:
        _tag(scope, topic=topic, shop=shop, request_id=request_id)
        scope.set_tag("code", code)
        scope.fingerprint = [topic, code]
        scope.set_context("work", {"id": work_id, "last_error": redact_text(last_error)[:LONGEST_ERROR]})
        sentry_sdk.capture_message(f"{topic} is dead: {code}", level="error", scope=scope)


def capture_sweep_failed(exc: BaseException) -> None:
    """Report that the sweep failed: until it runs again, lost messages and stuck leases stay as they are."""
    with contextlib.suppress(Exception), sentry_sdk.new_scope() as scope:
        scope.fingerprint = ["sweep", type(exc).__name__]
        scope.set_tag("topic", "sweep")
        sentry_sdk.capture_exception(exc, scope=scope)


def capture_bug(exc: BaseException, *, topic: str = "", shop: str = "", request_id: str = "") -> None:
    """Report an error that nobody expected, with what leads to the row it happened to."""
    with contextlib.suppress(Exception), sentry_sdk.new_scope() as scope:
        _tag(scope, topic=topic, shop=shop, request_id=request_id)
        sentry_sdk.capture_exception(exc, scope=scope)


def tag_request(*, request_id: str, shop: str, topic: str) -> None:
    """Let what goes wrong in the rest of this request carry these three tags."""
    with contextlib.suppress(Exception):
        _tag(sentry_sdk.get_isolation_scope(), topic=topic, shop=shop, request_id=request_id)


def _tag(scope: sentry_sdk.Scope, **tags: str) -> None:
    for name, value in tags.items():
        if value:
            scope.set_tag(name, value)


def _integrations(component: str) -> list[Integration]:
    chosen: list[Integration] = [
        AtexitIntegration(callback=lambda _pending, _timeout: None),  # by default it writes to stderr
        DedupeIntegration(),
        ExcepthookIntegration(),
        LoggingIntegration(event_level=None),  # lines are breadcrumbs; only what is captured is an event
        ThreadingIntegration(),
    ]
    if component in WEB_COMPONENTS:
        from sentry_sdk.integrations.flask import FlaskIntegration

        chosen.append(FlaskIntegration())
    elif component.startswith(("worker", "beat")):
        from sentry_sdk.integrations.celery import CeleryIntegration

        # Headers of the SDK in every message would cost more than the message; a sweep sends without them.
        chosen.append(CeleryIntegration(propagate_traces=False, monitor_beat_tasks=False))
    return chosen


def _scrub(event: Event, _hint: Hint) -> Event | None:
    """Return ``event`` without bodies, secrets and strangers' headers; drop it if that cannot be done."""
    try:
        request = event.get("request")
        if request:
            event["request"] = {
                "method": request.get("method"),
                "url": str(request.get("url", "")).partition("?")[0],
                "headers": _harmless_headers(request.get("headers")),
            }
        for part in ("extra", "contexts", "breadcrumbs", "message", "logentry", "tags", "transaction"):
            if part in event:
                event[part] = redact(event[part])
        for error in event.get("exception", {}).get("values", ()):
            error["value"] = redact_text(str(error.get("value") or ""))[:LONGEST_ERROR]
        event.pop("user", None)
    except Exception:  # noqa: BLE001 - an event that cannot be cleaned must not be sent
        return None
    return event


def _scrub_breadcrumb(crumb: Breadcrumb, _hint: Hint) -> Breadcrumb:
    cleaned: Breadcrumb = redact(crumb)
    return cleaned


def _harmless_headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        return {}
    return {
        str(name): str(redact(value)) for name, value in headers.items() if name.lower() in HARMLESS_HEADERS
    }
