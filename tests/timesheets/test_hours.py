"""Timesheets are divided at the company's midnight, in both nights in which clocks change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.timesheets.hours import HoursKind, Timesheet, begin_of_day, divide, find_day

# A zone, and a time at which its clocks change.
CHANGES = [
    (ZoneInfo(name), datetime.fromisoformat(at))
    for name, at in (
        ("America/Toronto", "2026-03-08T07:00Z"),
        ("America/Toronto", "2026-11-01T06:00Z"),
        ("America/Santiago", "2026-09-06T04:00Z"),
        ("America/Santiago", "2026-04-05T03:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
        ("Asia/Kolkata", "2026-11-20T18:30Z"),
    )
]
TORONTO = CHANGES[0][0]


def make_sheet(start: datetime | None, end: datetime | None, seconds: int = 0) -> Timesheet:
    return Timesheet(
        id=1, user_id=7, jobcode_id=3, kind=HoursKind.WORK, day=date(2026, 11, 2), seconds=seconds,
        start=start, end=end,
    )  # fmt: skip


def list_hours(start: str, end: str, zone: str, begins: int = 0) -> list[tuple[str, float]]:
    """Return (day, hours) of a shift between two local times."""
    local = [datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)) for text in (start, end)]
    begin, finish = (at.astimezone(UTC) for at in local)
    sheet = make_sheet(begin, finish)
    return [(f"{part.day:%m-%d}", part.seconds / 3600) for part in divide(sheet, ZoneInfo(zone), begins)]


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        ("2026-11-20T09:00", "2026-11-20T17:30", [("11-20", 8.5)]),
        ("2026-11-20T22:00", "2026-11-21T06:00", [("11-20", 2), ("11-21", 6)]),
        ("2026-11-20T16:00", "2026-11-21T00:00", [("11-20", 8)]),
        # Clocks go back at 02:00 on November 1, and forward on March 8.
        ("2026-10-31T22:00", "2026-11-01T06:00", [("10-31", 2), ("11-01", 7)]),
        ("2026-03-07T22:00", "2026-03-08T06:00", [("03-07", 2), ("03-08", 5)]),
        ("2026-11-20T22:00", "2026-11-23T02:00", [("11-20", 2), ("11-21", 24), ("11-22", 24), ("11-23", 2)]),
        ("2026-11-20T09:00", "2026-11-20T09:00", []),
        ("2026-11-20T09:00", "2026-11-20T08:00", []),
    ],
)
def test_a_shift_is_divided_at_midnight(start: str, end: str, parts: list[tuple[str, float]]) -> None:
    assert list_hours(start, end, "America/Toronto") == parts


def test_a_day_can_begin_at_another_hour() -> None:
    night = list_hours("2026-11-20T20:00", "2026-11-21T04:00", "America/Toronto", 5)
    assert night == [("11-20", 8)]
    assert find_day(datetime(2026, 11, 21, 9, 59, tzinfo=UTC), TORONTO, 5) == date(2026, 11, 20)


def test_a_day_that_begins_at_a_time_that_does_not_exist_begins_after_the_jump() -> None:
    assert begin_of_day(date(2026, 3, 8), TORONTO, 2) == datetime(2026, 3, 8, 7, tzinfo=UTC)


def test_an_entry_without_times_belongs_to_its_day_and_an_open_shift_to_none() -> None:
    by_hand = make_sheet(None, None, seconds=5400)
    assert [(part.day, part.seconds) for part in divide(by_hand, TORONTO)] == [(date(2026, 11, 2), 5400)]
    shift = make_sheet(datetime(2026, 11, 2, 14, tzinfo=UTC), None)
    assert shift.is_open
    assert list(divide(shift, TORONTO)) == []


@given(
    change=st.sampled_from(CHANGES),
    before=st.integers(-500, 3000),
    minutes=st.integers(1, 4000),
    begins=st.integers(0, 23),
)
def test_the_parts_are_the_minutes_of_the_shift_by_day(
    change: tuple[ZoneInfo, datetime], before: int, minutes: int, begins: int
) -> None:
    zone, start = change[0], change[1] - timedelta(minutes=before)
    slow: dict[date, int] = {}
    for minute in range(minutes):
        day = find_day(start + timedelta(minutes=minute), zone, begins)
        slow[day] = slow.get(day, 0) + 60

    found: dict[date, int] = {}
    for part in divide(make_sheet(start, start + timedelta(minutes=minutes)), zone, begins):
        found[part.day] = found.get(part.day, 0) + part.seconds

    assert found == slow
