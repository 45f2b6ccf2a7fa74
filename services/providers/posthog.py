"""Sends events to PostHog, each with a uuid: an event that is sent twice is counted once.

Source: posthog.com/docs/api/capture. A 2xx means accepted; PostHog processes it later.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx
import orjson

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.providers.http import find_json, parse_retry_after

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
WAIT_LONGEST = timedelta(hours=1)
JSON_HEADERS = {"Content-Type": "application/json"}


def send_events(http: httpx.Client, host: str, key: str, events: Sequence[Mapping[str, Any]]) -> str:
    """Send ``events``; return ``delivered``, or ``over_quota`` if PostHog accepts and drops them.

    May be repeated under the same uuids. Raises ``RetryLater`` (also without an answer), ``Misconfigured``
    or ``Refused``. No error contains the key.
    """
    body = orjson.dumps({"api_key": key, "batch": list(events)})
    try:
        answer = http.post(f"{host}/batch/", content=body, headers=JSON_HEADERS, timeout=TIMEOUT)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        hint = "POSTHOG_HOST should look like https://us.i.posthog.com"
        raise Misconfigured("posthog.host_unreadable", hint) from None
    except httpx.HTTPError as fault:
        raise RetryLater("posthog.unavailable", f"no answer from PostHog: {type(fault).__name__}") from fault
    if not answer.is_success:
        raise _make_error(answer)
    return "over_quota" if (find_json(answer) or {}).get("quota_limited") else "delivered"


def _make_error(answer: httpx.Response) -> WorkError:
    status = answer.status_code
    detail = f"HTTP {status}"
    if status == 429:
        wait = parse_retry_after(answer.headers, WAIT_LONGEST)
        return RetryLater("posthog.rate_limited", detail, wait=wait)
    if status >= 500:
        return RetryLater("posthog.unavailable", detail)
    if status in (401, 403):
        return Misconfigured("posthog.key_refused", f"{detail}: POSTHOG_KEY is refused")
    return Refused("posthog.event_refused", detail)
