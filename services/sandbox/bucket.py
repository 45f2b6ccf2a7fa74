"""Shopify's leaky bucket of cost points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Bucket:
    """Points left, restored at ``restore_per_second`` up to ``maximum``. Defaults: the Standard plan's."""

    clock: Callable[[], float]
    maximum: float = 2000.0
    restore_per_second: float = 100.0
    available: float = 2000.0
    at: float = 0.0

    def take(self, points: float) -> bool:
        """Tell whether ``points`` were there, and take them."""
        now = self.clock()
        self.available = min(self.maximum, self.available + (now - self.at) * self.restore_per_second)
        self.at = now
        if self.available < points:
            return False
        self.available -= points
        return True

    def give_back(self, points: float) -> None:
        """Put back what a call asked for and did not use."""
        self.available = min(self.maximum, self.available + points)

    def set(self, asked: dict[str, Any]) -> None:
        """Take over ``maximum``, ``restore_per_second`` and ``available`` (the maximum, unless given).

        Less than nothing may be available: then every call is throttled until it is made up for.
        """
        self.maximum = float(asked.get("maximum", self.maximum))
        self.restore_per_second = float(asked.get("restore_per_second", self.restore_per_second))
        self.available = float(asked.get("available", self.maximum))
        self.at = self.clock()

    def cost(self, requested: float, actual: float | None) -> dict[str, Any]:
        """Return the ``extensions`` that every answer carries."""
        return {
            "cost": {
                "requestedQueryCost": int(requested),
                "actualQueryCost": None if actual is None else int(actual),
                "throttleStatus": {
                    "maximumAvailable": self.maximum,
                    "currentlyAvailable": max(0, int(self.available)),
                    "restoreRate": self.restore_per_second,
                },
            }
        }
