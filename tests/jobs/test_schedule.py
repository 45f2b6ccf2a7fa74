"""A shop's day in its zone, also in both nights when clocks change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.jobs.schedule import day_bounds, find_due_day

VANCOUVER = ZoneInfo("America/Los_Angeles")
ZONES = ["America/Los_Angeles", "Asia/Tokyo", "Pacific/Kiritimati", "Asia/Kathmandu", "Europe/Berlin", "UTC"]


def utc(day: int, hour: int, minute: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (utc(21, 7, 59), date(2026, 11, 19)),
        (utc(21, 8, 0), date(2026, 11, 20)),
        # 1 November: clocks go back at 02:00, midnight before it is still UTC-7.
        (utc(1, 6, 59), date(2026, 10, 30)),
        (utc(1, 7, 0), date(2026, 10, 31)),
        (utc(2, 7, 59), date(2026, 10, 31)),
        (utc(2, 8, 0), date(2026, 11, 1)),
        # 8 March: clocks go forward at 02:00, midnight after it is UTC-7.
        (utc(8, 8, 0, month=3), date(2026, 3, 7)),
        (utc(9, 6, 59, month=3), date(2026, 3, 7)),
        (utc(9, 7, 0, month=3), date(2026, 3, 8)),
    ],
)
def test_day_is_over_at_the_shops_own_midnight(now: datetime, day: date) -> None:
    assert find_due_day(VANCOUVER, now) == day


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Los_Angeles", date(2026, 3, 8), 23),
        ("America/Los_Angeles", date(2026, 11, 1), 25),
        ("America/Los_Angeles", date(2026, 11, 20), 24),
        # Clocks jump from 00:00 to 01:00: this midnight does not exist.
        ("Africa/Cairo", date(2026, 4, 24), 23),
        # Clocks go back from 01:00 to 00:00: this midnight comes twice.
        ("America/Havana", date(2025, 11, 2), 25),
    ],
)
def test_day_has_the_hours_that_its_clocks_give_it(zone: str, day: date, hours: int) -> None:
    begins, ends = day_bounds(ZoneInfo(zone), day)

    assert ends - begins == timedelta(hours=hours)


@given(st.sampled_from(ZONES), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001
def test_due_day_has_ended_and_the_next_one_has_not(zone: str, moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC)
    day = find_due_day(ZoneInfo(zone), now)

    assert day_bounds(ZoneInfo(zone), day)[1] <= now < day_bounds(ZoneInfo(zone), day + timedelta(days=1))[1]
