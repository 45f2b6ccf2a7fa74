"""Error reports to Sentry, with the ids of the row and without personal data.

No request body, no local variable, few headers and no value that looks like a secret leaves the process.
Nothing here blocks or raises: events wait in a bounded queue of the SDK's thread, and are dropped while
Sentry cannot be reached. Without ``SENTRY_DSN`` the SDK is not imported: it costs each process 10 MB.
Options: https://docs.sentry.io/platforms/python/configuration/options/
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from services.core.errors import SettingsInvalid
from services.core.log_redaction import redact, redact_text
from services.core.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk import Scope
    from sentry_sdk.integrations import Integration
    from sentry_sdk.types import Event, Hint

WEB_COMPONENTS = ("ingress", "console")
HARMLESS_HEADERS = frozenset({"content-length", "content-type", "host", "user-agent", "x-request-id"})
LONGEST_ERROR = 500
SHUTDOWN_SECONDS = 1.0
"""How long a stopping process waits for Sentry; the fleet kills what has not ended after seven seconds."""

Tag = str | Callable[[], str]
"""The value of a tag, or a function that finds it; the function is called only if a report is sent."""

_is_on = False


def init_sentry(settings: Settings, component: str) -> bool:
    """Report this process's errors from now on, and return True; without a ``SENTRY_DSN`` return False.

    ``component`` (``ingress``, ``worker-webhooks``, ``beat``) becomes a tag. Raises ``SettingsInvalid`` for a
    DSN that cannot be parsed.
    """
    global _is_on  # noqa: PLW0603 - one Sentry client per process
    if not settings.sentry_dsn:
        return False
    import sentry_sdk
    from sentry_sdk.utils import BadDsn, Dsn

    try:
        Dsn(settings.sentry_dsn)
    except BadDsn as fault:
        raise SettingsInvalid(
            f"SENTRY_DSN cannot be read ({fault}): it looks like https://KEY@HOST/PROJECT_NUMBER"
        ) from None
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        environment=settings.environment,
        release=settings.release or None,
        # The SDK's default is not to send personal data; the option is deprecated, and a test checks it.
        max_request_body_size="never",
        include_local_variables=False,
        before_send=_scrub,
        before_breadcrumb=lambda crumb, _hint: redact(crumb),
        max_breadcrumbs=20,
        shutdown_timeout=SHUTDOWN_SECONDS,
        # A fixed list: automatic integrations send the command line, and statements with their values.
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=_integrations(component),
    )
    sentry_sdk.set_tag("component", component)
    _is_on = True
    return True


def capture_dead_work(
    *, topic: str, work_id: int, code: str, shop: Tag, request_id: str, last_error: str
) -> None:
    """Report a dead item. Items of one topic and code are one issue."""
    with _reporting({"topic": topic, "shop": shop, "request_id": request_id, "code": code}) as scope:
        if scope is not None:
            scope.fingerprint = [topic, code]
            scope.set_context("work", {"id": work_id, "last_error": redact_text(last_error)[:LONGEST_ERROR]})
            scope.capture_message(f"{topic} is dead: {code}", level="error")


def capture_sweep_failed(exc: BaseException) -> None:
    """Report that the sweep failed: until it runs again, lost messages are not sent again."""
    capture_bug(exc, topic="sweep", fingerprint=("sweep", type(exc).__name__))


def capture_bug(exc: BaseException, *, fingerprint: Sequence[str] = (), **tags: Tag) -> None:
    """Report an unexpected error, with ``topic``, ``shop`` and ``request_id``, which identify its row."""
    with _reporting(tags) as scope:
        if scope is not None:
            scope.fingerprint = list(fingerprint) or None
            scope.capture_exception(exc)


@contextlib.contextmanager
def _reporting(tags: Mapping[str, Tag]) -> "Iterator[Scope | None]":
    """Yield a scope for one report, or None while Sentry is off; errors of the SDK are dropped."""
    if not _is_on:
        yield None
        return
    from sentry_sdk import new_scope

    with contextlib.suppress(Exception), new_scope() as scope:
        for name, tag in tags.items():
            if value := tag if isinstance(tag, str) else tag():
                scope.set_tag(name, value)
        yield scope


def _integrations(component: str) -> "list[Integration]":
    from sentry_sdk.integrations.atexit import AtexitIntegration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.integrations.excepthook import ExcepthookIntegration
    from sentry_sdk.integrations.logging import LoggingIntegration
    from sentry_sdk.integrations.threading import ThreadingIntegration

    chosen: list[Integration] = [
        AtexitIntegration(callback=lambda _pending, _timeout: None),  # by default it writes to stderr
        DedupeIntegration(),
        ExcepthookIntegration(),
        LoggingIntegration(event_level=None),  # log lines are breadcrumbs, not events
        ThreadingIntegration(),
    ]
    if component in WEB_COMPONENTS:
        from sentry_sdk.integrations.flask import FlaskIntegration

        chosen.append(FlaskIntegration())
    elif component.startswith(("worker", "beat")):
        from sentry_sdk.integrations.celery import CeleryIntegration

        # The SDK's headers are larger than the message; the sweep sends messages without them.
        chosen.append(CeleryIntegration(propagate_traces=False, monitor_beat_tasks=False))
    return chosen


def _scrub(event: "Event", _hint: "Hint") -> "Event | None":
    """Return ``event`` without bodies, secrets and most headers; None, which drops it, if that fails."""
    try:
        request = event.get("request")
        if request:
            event["request"] = {
                "method": request.get("method"),
                "url": redact_text(str(request.get("url", "")).partition("?")[0]),
                "headers": _harmless_headers(request.get("headers")),
            }
        for part in ("extra", "contexts", "breadcrumbs", "message", "logentry", "tags", "transaction"):
            if part in event:
                event[part] = redact(event[part])
        for error in event.get("exception", {}).get("values", ()):
            error["value"] = redact_text(str(error.get("value") or ""))[:LONGEST_ERROR]
        event.pop("user", None)
    except Exception:  # noqa: BLE001 - an event that cannot be cleaned is not sent
        return None
    return event


def _harmless_headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        return {}
    return {
        str(name): str(redact(value)) for name, value in headers.items() if name.lower() in HARMLESS_HEADERS
    }
