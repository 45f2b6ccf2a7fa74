"""The clock: the only module that reads the current time. Pure functions get ``now`` as an argument."""

import time
from datetime import UTC, date, datetime, timedelta

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""The accepted years of a time from outside. With others, date arithmetic can overflow."""


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


_STARTED_AT, _STARTED_SECONDS = utc_now(), time.monotonic()


def steady_now() -> datetime:
    """Return the time since the start of this process, added to the time of the start: aware, in UTC.

    It never goes back, and does not jump when the clock is set. Only differences of it have a meaning.
    """
    return _STARTED_AT + timedelta(seconds=time.monotonic() - _STARTED_SECONDS)


def is_plausible(at: date) -> bool:
    return FIRST_YEAR <= at.year <= LAST_YEAR
