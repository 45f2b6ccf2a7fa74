"""What the mail services that are called over HTTPS share: the call, and how long they ask us to wait."""

import base64
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from services.core.errors import Misconfigured, OutcomeUnknown, RetryLater
from services.providers.outgoing_mail import Attachment, MailThrottled

if TYPE_CHECKING:
    import httpx

WAIT_UNSTATED = timedelta(seconds=10)
WAIT_LONGEST = timedelta(hours=6)
USER_AGENT = "shopfleet"
"""Resend answers 403 to a caller that does not name itself."""


@cache
def http_client() -> "httpx.Client":
    """Return one pool of connections a process, made at first use: after the fork."""
    import httpx

    timeout = httpx.Timeout(30.0, connect=5.0)
    return httpx.Client(timeout=timeout, headers={"User-Agent": USER_AGENT}, follow_redirects=False)


def post(
    provider: str,
    http: "httpx.Client",
    url: str,
    headers: Mapping[str, str],
    *,
    json: Any = None,
    form: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> "httpx.Response":
    """Return the answer, whatever it is. Without one: ``RetryLater`` where nothing was sent, or the doubt."""
    import httpx

    body = orjson.dumps(json) if json is not None else content
    try:
        if form is not None:
            return http.post(url, headers=dict(headers), data=dict(form))
        return http.post(url, headers=dict(headers), content=body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise RetryLater(f"{provider}.unavailable", f"could not connect: {type(error).__name__}") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Misconfigured(
            f"{provider}.address_wrong", f"{url!r} should begin with https:// and a host"
        ) from error
    except httpx.HTTPError as error:
        raise OutcomeUnknown(f"{provider}.no_answer", f"sent, then {type(error).__name__}") from error


def find_body(response: "httpx.Response") -> dict[str, Any]:
    """Return the JSON object of an answer, or an empty one."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def stated_wait(response: "httpx.Response") -> timedelta | None:
    """Return what ``Retry-After`` asks for: seconds, or a date, read beside the answer's own ``Date``."""
    stated = response.headers.get("retry-after", "")
    try:
        wait = timedelta(seconds=min(float(stated), WAIT_LONGEST.total_seconds()))
    except ValueError:
        try:
            wait = parsedate_to_datetime(stated) - parsedate_to_datetime(response.headers.get("date", ""))
        except (ValueError, TypeError):
            return None
    return min(WAIT_LONGEST, max(timedelta(0), wait))


def throttled(provider: str, said: str, wait: timedelta | None) -> MailThrottled:
    """Return the failure of an answer that says "slow down"."""
    return MailThrottled(f"{provider}.throttled", said, wait=wait or WAIT_UNSTATED)


def base64_content(part: Attachment) -> str:
    """Return a part's content as these services take it."""
    return base64.b64encode(part.content).decode()
