"""Faults on demand, the same for every provider of the sandbox."""

from dataclasses import dataclass, field
from typing import Any


class ControlInvalid(ValueError):
    """A control request asks for something that the sandbox does not know. The message names the field."""


@dataclass(slots=True)
class Faults:
    """What goes wrong next. Counts run down to zero; ``slow_seconds`` stays until it is changed."""

    fail_status: int = 0
    fail_count: int = 0
    drop_after_count: int = 0
    """Answers to swallow after the change was applied: the caller cannot know whether it was."""
    slow_seconds: float = 0.0
    failed: int = field(default=0)
    dropped: int = field(default=0)

    def set(self, asked: dict[str, Any]) -> None:
        """Take over ``fail_next`` {status, count}, ``drop_next`` (count) and ``slow_seconds``."""
        if "fail_next" in asked:
            self.fail_status = int(asked["fail_next"].get("status", 500))
            self.fail_count = int(asked["fail_next"].get("count", 1))
            if not 400 <= self.fail_status <= 599:
                raise ControlInvalid(f"fail_next.status={self.fail_status} should be from 400 to 599")
        if "drop_next" in asked:
            self.drop_after_count = int(asked["drop_next"])
        if "slow_seconds" in asked:
            self.slow_seconds = float(asked["slow_seconds"])
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
