"""Schedules: the slots (times) of a cron expression, and the period that a slot covers. Pure.

When clocks go forward, a slot at a time that does not exist moves to the end of the jump. When clocks go
back, a time that exists twice counts once, the first time. Schedules such as "every 15 minutes" follow
elapsed time.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from services.core.clock import FIRST_YEAR
from services.core.durations import explain_date
from services.core.errors import InputInvalid
from services.core.times import format_time
from services.jobs.definition import CatchUp, Covers

LONGEST_CATCH_UP = 400
"""Most slots of one job that are planned after an outage; older ones are dropped."""

# Each period has one spelling: a second spelling would be a second run.
_PERIOD_FORMATS: Mapping[Covers, re.Pattern[str]] = {
    Covers.MOMENT: re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII),
    Covers.DAY: re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    Covers.WEEK: re.compile(r"\d{4}-W\d\d", re.ASCII),
    Covers.MONTH: re.compile(r"\d{4}-\d\d", re.ASCII),
}
_FOLD = timedelta(hours=3)


class ScheduleInvalid(InputInvalid):
    """The schedule does not have five valid cron fields."""


class PeriodInvalid(InputInvalid):
    """The period does not have the job's format, or is not over yet."""


def parse_schedule(schedule: str) -> str:
    """Return ``schedule`` with single spaces; raise ``ScheduleInvalid``."""
    cleaned = " ".join(schedule.split())
    try:
        CronSim(cleaned, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as fault:
        raise ScheduleInvalid(
            f"schedule={schedule!r}: {str(fault)[:1].lower()}{str(fault)[1:]}; it should have five fields, "
            "minute hour day month weekday, such as '0 6 * * 1' (Mondays at 06:00)"
        ) from None
    return cleaned


def explain_schedule(schedule: str) -> str:
    """Return ``schedule`` in words: "At 06:00 on Monday"."""
    return str(CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC)).explain())


def find_slots(
    schedule: str, zone: tzinfo, after: datetime, until: datetime, limit: int = LONGEST_CATCH_UP
) -> list[datetime]:
    """Return the newest ``limit`` slots of ``schedule`` in (``after``, ``until``], in UTC."""
    slots = takewhile(lambda slot: slot <= until, _iterate_slots(schedule, zone, after))
    return list(deque(slots, limit))


def list_next_slots(schedule: str, zone: tzinfo, after: datetime, count: int = 1) -> list[datetime]:
    """Return the first ``count`` slots of ``schedule`` after ``after``, in UTC."""
    return list(islice(_iterate_slots(schedule, zone, after), count))


def _iterate_slots(schedule: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    begin = after.astimezone(zone)
    earlier = (after - _FOLD).astimezone(zone)
    if begin.utcoffset() != earlier.utcoffset():
        begin = earlier  # within a repeated hour CronSim must start before the change to skip repeated slots
    for slot in CronSim(schedule, begin):
        if slot > after:
            yield slot.astimezone(UTC)


def plan_catch_up(
    catch_up: CatchUp, slots: Sequence[datetime], now: datetime, grace: timedelta
) -> tuple[list[datetime], list[datetime]]:
    """Return the missed ``slots`` to run now, and those to record as skipped."""
    if not slots or catch_up is CatchUp.ALL:
        return list(slots), []
    newest = slots[-1]
    if catch_up is CatchUp.SKIP and now - newest > grace:
        return [], [newest]
    return [newest], []


def period_of(covers: Covers, slot: datetime, zone: tzinfo) -> str:
    """Return the period that a run due at ``slot`` covers."""
    today = slot.astimezone(zone).date()
    match covers:
        case Covers.DAY:
            return (today - timedelta(days=1)).isoformat()
        case Covers.WEEK:
            year, week, _ = (today - timedelta(days=7)).isocalendar()
            return f"{year}-W{week:02d}"
        case Covers.MONTH:
            return f"{today.replace(day=1) - timedelta(days=1):%Y-%m}"
        case Covers.MOMENT:
            return slot.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_period(covers: Covers, text: str, now: datetime, zone: ZoneInfo) -> str:
    """Return ``text`` if it is a period that is over at ``now``; else raise ``PeriodInvalid``."""
    try:
        _, ends = period_bounds(covers, text, zone)
        if ends.year < FIRST_YEAR:
            raise ValueError(text)
    except (ValueError, OverflowError):
        example = period_of(covers, now, zone)
        raise PeriodInvalid(
            f"period={text!r} should be a {covers} such as {example}{explain_date(text)}"
        ) from None
    if ends > now:
        raise PeriodInvalid(
            f"period={text!r} is not over yet in {zone.key}: it ends {format_time(ends, zone)}"
        )
    return text


def period_bounds(covers: Covers, period: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the start and end of ``period`` in ``zone``, in UTC; raise ``ValueError`` if it is invalid."""
    if _PERIOD_FORMATS[covers].fullmatch(period) is None:
        raise ValueError(period)
    match covers:
        case Covers.MOMENT:
            at = datetime.strptime(period, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            return at, at
        case Covers.DAY:
            return day_bounds(zone, date.fromisoformat(period))
        case Covers.WEEK:
            monday = date.fromisoformat(f"{period}-1")
            return _midnight(zone, monday), _midnight(zone, monday + timedelta(days=7))
        case Covers.MONTH:
            first = date.fromisoformat(f"{period}-01")
            return _midnight(zone, first), _midnight(zone, (first + timedelta(days=32)).replace(day=1))


def find_due_day(zone: tzinfo, now: datetime) -> date:
    """Return yesterday in ``zone``: the last day that is over at ``now``."""
    return now.astimezone(zone).date() - timedelta(days=1)


def day_bounds(zone: tzinfo, day: date) -> tuple[datetime, datetime]:
    """Return the start of ``day`` and of the next day in ``zone``, in UTC.

    They are 23 or 25 hours apart when clocks change. If midnight does not exist, the day begins at the end of
    the jump; if midnight exists twice, with the first.
    """
    return _midnight(zone, day), _midnight(zone, day + timedelta(days=1))


def _midnight(zone: tzinfo, day: date) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
