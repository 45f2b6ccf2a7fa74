"""Durations and times as people type them: ``15m``, ``24h``, ``2026-11-20T08:00Z``. Pure."""

import re
from datetime import UTC, datetime, timedelta

from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible
from services.core.errors import InputInvalid

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36_525)
"""A hundred years. Now plus or minus this is still a valid date."""
_TIME = (
    f"a time such as 2026-11-20T08:00Z or a day such as 2026-11-20, of the years {FIRST_YEAR} to {LAST_YEAR}"
)
_PART = re.compile(r"(\d{1,7})([smhdw])")


class TimeInvalid(InputInvalid):
    """A duration or a time cannot be parsed."""


def parse_duration(text: str) -> timedelta:
    """Return the duration in ``text``: ``90s``, ``15m``, ``24h``, ``7d``, ``1h30m``, or ``0``."""
    compact = text.strip().lower()
    if compact == "0":
        return timedelta(0)
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise TimeInvalid(f"{text!r} should be a duration such as 90s, 15m, 24h, 7d or 1h30m")
    total = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta(0))
    if total > LONGEST:
        raise TimeInvalid(f"{text!r} is longer than a hundred years")
    return total


def parse_time(text: str) -> datetime:
    """Return the ISO time in ``text``, aware, in UTC.

    A time without a zone is in UTC; a day is its midnight in UTC.
    """
    try:
        at = datetime.fromisoformat(text.strip())
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if is_plausible(at):
            return at
    except (ValueError, OverflowError):
        pass
    raise TimeInvalid(f"{text!r} should be {_TIME}")


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the time in ``text``, aware, in UTC: one of ``parse_time``, or a duration before ``now``."""
    try:
        return parse_time(text)
    except TimeInvalid:
        pass
    try:
        return now - parse_duration(text)
    except (TimeInvalid, OverflowError):
        raise TimeInvalid(f"{text!r} should be {_TIME}, or an age such as 24h") from None


def format_seconds(seconds: float | None) -> str:
    """Return an age for people: ``42s``, ``3m 05s``, ``2h 10m``, ``3d 4h``; ``-`` for none."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02}m"
    return f"{minutes}m {second:02}s" if minutes else f"{whole}s"
