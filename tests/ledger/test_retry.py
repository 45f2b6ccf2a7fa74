"""Retry times of failed work."""

from datetime import timedelta
from random import Random

import pytest

from services.ledger.topics import TOPICS, plan_next_try
from tests.ledger_rows import NOW

USUAL = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
"""The longest wait in seconds after each failed try of work that has twelve."""


class Dice(Random):
    """Random generator that always returns ``share``."""

    def __init__(self, share: float) -> None:
        super().__init__(1)
        self.share = share

    def random(self) -> float:
        return self.share


def wait_after(topic: str, tries: int, rng: Random) -> timedelta:
    """Return the backoff after a failed try."""
    return plan_next_try(TOPICS[topic], tries, None, NOW, rng) - NOW


def longest_waits(name: str) -> list[float]:
    """Return the longest wait in seconds after each failed try of a topic, except the last try."""
    tries = range(1, TOPICS[name].tries)
    return [wait_after(name, failed, Dice(1.0)).total_seconds() for failed in tries]


@pytest.mark.parametrize(
    ("topic", "waits"),
    [
        ("order_ingest", USUAL),
        ("inventory_push", USUAL),
        ("audit_verify", [30, 60, 120, 240]),
        ("reconcile", [30, 60, 120, 240, 480, 960, 1920]),
        ("posthog_capture", [*USUAL, *[3600] * 8]),
    ],
)
def test_longest_wait_doubles_after_each_failed_try_up_to_an_hour(topic: str, waits: list[float]) -> None:
    assert longest_waits(topic) == waits


def test_all_waits_of_the_usual_work_are_two_hours_and_twenty_five_minutes_at_most() -> None:
    assert sum(USUAL) == 8_715


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_wait_is_the_thrown_share_of_the_longest(share: float) -> None:
    assert wait_after("order_ingest", 4, Dice(share)) == timedelta(seconds=40 * share)


def test_retries_of_items_that_failed_together_are_spread_over_the_longest_wait() -> None:
    rng = Random(1)
    waits = [wait_after("order_ingest", 8, rng).total_seconds() for _ in range(1000)]

    quarters = [sum(low <= wait < low + 160 for wait in waits) for low in (0, 160, 320, 480)]
    assert all(200 < count < 300 for count in quarters)


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, 20), (1, 20), (90, 90)])
def test_wait_is_the_longer_of_backoff_and_retry_after(retry_after: int | None, seconds: int) -> None:
    wait = None if retry_after is None else timedelta(seconds=retry_after)
    planned = plan_next_try(TOPICS["order_ingest"], 4, wait, NOW, Dice(0.5))

    assert planned == NOW + timedelta(seconds=seconds)
