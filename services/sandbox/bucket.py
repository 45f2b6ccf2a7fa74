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
        """Take ``points`` and return True, or return False if there are too few."""
        now = self.clock()
        self.available = min(self.maximum, self.available + (now - self.at) * self.restore_per_second)
        self.at = now
        if self.available < points:
            return False
        self.available -= points
        return True

    def give_back(self, points: float) -> None:
        """Put back points that a call reserved and did not use."""
        self.available = min(self.maximum, self.available + points)

    def set(self, request: dict[str, Any]) -> None:
        """Take over ``maximum``, ``restore_per_second`` and ``available`` (the maximum, unless given).

        ``available`` may be negative: then every call is throttled until the bucket has recovered.
        """
        self.maximum = float(request.get("maximum", self.maximum))
        self.restore_per_second = float(request.get("restore_per_second", self.restore_per_second))
        self.available = float(request.get("available", self.maximum))
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
