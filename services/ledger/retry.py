"""Retry policy: exponential backoff with full jitter. Pure: random numbers and the clock are arguments.

The longest waits in seconds; each wait is drawn evenly between zero and the longest:

- most work (12 tries): 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600: 2 h 25 min in all.
- jobs (5 tries): 30, 60, 120, 240: 7.5 min in all.
- reconciliation (8 tries): 30, 60, 120, 240, 480, 960, 1920: 63.5 min in all.
- small calls such as ``posthog_capture`` (20 tries): as most work, then 3600 eight times: 10 h 25 min in all.

``services.ledger.topics`` has the numbers of every topic.
"""

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
