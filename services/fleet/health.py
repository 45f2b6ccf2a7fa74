"""Asks a process on loopback whether it is well."""

import http.client
from urllib.parse import urlsplit


def answers(url: str, *, timeout_seconds: float = 2.0) -> bool:
    """Say whether ``url`` (plain HTTP) answers 200 in time."""
    parts = urlsplit(url)
    link = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
    try:
        link.request("GET", parts.path or "/")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
