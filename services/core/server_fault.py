"""Why a server cannot be used, and what a person does about it."""

import re
import socket
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from services.core.errors import describe_server

CONNECT_SECONDS = 1.0
_DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379, "amqp": 5672}
_TIMEOUT = re.compile("time(d )?.?out", re.IGNORECASE)


class ServerFault(NamedTuple):
    """``remedy`` is empty if the server is not reachable: it does not run, or the address is wrong."""

    what: str
    remedy: str = ""


def explain_timeout(url: str, reason: str, seconds: float) -> ServerFault | None:
    """Return the fault if ``reason`` is a timeout of ``seconds``, else None; waits up to 1 s.

    A server that hangs still accepts connections, because its kernel does.
    """
    if not _TIMEOUT.search(reason):
        return None
    if not _accepts_connections(url):
        return ServerFault(f"is not reachable: no answer within {seconds:g} s")
    return ServerFault(f"accepts connections and gave no answer within {seconds:g} s", "it hangs: restart it")


def _accepts_connections(url: str) -> bool:
    first = urlsplit("//" + describe_server(url).partition("/")[0].partition(",")[0])
    with suppress(OSError, ValueError):
        port = first.port or _DEFAULT_PORTS.get(url.partition("://")[0], 0)
        socket.create_connection((first.hostname or "", port), CONNECT_SECONDS).close()
        return True
    return False
