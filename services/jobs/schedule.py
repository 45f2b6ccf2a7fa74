"""Which moments a schedule names, and which period a moment is about. Pure: zone and moment decide.

Clocks change: a moment that does not exist on its night comes when the clock has jumped, and one that
comes twice counts once, the first time; schedules that name every so many minutes follow the real ones.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from services.core.clock import FIRST_YEAR
from services.core.errors import ShopfleetError
from services.jobs.definition import CatchUp, Covers

LONGEST_CATCH_UP = 400
"""Slots of one job that are looked at after an absence; older ones are gone."""

# One way to write each period: another spelling of the same one would be a second run.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WEEK = re.compile(r"(\d{4})-W(\d\d)", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_FOLD = timedelta(hours=3)


class ScheduleInvalid(ShopfleetError):
    """A schedule or its zone is not what one looks like."""


class PeriodInvalid(ShopfleetError):
    """A period is not what this job's periods look like, or is not over yet."""


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
    slots: list[datetime] = []
    for slot in _iterate(schedule, zone, after):
        if slot > until:
            break
        slots.append(slot)
    return slots[-limit:]


def find_next(schedule: str, zone: tzinfo, after: datetime, count: int = 1) -> list[datetime]:
    """Return the ``count`` moments of ``schedule`` that come after ``after``, in UTC."""
    found: list[datetime] = []
    for slot in _iterate(schedule, zone, after):
        if len(found) == count:
            break
        found.append(slot)
    return found


def _iterate(schedule: str, zone: tzinfo, after: datetime) -> "Sequence[datetime]":
    return _Slots(schedule, zone, after)  # type: ignore[return-value]


class _Slots:
    """The moments after ``after``, one by one."""

    def __init__(self, schedule: str, zone: tzinfo, after: datetime) -> None:
        begin = after
        if after.astimezone(zone).utcoffset() != (after - _FOLD).astimezone(zone).utcoffset():
            # Within the hour that comes twice the iterator cannot know what it has named already.
            begin = after - _FOLD
        self._sim = CronSim(schedule, begin.astimezone(zone))
        self._after = after

    def __iter__(self) -> "_Slots":
        return self

    def __next__(self) -> datetime:
        while True:
            slot: datetime = next(self._sim).astimezone(UTC)
            if slot > self._after:
                return slot


def plan_catch_up(
    catch_up: CatchUp, slots: Sequence[datetime], now: datetime, grace: timedelta
) -> tuple[list[datetime], list[datetime]]:
    """Return which of the missed ``slots`` run now, and which are noted as skipped."""
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
    if covers is Covers.MOMENT:
        if _MOMENT.fullmatch(period) is None:
            raise ValueError(period)
        at = datetime.strptime(period, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        return at, at
    if covers is Covers.DAY:
        if _DAY.fullmatch(period) is None:
            raise ValueError(period)
        first = date.fromisoformat(period)
        return _midnight(zone, first), _midnight(zone, first + timedelta(days=1))
    if covers is Covers.WEEK:
        match = _WEEK.fullmatch(period)
        if match is None:
            raise ValueError(period)
        first = date.fromisocalendar(int(match[1]), int(match[2]), 1)
        return _midnight(zone, first), _midnight(zone, first + timedelta(days=7))
    match = _MONTH.fullmatch(period)
    if match is None:
        raise ValueError(period)
    first = date(int(match[1]), int(match[2]), 1)
    return _midnight(zone, first), _midnight(zone, (first + timedelta(days=32)).replace(day=1))


def find_due_day(zone: tzinfo, now: datetime) -> date:
    """Return the last day that is over in ``zone`` at ``now``: yesterday, by the clock on its wall."""
    return now.astimezone(zone).date() - timedelta(days=1)


def day_bounds(zone: tzinfo, day: date) -> tuple[datetime, datetime]:
    """Return when ``day`` begins in ``zone`` and when the next one does, in UTC.

    23 or 25 hours apart on the nights when clocks change. Where a midnight does not exist the day
    begins when the clock jumps; where it comes twice, with the first.
    """
    return _midnight(zone, day), _midnight(zone, day + timedelta(days=1))


def _midnight(zone: tzinfo, day: date) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)
