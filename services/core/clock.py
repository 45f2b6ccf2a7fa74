"""The one place that asks what time it is. Below the edges, ``now`` is an argument."""

from datetime import UTC, date, datetime

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""The years of a time that comes from outside. Another is a mistake, and its sums leave the calendar."""


def utc_now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def is_plausible(at: date) -> bool:
    """Return whether the day or moment ``at`` lies in the years that a time from outside may name."""
    return FIRST_YEAR <= at.year <= LAST_YEAR
