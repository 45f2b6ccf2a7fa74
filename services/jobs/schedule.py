"""The moments of a schedule, and the period of a moment. Pure.

On the nights when clocks change, a moment that does not exist comes when the clock has jumped, and one that
comes twice counts once, the first time. Schedules such as "every 15 minutes" follow real minutes.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice, takewhile
from types import MappingProxyType
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from services.core.clock import FIRST_YEAR
from services.core.errors import InputInvalid
from services.jobs.definition import CatchUp, Covers

LONGEST_CATCH_UP = 400
"""Slots of one job that are planned after an absence; older ones are dropped."""

# One way to write each period: another spelling of the same one would be a second run.
_FORMS = MappingProxyType(
    {
        Covers.MOMENT: re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII),
        Covers.DAY: re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
        Covers.WEEK: re.compile(r"\d{4}-W\d\d", re.ASCII),
        Covers.MONTH: re.compile(r"\d{4}-\d\d", re.ASCII),
    }
)
_FOLD = timedelta(hours=3)


class ScheduleInvalid(InputInvalid):
    """A schedule is not five cron fields."""


class PeriodInvalid(InputInvalid):
    """A period has another form than the job's periods, or is not over yet."""


def parse_schedule(schedule: str) -> str:
    """Return ``schedule`` with single spaces; raise ``ScheduleInvalid`` saying what is wrong with it."""
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
    """Return the moments of ``schedule`` in (``after``, ``until``], in UTC, the newest ``limit`` of them."""
    slots = takewhile(lambda slot: slot <= until, _iterate_slots(schedule, zone, after))
    return list(deque(slots, limit))


def find_next(schedule: str, zone: tzinfo, after: datetime, count: int = 1) -> list[datetime]:
    """Return the ``count`` moments of ``schedule`` that come after ``after``, in UTC."""
    return list(islice(_iterate_slots(schedule, zone, after), count))


def _iterate_slots(schedule: str, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    begin = after.astimezone(zone)
    earlier = (after - _FOLD).astimezone(zone)
    if begin.utcoffset() != earlier.utcoffset():
        begin = earlier  # within the hour that comes twice the iterator cannot know what it has named already
    for slot in CronSim(schedule, begin):
        if slot > after:
            yield slot.astimezone(UTC)


def plan_catch_up(
    catch_up: CatchUp, slots: Sequence[datetime], now: datetime, grace: timedelta
) -> tuple[list[datetime], list[datetime]]:
    """Return which of the missed ``slots`` run now, and which are recorded as skipped."""
    if not slots or catch_up is CatchUp.ALL:
        return list(slots), []
    newest = slots[-1]
    if catch_up is CatchUp.SKIP and now - newest > grace:
        return [], [newest]
    return [newest], []


def period_of(covers: Covers, slot: datetime, zone: tzinfo) -> str:
    """Return the period that a run due at ``slot`` is about."""
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
    """Return ``text`` if it names a period of such a job that is over; else raise ``PeriodInvalid``."""
    try:
        _, ends = period_bounds(covers, text, zone)
        if ends.year < FIRST_YEAR:
            raise ValueError(text)
    except (ValueError, OverflowError):
        example = period_of(covers, now, zone)
        raise PeriodInvalid(f"period={text!r} should be a {covers} such as {example}") from None
    if ends > now:
        raise PeriodInvalid(
            f"period={text!r} is not over yet in {zone.key}: "
            f"it ends {ends.astimezone(zone):%Y-%m-%d %H:%M %Z}"
        )
    return text


def period_bounds(covers: Covers, period: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return when ``period`` begins and ends in ``zone``, in UTC; raise ``ValueError`` for what is none."""
    if _FORMS[covers].fullmatch(period) is None:
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
    """Return when ``day`` begins in ``zone`` and when the next one does, in UTC.

    23 or 25 hours apart on the nights when clocks change. Where a midnight does not exist the day
    begins when the clock jumps; where it comes twice, with the first.
    """
    return _midnight(zone, day), _midnight(zone, day + timedelta(days=1))


def _midnight(zone: tzinfo, day: date) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
