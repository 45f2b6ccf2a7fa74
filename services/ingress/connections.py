"""The open client connections of this process, and how long each has been idle.

Granian limits connections (``backpressure``), not requests, counts idle ones too, and cannot close one. So
this module finds them among the file descriptors of the process and shuts them down; granian then sees the
end of the stream. Only Linux reports the idle time (``tcp(7)``, ``TCP_INFO``): elsewhere none is found, and
granian's own limit of ten seconds without a request applies.
Source: granian 2.8, ``src/workers.rs``, ``acceptor_impl_loop``.
"""

import os
import socket
import struct
from collections.abc import Container
from contextlib import closing
from typing import NamedTuple

FOLDER = "/proc/self/fd"
_LAST_SENT_AND_RECEIVED = struct.Struct("=44xI4xI")
"""``tcpi_last_data_sent`` and ``tcpi_last_data_recv`` of ``struct tcp_info``: milliseconds ago."""


class Connection(NamedTuple):
    """A client's connection. ``idle_seconds``: since data was received or sent."""

    descriptor: int
    peer: str
    idle_seconds: float


def count_descriptors() -> int:
    """Return how many file descriptors this process has: at least its connections; 0 outside Linux."""
    try:
        with os.scandir(FOLDER) as entries:
            return sum(1 for _ in entries)
    except OSError:
        return 0


def list_connections(port: int) -> list[Connection]:
    """Return the client connections to ``port`` of this process; none outside Linux."""
    try:
        with os.scandir(FOLDER) as entries:
            descriptors = [int(entry.name) for entry in entries]
    except OSError:
        return []
    found = (_find_connection(descriptor, port) for descriptor in descriptors)
    return [connection for connection in found if connection is not None]


def shut_idle(connection: Connection) -> bool:
    """Shut ``connection`` down unless it is closed or has unread data; return whether it was shut down."""
    sock = _open(connection.descriptor)
    if sock is None:
        return False
    with closing(sock):
        try:
            if _peer(sock) != connection.peer:
                return False  # the descriptor belongs to another connection now
            sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sock.shutdown(socket.SHUT_RDWR)
            return True
        except OSError:
            return False
    return False  # unread data, or closed by the client


def find_crowd(
    connections: list[Connection], busy: Container[str], least_idle_seconds: float
) -> list[Connection]:
    """Return the idle ``connections`` whose peer is not ``busy``, the longest idle first. Pure."""
    idle = [one for one in connections if one.idle_seconds >= least_idle_seconds and one.peer not in busy]
    return sorted(idle, key=lambda one: one.idle_seconds, reverse=True)


def _find_connection(descriptor: int, port: int) -> Connection | None:
    sock = _open(descriptor)
    if sock is None:
        return None
    with closing(sock):
        try:
            if sock.getsockname()[1] != port:
                return None
            peer = _peer(sock)
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_SENT_AND_RECEIVED.size)
        except (OSError, IndexError, TypeError):
            return None
    return Connection(descriptor, peer, min(_LAST_SENT_AND_RECEIVED.unpack(info)) / 1000)


def _open(descriptor: int) -> socket.socket | None:
    """Return the socket at ``descriptor`` with a duplicated descriptor, so that granian cannot close it."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def _peer(sock: socket.socket) -> str:
    """Return the peer in granian's form: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    host, port, *_ = sock.getpeername()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
