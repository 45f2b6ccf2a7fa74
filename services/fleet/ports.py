"""Ports on loopback: which are free, and which process uses the others."""

import socket
from collections.abc import Mapping

from services.fleet.errors import PortTaken

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on ``port`` of ``host`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def hold_port(port: int) -> socket.socket | None:
    """Return an open socket that reserves ``port``, or None if it is taken or was in use a minute ago.

    A server that shares its port (granian does, with SO_REUSEPORT) can still listen on it. Without the
    reservation two fleets that start together would find the port free and share it. The option follows the
    bind: before it, two holders could share the port.
    """
    holder = socket.socket()
    try:
        holder.bind((LOOPBACK, port))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        holder.close()
        return None
    return holder


def find_listener(port: int) -> str:
    """Return the process that listens on ``port`` (``nginx, pid 812``), if this user may see it."""
    try:
        import psutil
    except ImportError:
        return "another process"
    try:
        for connection in psutil.net_connections("inet"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
    except psutil.Error:
        pass
    return "a process of another user"


def pick_ports(wanted: Mapping[str, int], *, auto: bool) -> dict[str, int]:
    """Return the ports ``wanted`` by setting, each different; a free one for each that is taken if ``auto``.

    Else ``PortTaken`` names every taken port with its setting.
    """
    taken = [name for name, port in wanted.items() if not port or not is_free(port)]
    if taken and not auto:
        listed = "; ".join(
            f"port {wanted[name]} ({name}) is taken by {find_listener(wanted[name])}" for name in taken
        )
        it, ports = ("it", "a free port") if len(taken) == 1 else ("them", "free ports")
        raise PortTaken(
            f"{listed}: stop {it}, set {', '.join(taken)} to {ports}, or start with --auto-ports "
            "(make up AUTO_PORTS=1)"
        )
    picked: dict[str, int] = {}
    for name, wished in wanted.items():
        port = find_free_port() if name in taken else wished
        while port in picked.values():
            port = find_free_port()
        picked[name] = port
    return picked
