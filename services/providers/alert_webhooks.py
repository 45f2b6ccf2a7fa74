"""Posts alerts to Slack's incoming webhooks and to addresses of the operator.

Source: docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. Slack answers 200 ``ok``, or an
error as plain text. The addresses are secrets: no error contains one.
"""

import socket
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from services.core.errors import Misconfigured, Refused, RetryLater
from services.providers.http import parse_retry_after, post

WAIT_LONGEST = timedelta(minutes=10)
GONE = (401, 403, 404, 410)
"""The webhook was revoked, its channel deleted or archived."""


def post_alert(channel: str, url: str, document: Mapping[str, Any], *, allow_private: bool) -> str:
    """Post ``document``; return the answer's text. A post without an answer may have arrived.

    Raises ``RetryLater`` (also without an answer: an alert that comes twice is better than none),
    ``Misconfigured`` (the address is private, or the other side does not know it any more) or ``Refused``.
    """
    if not allow_private:
        _check_is_public(channel, url)
    answer = post(channel, url, {}, json=dict(document), is_repeatable=True)
    status, text = answer.status_code, answer.text[:100]
    if answer.is_success:
        return text
    detail = f"HTTP {status} {text}"
    if status == 429:
        raise RetryLater(
            f"{channel}.rate_limited", detail, wait=parse_retry_after(answer.headers, WAIT_LONGEST)
        )
    if status >= 500 or status == 408:
        raise RetryLater(f"{channel}.unavailable", detail)
    if status in GONE:
        raise Misconfigured(f"{channel}.address_refused", f"{detail}: replace the address of {channel}")
    raise Refused(f"{channel}.message_refused", detail)


def _check_is_public(channel: str, url: str) -> None:
    """Raise ``Misconfigured`` if the host is, or resolves to, an address that is not public.

    Otherwise whoever sets an address could reach services of the private network.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as fault:
        raise RetryLater(f"{channel}.unavailable", "the name of its host does not resolve") from fault
    private = sorted({str(info[4][0]) for info in found if not ip_address(info[4][0]).is_global})
    if private:
        raise Misconfigured(
            f"{channel}.private_address",
            f"its host has the private address {private[0]}: use a public one, or set ALLOW_PRIVATE_URLS=1",
        )
