"""Slots of a schedule, also in nights when clocks change by an hour or half an hour."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from services.jobs.definition import CatchUp, Covers
from services.jobs.schedule import (
    PeriodInvalid,
    ScheduleInvalid,
    explain_schedule,
    find_slots,
    list_next_slots,
    parse_period,
    parse_schedule,
    period_bounds,
    period_of,
    plan_catch_up,
)

VANCOUVER = ZoneInfo("America/Los_Angeles")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
NIGHTS = [
    (VANCOUVER, date(2026, 3, 8)),
    (VANCOUVER, date(2026, 11, 1)),
    (LORD_HOWE, date(2026, 4, 5)),
    (LORD_HOWE, date(2026, 10, 4)),
]
MINUTE = timedelta(minutes=1)


def local(zone: ZoneInfo, day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
@pytest.mark.parametrize(
    "schedule", ["0 0 * * *", "15 1 * * *", "45 1 * * *", "0 2 * * *", "30 2 * * *", "0 3 * * *"]
)
def test_a_daily_job_has_one_slot_on_each_day_around_the_night(
    zone: ZoneInfo, night: date, schedule: str
) -> None:
    begins = local(zone, night - timedelta(days=2), 0) - MINUTE

    slots = find_slots(schedule, zone, begins, local(zone, night + timedelta(days=2), 12))

    days = [period_of(Covers.DAY, slot, zone) for slot in slots]
    assert days == [(night + timedelta(days=n)).isoformat() for n in range(-3, 2)]


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
@pytest.mark.parametrize("schedule", ["45 1 * * *", "30 2 * * *", "*/15 * * * *"])
def test_each_slot_comes_once_for_any_ticks_of_the_night(zone: ZoneInfo, night: date, schedule: str) -> None:
    begins = local(zone, night, 0) - MINUTE
    ends = begins + timedelta(hours=6)

    at_once = find_slots(schedule, zone, begins, ends)
    ticks = [begins + n * 7 * MINUTE for n in range(52)]
    by_tick = [slot for a, b in pairwise(ticks) for slot in find_slots(schedule, zone, a, b)]

    assert [slot for slot in by_tick if slot <= ends] == at_once
    assert len(set(at_once)) == len(at_once)


def test_nonexistent_local_time_runs_after_the_clock_change() -> None:
    (slot,) = find_slots(
        "30 2 * * *", VANCOUVER, local(VANCOUVER, date(2026, 3, 8), 0), local(VANCOUVER, date(2026, 3, 8), 12)
    )
    assert slot.astimezone(VANCOUVER).isoformat() == "2026-03-08T03:00:00-07:00"


def test_quarter_hours_follow_the_real_ones_through_an_hour_that_comes_twice() -> None:
    begins = local(VANCOUVER, date(2026, 11, 1), 0)
    slots = find_slots("*/15 * * * *", VANCOUVER, begins, begins + timedelta(hours=4))
    assert [b - a for a, b in pairwise(slots)] == [15 * MINUTE] * 15


def test_next_five_are_in_order_and_after_the_moment() -> None:
    now = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)  # midnight in Vancouver
    found = list_next_slots("0 0 * * *", VANCOUVER, now, 5)
    assert found == [now + timedelta(days=n) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("covers", "period"),
    [
        (Covers.DAY, "2026-10-31"),
        (Covers.WEEK, "2026-W43"),
        (Covers.MONTH, "2026-10"),
        (Covers.MOMENT, "2026-11-01T07:00:00Z"),
    ],
)
def test_period_is_what_is_over_when_the_run_is_due(covers: Covers, period: str) -> None:
    slot = local(VANCOUVER, date(2026, 11, 1), 0)
    assert period_of(covers, slot, VANCOUVER) == period
    assert period_bounds(covers, period, VANCOUVER)[1] <= slot
    assert parse_period(covers, period, slot, VANCOUVER) == period


def test_bounds_of_a_day_are_25_hours_apart_when_the_clock_goes_back() -> None:
    begins, ends = period_bounds(Covers.DAY, "2026-11-01", VANCOUVER)
    assert ends - begins == timedelta(hours=25)
    begins, ends = period_bounds(Covers.DAY, "2026-04-05", LORD_HOWE)
    assert ends - begins == timedelta(hours=24, minutes=30)


@pytest.mark.parametrize(
    ("covers", "text"),
    [
        (Covers.DAY, "2026-02-30"),
        (Covers.DAY, "20261120"),
        (Covers.DAY, "yesterday"),
        (Covers.WEEK, "2026-W54"),
        (Covers.WEEK, "2026-47"),
        (Covers.MONTH, "2026-13"),
        (Covers.MOMENT, "2026-11-20 08:00"),
    ],
)
def test_invalid_period_is_refused_with_an_example(covers: Covers, text: str) -> None:
    with pytest.raises(PeriodInvalid, match=f"period='{text}' should be a {covers} such as 2026"):
        parse_period(covers, text, datetime(2026, 11, 21, 12, tzinfo=UTC), VANCOUVER)


def test_a_period_that_is_not_over_is_refused_and_says_when_it_is() -> None:
    now = datetime(2026, 11, 21, 7, 59, tzinfo=UTC)  # 23:59 of the 20th in Vancouver
    with pytest.raises(PeriodInvalid, match="not over yet in America/Los_Angeles: it ends 2026-11-21 00:00"):
        parse_period(Covers.DAY, "2026-11-20", now, VANCOUVER)


@pytest.mark.parametrize("schedule", ["61 * * * *", "* * *", "@daily", "", "0 0 31 2 *"])
def test_invalid_schedule_is_refused_with_an_explanation(schedule: str) -> None:
    with pytest.raises(ScheduleInvalid, match="five fields"):
        parse_schedule(schedule)


def test_schedule_is_described_in_words() -> None:
    assert explain_schedule(parse_schedule(" 0  6 * * 1 ")) == "At 06:00 on Monday"


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MISSED = [NOW - timedelta(hours=h) for h in (3, 2, 1)]


@pytest.mark.parametrize(
    ("catch_up", "grace_minutes", "due", "skipped"),
    [
        (CatchUp.ALL, 30, MISSED, []),
        (CatchUp.ONCE, 30, MISSED[2:], []),
        (CatchUp.SKIP, 30, [], MISSED[2:]),
        (CatchUp.SKIP, 60, MISSED[2:], []),
    ],
)
def test_missed_slots_run_by_the_rule_of_the_job(
    catch_up: CatchUp, grace_minutes: int, due: list[datetime], skipped: list[datetime]
) -> None:
    assert plan_catch_up(catch_up, MISSED, NOW, timedelta(minutes=grace_minutes)) == (due, skipped)
