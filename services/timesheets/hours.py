"""Timesheets as seconds worked on each day of the company's zone. Pure.

A day begins at midnight of the company's zone, or at another whole hour that a report names. A shift over
the beginning of a day is divided there. A duration is the time that passed: a shift from 22:00 to 06:00 has 9
hours in the night in which clocks go back, and 7 in the one in which they go forward.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple

_DAY = timedelta(days=1)


class HoursKind(StrEnum):
    """What the time of a timesheet counts as; decided by the type of its job code."""

    WORK = "work"
    LEAVE = "leave"
    """Paid, and not worked: it never makes overtime."""
    UNPAID = "unpaid"
    """A break without pay: it counts nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timesheet:
    """A timesheet. With ``start`` and no ``end`` it is an open shift.

    One without ``start`` was entered by hand as ``seconds`` of ``day``.
    """

    id: int
    user_id: int
    jobcode_id: int
    kind: HoursKind
    day: date
    seconds: int
    start: datetime | None = None
    end: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.start is not None and self.end is None


class DayPart(NamedTuple):
    """The seconds of a timesheet on one day of the company. ``start`` None: entered without times."""

    sheet: Timesheet
    day: date
    seconds: int
    start: datetime | None


def find_day(at: datetime, zone: tzinfo, begins: int = 0) -> date:
    """Return the company's day of ``at``, where a day begins at the local hour ``begins``."""
    local = at.astimezone(zone)
    return local.date() if local.hour >= begins else local.date() - _DAY


def begin_of_day(day: date, zone: tzinfo, begins: int = 0) -> datetime:
    """Return when ``day`` begins, in UTC; an hour that does not exist begins at the end of the jump."""
    return datetime.combine(day, time(begins), zone).astimezone(UTC)


def divide(sheet: Timesheet, zone: tzinfo, begins: int = 0) -> Iterator[DayPart]:
    """Yield the parts of ``sheet`` by day; none for an open shift and for one that ends before it starts."""
    if sheet.start is None:
        if sheet.seconds > 0:
            yield DayPart(sheet, sheet.day, sheet.seconds, None)
        return
    if sheet.end is None:
        return
    start, day = sheet.start, find_day(sheet.start, zone, begins)
    while start < sheet.end:
        end = min(sheet.end, begin_of_day(day + _DAY, zone, begins))
        if end > start:
            yield DayPart(sheet, day, round((end - start).total_seconds()), start)
            start = end
        day += _DAY
