"""HTTPS calls: one pool of connections per process, errors by meaning, and ``Retry-After``."""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from services.core.errors import Misconfigured, OutcomeUnknown, RetryLater
from services.providers.delivery import parse_object

if TYPE_CHECKING:
    import httpx

USER_AGENT = "shopfleet"
"""Resend answers 403 to a client without a name."""


@cache
def get_http_client() -> "httpx.Client":
    """Return the process's pool of connections, created at first use: after the fork."""
    import httpx  # slow to load, and most processes call nothing

    timeout = httpx.Timeout(30.0, connect=5.0)
    return httpx.Client(timeout=timeout, headers={"User-Agent": USER_AGENT}, follow_redirects=False)


def request(
    method: str,
    provider: str,
    url: str,
    headers: Mapping[str, str],
    *,
    http: "httpx.Client | None" = None,
    is_repeatable: bool = False,
    is_cut: bool = False,
    host: str = "a host",
    **body: Any,
) -> "httpx.Response":
    """Return the response, whatever its status. ``body`` is httpx's ``json``, ``data`` or ``content``.

    Raises ``RetryLater`` if nothing was sent and ``Misconfigured`` for a URL without a ``host``. A
    request without a response is ``OutcomeUnknown``, or ``RetryLater`` if it ``is_repeatable``.
    With ``is_cut`` only the first part of the response's body is read: one without end holds no worker.
    """
    import httpx

    try:
        client = http or get_http_client()
        if is_cut:
            return _read_first_part(client, client.build_request(method, url, headers=dict(headers), **body))
        return client.request(method, url, headers=dict(headers), **body)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        server = urlsplit(url).netloc.rpartition("@")[2]
        detail = f"could not connect to {server}: {type(error).__name__}"
        raise RetryLater(f"{provider}.unavailable", detail) from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise Misconfigured(
            f"{provider}.address_wrong", f"{url!r} should begin with https:// and {host}"
        ) from error
    except httpx.HTTPError as error:
        if is_repeatable:
            raise RetryLater(f"{provider}.no_answer", f"no answer: {type(error).__name__}") from error
        raise OutcomeUnknown(f"{provider}.no_answer", f"sent, then {type(error).__name__}") from error


def _read_first_part(client: "httpx.Client", sent: "httpx.Request") -> "httpx.Response":
    import httpx

    response = client.send(sent, stream=True)
    try:
        content = next(response.iter_bytes(), b"")
    finally:
        response.close()
    headers = {name: value for name, value in response.headers.items() if name != "content-encoding"}
    return httpx.Response(response.status_code, headers=headers, content=content, request=sent)


post = partial(request, "POST")
get = partial(request, "GET", is_repeatable=True)


def find_json(response: "httpx.Response") -> dict[str, Any] | None:
    return parse_object(response.content)


def parse_retry_after(headers: Mapping[str, str], longest: timedelta) -> timedelta | None:
    """Return the wait in ``Retry-After``, from 0 to ``longest``; None without a readable one.

    It is a number of seconds (Shopify sends "2.0") or a date, which is compared with the response's ``Date``.
    """
    text = headers.get("retry-after", "")
    try:
        wait = timedelta(seconds=min(float(text), longest.total_seconds()))
    except (ValueError, OverflowError):
        try:
            wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
        except (ValueError, TypeError, OverflowError):
            return None
    return min(longest, max(timedelta(0), wait))
