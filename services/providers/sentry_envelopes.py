"""Sends a check-in of a monitor or an event to Sentry and waits for the response.

The SDK's ``capture_checkin`` and ``capture_event`` queue it in the process and lose it when the process ends.
So the SDK only builds the envelope here.
Sources: develop.sentry.dev/sdk/telemetry/check-ins, develop.sentry.dev/sdk/expected-features/rate-limiting,
develop.sentry.dev/sdk/foundations/transport/event-payloads.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
from sentry_sdk import VERSION
from sentry_sdk.envelope import Envelope, Item, PayloadRef
from sentry_sdk.utils import BadDsn, Dsn

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.providers.http import parse_retry_after, post

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
WAIT_UNSTATED = timedelta(seconds=60)
"""What Sentry documents for a 429 without a wait."""
WAIT_LONGEST = timedelta(hours=1)


def send_checkin(http: httpx.Client, dsn: str, checkin: Mapping[str, Any]) -> None:
    """Send ``checkin``. May be repeated: Sentry updates the one with the same ``check_in_id``.

    Raises ``RetryLater`` (also without an answer), ``Misconfigured`` or ``Refused``.
    """
    envelope = Envelope()
    envelope.add_checkin({"type": "check_in", **checkin})
    _send(http, dsn, envelope, "monitor", "sentry.checkin_refused")


def send_event(http: httpx.Client, dsn: str, event: Mapping[str, Any]) -> None:
    """Send ``event``. May be repeated: Sentry drops a second one with the same ``event_id``.

    Raises as ``send_checkin``.
    """
    envelope = Envelope(headers={"event_id": event["event_id"]})
    envelope.add_item(Item(payload=PayloadRef(json={**event}), type="event"))
    _send(http, dsn, envelope, "error", "sentry.event_refused")


def _send(http: httpx.Client, dsn: str, envelope: Envelope, category: str, refused: str) -> None:
    try:
        auth = Dsn(dsn).to_auth(f"sentry.python/{VERSION}")
    except BadDsn as fault:
        raise Misconfigured("sentry.dsn_unreadable", f"SENTRY_DSN cannot be read: {fault}") from None
    headers = {"Content-Type": "application/x-sentry-envelope", "X-Sentry-Auth": auth.to_header()}
    answer = post(
        "sentry",
        auth.get_api_url(),
        headers,
        http=http,
        is_repeatable=True,
        is_cut=True,
        content=envelope.serialize(),
        timeout=TIMEOUT,
    )
    if not answer.is_success:
        raise _make_error(answer, category, refused)


def _make_error(answer: httpx.Response, category: str, refused: str) -> WorkError:
    status = answer.status_code
    detail = f"HTTP {status} {answer.headers.get('x-sentry-error', '')[:200]}".rstrip()
    if status == 429:
        return RetryLater("sentry.rate_limited", detail, wait=_find_wait(answer.headers, category))
    if status >= 500:
        return RetryLater("sentry.unavailable", detail)
    if status in (401, 403):
        return Misconfigured("sentry.dsn_refused", f"{detail}: SENTRY_DSN names a key that Sentry refuses")
    return Refused(refused, detail)


def _find_wait(headers: httpx.Headers, category: str) -> timedelta:
    """Return the longest limit that concerns ``category``, else ``Retry-After``."""
    seconds: list[float] = []
    for limit in headers.get("x-sentry-rate-limits", "").split(","):
        stated, _, rest = limit.strip().partition(":")
        categories = rest.partition(":")[0]
        if stated.isdecimal() and (not categories or category in categories.split(";")):
            seconds.append(float(stated))
    if seconds:
        return timedelta(seconds=min(WAIT_LONGEST.total_seconds(), max(seconds)))
    return parse_retry_after(headers, WAIT_LONGEST) or WAIT_UNSTATED
