"""Posts alerts to Slack's incoming webhooks and to addresses of the operator.

Source: docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. Slack answers 200 ``ok``, or an
error as plain text. The addresses are secrets: no error contains one.
"""

import socket
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from services.core.errors import Misconfigured, Refused, RetryLater
from services.providers.http import parse_retry_after, post

WAIT_LONGEST = timedelta(minutes=10)
GONE = (401, 403, 404, 410)
"""The webhook was revoked, its channel deleted or archived."""

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def post_alert(channel: str, url: str, document: Mapping[str, Any], *, allow_private: bool) -> str:
    """Post ``document``; return the answer's text. A post without an answer may have arrived.

    Raises ``RetryLater`` (also without an answer: an alert that comes twice is better than none),
    ``Misconfigured`` (the address is private, or the other side does not know it any more) or ``Refused``.
    """
    target = {"url": url, "headers": {}} if allow_private else find_public_target(channel, url)
    answer = post(channel, **target, json=dict(document), is_repeatable=True, is_cut=True)
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


def find_public_target(channel: str, url: str) -> dict[str, Any]:
    """Return the request to the address of the host; raise ``Misconfigured`` if one is not public.

    Otherwise whoever sets an address could reach services of the private network. The connection goes to the
    address that was checked, because a second look-up of the name may have another answer.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as fault:
        raise RetryLater(f"{channel}.unavailable", "the name of its host does not resolve") from fault
    addresses = sorted((ip_address(info[4][0]) for info in found), key=lambda one: one.version)
    if private := [one for one in addresses if not _is_public(one)]:
        raise Misconfigured(
            f"{channel}.private_address",
            f"its host has the private address {private[0]}: use a public one, or set ALLOW_PRIVATE_URLS=1",
        )
    first = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    login, _, name = parts.netloc.rpartition("@")
    pinned = parts._replace(netloc=f"{login}@{first}:{port}" if login else f"{first}:{port}")
    return {
        "url": urlunsplit(pinned),
        "headers": {"Host": name},
        "extensions": {"sni_hostname": host},  # the certificate is checked for the name
    }


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether ``address``, and an IPv4 address inside it, is of one host on the Internet."""
    inner = None
    if isinstance(address, IPv6Address):
        inner = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.sixtofour
    return address.is_global and not address.is_multicast and (inner is None or _is_public(inner))
