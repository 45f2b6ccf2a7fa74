"""What this process learned of a route: that it takes nothing for a while, or refuses us."""

import time
from collections.abc import Callable
from datetime import timedelta

from services.core.errors import Misconfigured, NotYet, RetryLater, WorkError
from services.mail.transports import Route
from services.providers.outgoing_mail import MailThrottled

MISCONFIGURED_FOR = timedelta(seconds=10)
"""Others in the same set need not be refused one by one; who mends it and requeues must not wait long."""


class CircuitBreaker:
    """Spares a service that said "not now" the rest of the set."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._closed: dict[Route, tuple[float, WorkError]] = {}

    def close(self, route: Route, fault: WorkError) -> timedelta | None:
        """Remember what ``fault`` says of the route; return for how long it takes nothing, if it said so."""
        if isinstance(fault, Misconfigured):
            self._closed[route] = (self._clock() + MISCONFIGURED_FOR.total_seconds(), fault)
            return None
        if not isinstance(fault, MailThrottled) or fault.wait is None:
            return None
        self._closed[route] = (self._clock() + fault.wait.total_seconds(), fault)
        return fault.wait

    def find_closed(self, route: Route) -> WorkError | None:
        """Return why nothing goes to the route now, or None."""
        found = self._closed.get(route)
        if found is None:
            return None
        until, fault = found
        seconds = until - self._clock()
        if seconds <= 0:
            self._closed.pop(route, None)
            return None
        if isinstance(fault, RetryLater):
            return NotYet(fault.code, f"waits with others: {fault.detail}", wait=timedelta(seconds=seconds))
        return fault
