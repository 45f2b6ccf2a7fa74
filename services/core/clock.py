"""The clock: the only module that reads the current time. Pure functions get ``now`` as an argument."""

from datetime import UTC, date, datetime

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""The accepted years of a time from outside. With others, date arithmetic can overflow."""


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def is_plausible(at: date) -> bool:
    return FIRST_YEAR <= at.year <= LAST_YEAR
