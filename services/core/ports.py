"""Ports of this machine: which are free, and which process uses the others."""

import errno
import socket
import sys
import time

from services.core.errors import SettingsInvalid

LOOPBACK = "127.0.0.1"
ENDS_WITHIN_SECONDS = 10.0
"""A server that is being replaced closes its port within this time (granian: 8 s)."""


def find_port_fault(port: int, host: str = LOOPBACK) -> OSError | None:
    """Return why no server can listen on ``port`` of ``host`` now, or None. Ended connections are ignored."""
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as fault:
        return fault
    return None


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server could listen on ``port`` of ``host`` now."""
    return find_port_fault(port, host) is None


def check_port(setting: str, port: int, host: str = LOOPBACK) -> None:
    """Return once this process may listen on ``port``, the value of ``setting``.

    Raises ``SettingsInvalid``. granian's sockets have SO_REUSEPORT: without this check a second server would
    start on the same port, and get a part of the first one's requests.
    """
    deadline = time.monotonic() + ENDS_WITHIN_SECONDS
    is_reported = False
    while fault := find_port_fault(port, host):
        if fault.errno != errno.EADDRINUSE:
            raise SettingsInvalid(f"port {port} ({setting}) of {host} cannot be used: {fault.strerror}")
        taken = f"port {port} ({setting}) is taken by {find_listener(port)}"
        if time.monotonic() > deadline:
            raise SettingsInvalid(f"{taken}: stop it, or set {setting} to a free port")
        if not is_reported:
            sys.stderr.write(f"{taken}: waiting up to {ENDS_WITHIN_SECONDS:.0f} s for its end\n")
            is_reported = True
        time.sleep(0.2)


def find_listener(port: int) -> str:
    """Return the process that uses ``port`` (``nginx, pid 812``), if this user may see it."""
    try:
        import psutil
    except ImportError:
        return f"another process (`ss -ltnp sport = :{port}` shows it)"
    try:
        for kind in ("tcp", "udp"):  # `fleet up` reserves ports by UDP, see hold_port
            for each in psutil.net_connections(kind):
                if each.laddr and each.laddr.port == port and each.pid and not each.raddr:
                    return f"{psutil.Process(each.pid).name()}, pid {each.pid}"
    except psutil.Error:
        pass
    return "a process of another user"
