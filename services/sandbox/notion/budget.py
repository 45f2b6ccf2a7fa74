"""Request budgets: so many requests in each window, which begins with its first request.

Source: developers.notion.com, "Request limits": the budget may be spent in a burst, and ``Retry-After`` is
the time until the window ends.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from services.sandbox.notion.errors import NotionError


class RequestBudget:
    """The budget of a connection or of a workspace. ``most`` 0: no limit."""

    def __init__(self, reason: str, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self._reason, self._clock = reason, clock
        self.most, self.seconds = most, seconds
        self._ends_at, self._used = 0.0, 0
        self.granted = self.refused = self.most_used = 0

    def set(self, wanted: Mapping[str, Any]) -> None:
        """Set ``requests`` and ``seconds``; the running window ends."""
        self.most, self.seconds = int(wanted["requests"]), float(wanted.get("seconds", self.seconds))
        self._ends_at = 0.0

    def check(self) -> None:
        """Raise the 429 of a spent budget, which counts as refused."""
        if self.most and self._clock() < self._ends_at and self._used >= self.most:
            self.refused += 1
            raise NotionError(
                429,
                "You have been rate limited. Please try again in a few minutes.",
                retry_after_seconds=max(1, math.ceil(self._ends_at - self._clock())),
                more={"additional_data": {"rate_limit_reason": self._reason}},
            )

    def take(self) -> None:
        """Count one request of the current window."""
        if self._clock() >= self._ends_at:
            self._ends_at, self._used = self._clock() + self.seconds, 0
        self._used += 1
        self.granted += 1
        self.most_used = max(self.most_used, self._used)

    def describe(self) -> dict[str, Any]:
        return {
            "requests": self.granted,
            "refused": self.refused,
            "most_in_a_window": self.most_used,
            "limit": self.most,
            "window_seconds": self.seconds,
        }
