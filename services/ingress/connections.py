"""The client address of a request, and the client connections of this process with their idle time.

Granian limits connections (``backpressure``) including idle ones, and cannot close a connection. This module
finds connections among the file descriptors of the process and shuts them down; granian then gets the end of
the stream. Only Linux reports the idle time (``tcp(7)``, ``TCP_INFO``). Elsewhere no connection is found, and
granian's limit of ten seconds without a request applies. Source: granian 2.8, ``src/workers.rs``.
"""

import os
import socket
import struct
from collections.abc import Container, Sequence
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
FOLDER = "/proc/self/fd"
_LAST_SENT_AND_RECEIVED = struct.Struct("=44xI4xI")
"""``tcpi_last_data_sent`` and ``tcpi_last_data_recv`` of ``struct tcp_info``, in milliseconds."""


class ClientConnection(NamedTuple):
    """A client connection. ``idle_seconds`` is the time since data was received or sent."""

    descriptor: int
    peer: str
    idle_seconds: float


def find_client(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the client's address: that of ``peer`` (``host:port``), unless ``peer`` is a trusted proxy.

    Then it is the right-most address of the ``X-Forwarded-For`` values ``forwarded`` that is not trusted: the
    client can write anything left of it. The search ends at an entry that is not an address.
    """
    client = _parse_address(peer)
    if client is None or not _is_trusted(client, trusted):
        return peer.rpartition(":")[0] if client is None else str(client)
    for entry in reversed(",".join(forwarded).split(",")):
        found = _parse_address(entry.strip())
        if found is None:
            break
        client = found
        if not _is_trusted(client, trusted):
            break
    return str(client)


def count_descriptors() -> int:
    """Return the number of file descriptors of this process, connections included; 0 outside Linux."""
    try:
        with os.scandir(FOLDER) as entries:
            return sum(1 for _ in entries)
    except OSError:
        return 0


def list_connections(port: int) -> list[ClientConnection]:
    """Return the client connections of this process to ``port``; none outside Linux."""
    try:
        with os.scandir(FOLDER) as entries:
            descriptors = [int(entry.name) for entry in entries]
    except OSError:
        return []
    found = (_find_connection(descriptor, port) for descriptor in descriptors)
    return [connection for connection in found if connection is not None]


def shut_idle(connection: ClientConnection) -> bool:
    """Shut ``connection`` down unless it is closed or has unread data; return whether it did."""
    sock = _open(connection.descriptor)
    if sock is None:
        return False
    with closing(sock):
        try:
            if _peer(sock) != connection.peer:
                return False  # the descriptor now belongs to another connection
            sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sock.shutdown(socket.SHUT_RDWR)
            return True
        except OSError:
            return False
    return False  # unread data, or closed by the client


def list_idle(
    connections: list[ClientConnection], busy: Container[str], least_idle_seconds: float
) -> list[ClientConnection]:
    """Return the idle ``connections`` whose peer is not ``busy``, the longest idle first. Pure."""
    idle = [one for one in connections if one.idle_seconds >= least_idle_seconds and one.peer not in busy]
    return sorted(idle, key=lambda one: one.idle_seconds, reverse=True)


def _find_connection(descriptor: int, port: int) -> ClientConnection | None:
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
    return ClientConnection(descriptor, peer, min(_LAST_SENT_AND_RECEIVED.unpack(info)) / 1000)


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


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _parse_address(text: str) -> Address | None:
    """Return the address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
