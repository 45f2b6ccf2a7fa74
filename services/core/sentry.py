"""Where errors are reported, if anywhere. Without a ``SENTRY_DSN`` the SDK is never even loaded.

It costs each process ten megabytes; ``services.core.sentry_client`` holds what is done with it.
"""

from types import ModuleType

from services.core.settings import Settings

_client: ModuleType | None = None


def init_sentry(settings: Settings, component: str) -> bool:
    """Report this process's errors from now on; say whether. Without a ``SENTRY_DSN`` nothing is set up.

    ``component`` (``ingress``, ``worker-webhooks``, ``beat``) becomes a tag. A DSN that cannot be read raises
    ``SettingsInvalid`` here, at start, rather than never reporting.
    """
    global _client  # noqa: PLW0603 - a process reports to one place
    if not settings.sentry_dsn:
        return False
    from services.core import sentry_client

    sentry_client.start(settings, component)
    _client = sentry_client
    return True


def capture_dead_work(
    *, topic: str, work_id: int, code: str, shop: str, request_id: str, last_error: str
) -> None:
    """Report an item that gave up or was refused. Items of one topic and code are one issue."""
    if _client is not None:
        _client.capture_dead_work(
            topic=topic, work_id=work_id, code=code, shop=shop, request_id=request_id, last_error=last_error
        )


def capture_sweep_failed(exc: BaseException) -> None:
    """Report that the sweep failed: until it runs again, lost messages and stuck leases stay as they are."""
    if _client is not None:
        _client.capture_sweep_failed(exc)


def capture_bug(exc: BaseException, *, topic: str = "", shop: str = "", request_id: str = "") -> None:
    """Report an error that nobody expected, with what leads to the row it happened to."""
    if _client is not None:
        _client.capture_bug(exc, topic=topic, shop=shop, request_id=request_id)


def tag_request(*, request_id: str, shop: str, topic: str) -> None:
    """Let what goes wrong in the rest of this request carry these three tags."""
    if _client is not None:
        _client.tag_request(request_id=request_id, shop=shop, topic=topic)
