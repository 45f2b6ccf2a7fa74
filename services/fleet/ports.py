"""Picks and reserves the ports of a fleet on loopback."""

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from services.core.ports import LOOPBACK, find_listener, is_free
from services.fleet.errors import PortTaken


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def hold_port(port: int, held: ExitStack) -> bool:
    """Reserve ``port`` until ``held`` closes; return False if it is taken or another fleet holds it.

    Without a reservation, two fleets that start together find the port free, and one gets the other's
    webhooks or mail. The reservation is a UDP socket on the same number, because our TCP servers must still
    listen there.
    """
    holder = socket.socket(type=socket.SOCK_DGRAM)
    try:
        holder.bind((LOOPBACK, port))
    except OSError:
        holder.close()
        return False
    if not is_free(port):
        holder.close()
        return False
    held.callback(holder.close)
    return True


def pick_ports(
    wanted: Mapping[str, int], *, auto: bool, hold: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """Return the ports ``wanted`` by setting, each passed by ``hold``; a free one for each taken if ``auto``.

    Else ``PortTaken`` names every taken port with its setting.
    """
    picked = {name: port for name, port in wanted.items() if port and hold(port)}
    taken = [name for name in wanted if name not in picked]
    if taken and not auto:
        others = {port: name for name, port in picked.items()}
        listed = "; ".join(
            f"port {port} ({name}) is taken by {others.get(port) or find_listener(port)}"
            for name in taken
            for port in [wanted[name]]
        )
        it, ports = ("it", "a free port") if len(taken) == 1 else ("them", "free ports")
        raise PortTaken(
            f"{listed}: stop {it}, set {', '.join(taken)} to {ports}, or start with --auto-ports "
            "(make up AUTO_PORTS=1)"
        )
    for name in taken:
        while not hold(port := find_free_port()):
            pass
        picked[name] = port
    return picked
