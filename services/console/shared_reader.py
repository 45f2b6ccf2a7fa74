"""SharedReader: one reading for all viewers of a page, kept for a multiple of what it costs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from services.core.clock import utc_now
from services.ledger.health_check import CachedCheck, result_within

DEADLINE_SECONDS = 10.0
QUICK_SECONDS = 0.1
OLDEST = timedelta(minutes=1)
"""While a new reading takes longer than ``QUICK_SECONDS``, pages show one that is not older than this."""
KEEP_SECONDS = 5.0


class TimedReading(Protocol):
    """A reading with its time."""

    @property
    def at(self) -> datetime: ...


_T = TypeVar("_T", bound=TimedReading)


class SharedReader(Generic[_T]):
    """Reads for all viewers of a process; all its threads share one."""

    def __init__(
        self,
        name: str,
        read: Callable[[], _T],
        *,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: float,
        quick_seconds: float = QUICK_SECONDS,
    ) -> None:
        self._quick_seconds = quick_seconds
        self._last: _T | None = None
        self._check = CachedCheck(name, read, keep_seconds=keep_seconds, keep_times_cost=keep_times_cost)

    def read(self) -> _T | None:
        """Return the newest reading, or after ``quick_seconds`` the one before, if that is recent.

        None if there is neither by the deadline.
        """
        last = self._last
        if last is not None and utc_now() - last.at > OLDEST:
            last = None
        found = result_within(self._check.start(), self._quick_seconds if last else DEADLINE_SECONDS)
        self._last = found or last
        return self._last
