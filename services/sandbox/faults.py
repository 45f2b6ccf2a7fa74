"""Faults on demand, the same for every provider of the sandbox."""

from dataclasses import dataclass, field
from typing import Any

HTML = "<!DOCTYPE html><html><body>We are looking into it.</body></html>"
"""What a provider's proxy returns during an outage: HTTP 200 without JSON."""


class ControlInvalid(ValueError):
    """A control request has an unknown value. The message names the field."""


@dataclass(slots=True)
class Faults:
    """What goes wrong next. Counts run down to zero; ``slow_seconds`` stays until it is changed."""

    fail_status: int = 0
    fail_count: int = 0
    fail_headers: dict[str, str] = field(default_factory=dict)
    """Sent with each failure: ``Retry-After``, ``Stripe-Should-Retry``."""
    drop_after_count: int = 0
    """Answers to swallow after the change was applied: the caller cannot know whether it was."""
    html_count: int = 0
    """Answers to replace by a page of HTML with status 200, after the change was applied."""
    stale_count: int = 0
    """Comparisons with a quantity that find another one, because somebody counted just now."""
    slow_seconds: float = 0.0
    failed: int = field(default=0)
    dropped: int = field(default=0)

    def set(self, request: dict[str, Any]) -> None:
        """Take over ``fail_next`` {status, count, headers}, ``slow_seconds``, and how many answers to spoil:
        ``drop_next``, ``html_next``, ``stale_next``."""
        if "fail_next" in request:
            wanted = request["fail_next"]
            self.fail_status = int(wanted.get("status", 500))
            self.fail_count = int(wanted.get("count", 1))
            self.fail_headers = {str(name): str(value) for name, value in wanted.get("headers", {}).items()}
            if not 400 <= self.fail_status <= 599:
                raise ControlInvalid(f"fail_next.status={self.fail_status} should be from 400 to 599")
        if "drop_next" in request:
            self.drop_after_count = int(request["drop_next"])
        if "html_next" in request:
            self.html_count = int(request["html_next"])
        if "stale_next" in request:
            self.stale_count = int(request["stale_next"])
        if "slow_seconds" in request:
            self.slow_seconds = float(request["slow_seconds"])
            if not 0 <= self.slow_seconds <= 120:
                raise ControlInvalid(f"slow_seconds={self.slow_seconds} should be from 0 to 120")

    def take_failure(self) -> int:
        """Return the status to fail with now, or 0."""
        if self.fail_count <= 0:
            return 0
        self.fail_count -= 1
        self.failed += 1
        return self.fail_status

    def take_drop(self) -> bool:
        """Tell whether this answer gets lost."""
        if self.drop_after_count <= 0:
            return False
        self.drop_after_count -= 1
        self.dropped += 1
        return True

    def take_html(self) -> bool:
        """Tell whether this answer is a page of HTML."""
        if self.html_count <= 0:
            return False
        self.html_count -= 1
        return True

    def take_stale(self) -> bool:
        """Tell whether this comparison fails."""
        if self.stale_count <= 0:
            return False
        self.stale_count -= 1
        return True
