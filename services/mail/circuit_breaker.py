"""Circuit breaker of one process: a route that asked for a pause, or refused us, gets no mail for a while."""

import time
from collections.abc import Callable
from datetime import timedelta

from services.core.errors import Misconfigured, NotYet, RetryLater, WorkError
from services.mail.transports import Route
from services.providers.outgoing_mail import MailThrottled

MISCONFIGURED_FOR = timedelta(seconds=10)
"""Long enough for the rest of a batch, short enough for an operator who repairs it and requeues."""


class CircuitBreaker:
    """Remembers for each route why and until when nothing is sent through it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[Route, tuple[float, WorkError]] = {}

    def open(self, route: Route, fault: WorkError) -> timedelta | None:
        """Stop sending through ``route`` if ``fault`` concerns all its mails; return the stated pause."""
        if isinstance(fault, Misconfigured):
            self._faults[route] = (self._clock() + MISCONFIGURED_FOR.total_seconds(), fault)
        elif isinstance(fault, MailThrottled) and fault.wait is not None:
            self._faults[route] = (self._clock() + fault.wait.total_seconds(), fault)
            return fault.wait
        return None

    def find_fault(self, route: Route) -> WorkError | None:
        """Return why nothing is sent through ``route`` now, or None."""
        until, fault = self._faults.get(route, (0.0, None))
        seconds = until - self._clock()
        if fault is None or seconds <= 0:
            self._faults.pop(route, None)
            return None
        if isinstance(fault, RetryLater):
            return NotYet(fault.code, f"waits with others: {fault.detail}", wait=timedelta(seconds=seconds))
        return fault
