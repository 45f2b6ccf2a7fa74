"""Durations and times as people type them: ``15m``, ``24h``, ``2026-11-20T08:00Z``. Pure."""

import re
from calendar import month_name, monthrange
from datetime import UTC, date, datetime, timedelta

from services.core.clock import FIRST_YEAR, LAST_YEAR, is_plausible
from services.core.counts import format_count
from services.core.errors import InputInvalid

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=36_525)
"""A hundred years. Now plus or minus this is still a valid date."""
_TIME = (
    f"a time such as 2026-11-20T08:00Z or a day such as 2026-11-20, of the years {FIRST_YEAR} to {LAST_YEAR}"
)
_DATE = re.compile(r"\s*(\d{4})-(?:W(\d\d)|(\d\d)(?:-(\d\d))?)(?!\d)", re.ASCII)
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


def parse_positive_duration(text: str) -> timedelta:
    """Return the duration in ``text`` as ``parse_duration`` does, except that 0 is invalid too."""
    if not (duration := parse_duration(text)):
        raise TimeInvalid(f"{text!r} should be longer than 0, such as 15m or 2h")
    return duration


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
    raise TimeInvalid(f"{text!r} should be {_TIME}{explain_date(text)}")


def explain_date(text: str) -> str:
    """Return why the day, week or month at the beginning of ``text`` does not exist; empty if it may.

    The result follows the sentence that names the text: ``: November 2026 has 30 days``.
    """
    if (found := _DATE.match(text)) is None or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
        return ""
    year, week, month, day = (int(part or 1) for part in found.groups())
    if not 1 <= week <= (weeks := date(year, 12, 28).isocalendar().week):
        return f": {year} has {format_count(weeks, 'week')}, 01 to {weeks}"
    if not 1 <= month <= 12:
        return ": a year has the months 01 to 12"
    if not 1 <= day <= (days := monthrange(year, month)[1]):
        return f": {month_name[month]} {year} has {format_count(days, 'day')}"
    return ""


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the time in ``text``, aware, in UTC: one of ``parse_time``, or a duration before ``now``."""
    try:
        return parse_time(text)
    except TimeInvalid:
        pass
    try:
        return now - parse_duration(text)
    except (TimeInvalid, OverflowError):
        raise TimeInvalid(f"{text!r} should be {_TIME}, or an age such as 24h{explain_date(text)}") from None


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
