"""When to try again. Pure: the dice and the clock are arguments."""

from datetime import datetime, timedelta
from random import Random

from services.ledger.topics import Topic


def plan_backoff(topic: Topic, retry_count: int, rng: Random) -> timedelta:
    """Return how long to wait after failed try number ``retry_count`` (from 1): full jitter.

    Uniform between nothing and ``backoff_base * 2 ** (retry_count - 1)``, at most ``backoff_cap``, so
    that a thousand items that failed together do not come back together.
    """
    ceiling: timedelta = min(topic.backoff_cap, topic.backoff_base * (1 << min(retry_count - 1, 30)))
    return ceiling * rng.random()


def plan_next_try(
    topic: Topic, retry_count: int, wait: timedelta | None, now: datetime, rng: Random
) -> datetime:
    """Return when to try again: what the provider asked for, or the backoff where that is longer."""
    backoff = plan_backoff(topic, retry_count, rng)
    return now + max(backoff, wait or timedelta())
