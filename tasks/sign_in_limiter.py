"""Limits wrong sign-ins to Flower by address."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from math import ceil

MAX_FAILURES = 10
FAILURE_WINDOW_SECONDS = 300.0
"""An address with ``MAX_FAILURES`` wrong sign-ins in this time gets 429 until the time is over."""
MAX_ADDRESSES = 10_000


class SignInLimiter:
    """Counts the wrong sign-ins of each address in this process.

    A successful sign-in does not reset the count, because behind a proxy many clients share one address. An
    IPv6 address counts as its /64 network.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str) -> int:
        """Return how long ``address`` is refused; 0 if it may try."""
        times = self._failures.get(_to_network(address))
        if times is None or len(times) < MAX_FAILURES:
            return 0
        return max(0, ceil(times[0] + FAILURE_WINDOW_SECONDS - self._clock()))

    def add(self, address: str) -> bool:
        """Count a wrong sign-in of ``address``; return whether it is refused from now on."""
        times = self._failures.setdefault(_to_network(address), deque(maxlen=MAX_FAILURES))
        self._failures.move_to_end(_to_network(address))
        times.append(self._clock())
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return self.wait_seconds(address) > 0


def _to_network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:  # a unix socket has no address
        return address
    return str(ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else address
