"""Faults on demand, the same for every provider of the sandbox."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

HTML = "<!DOCTYPE html><html><body>We are looking into it.</body></html>"
"""What a provider's proxy returns during an outage: HTTP 200 without JSON."""


class ControlInvalid(ValueError):
    """A control request has an unknown value. The message names the field."""


@dataclass(slots=True)
class Faults:
    """The next faults. Counts decrease to zero; ``slow_seconds`` stays until it is changed."""

    fail_status: int = 0
    fail_headers: dict[str, str] = field(default_factory=dict)
    """Sent with each failure: ``Retry-After``, ``Stripe-Should-Retry``."""
    slow_seconds: float = 0.0
    left: Counter[str] = field(default_factory=Counter)
    """Remaining faults: failed requests, answers that are lost after the change (``drop_next``) or replaced
    by HTML, and quantity comparisons that fail (``stale_next``)."""
    taken: Counter[str] = field(default_factory=Counter)

    def set(self, request: dict[str, Any]) -> None:
        """Set ``fail_next`` {status, count, headers}, ``slow_seconds``, and the numbers of the other faults:
        ``drop_next``, ``html_next``, ``stale_next``."""
        if "fail_next" in request:
            wanted = request["fail_next"]
            self.fail_status = int(wanted.get("status", 500))
            self.left["fail_next"] = int(wanted.get("count", 1))
            self.fail_headers = {str(name): str(value) for name, value in wanted.get("headers", {}).items()}
            if not 400 <= self.fail_status <= 599:
                raise ControlInvalid(f"fail_next.status={self.fail_status} should be from 400 to 599")
        for name in ("drop_next", "html_next", "stale_next"):
            self.left[name] = int(request.get(name, self.left[name]))
        self.slow_seconds = float(request.get("slow_seconds", self.slow_seconds))
        if not 0 <= self.slow_seconds <= 120:
            raise ControlInvalid(f"slow_seconds={self.slow_seconds} should be from 0 to 120")

    def take(self, name: str) -> bool:
        happens = self.left[name] > 0
        self.left[name] -= happens
        self.taken[name] += happens
        return happens

    def take_failure(self) -> int:
        """Return the status to fail with now, or 0."""
        return self.fail_status if self.take("fail_next") else 0
