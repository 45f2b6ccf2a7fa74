"""Durations and moments are parsed exactly, or refused with an example."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.durations import TimeInvalid, explain_date, format_seconds, parse_duration, parse_moment

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1h30m", timedelta(minutes=90)),
        (" 1H ", timedelta(hours=1)),
        ("0", timedelta(0)),
    ],
)
def test_duration_is_parsed(written: str, meant: timedelta) -> None:
    assert parse_duration(written) == meant


@pytest.mark.parametrize("written", ["", "15", "m", "-5m", "1.5h", "5 m", "1y", "m15", "9999999d"])
def test_duration_that_cannot_be_read_is_refused(written: str) -> None:
    with pytest.raises(TimeInvalid):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-20T08:00:00-08:00", datetime(2026, 11, 20, 16, 0, tzinfo=UTC)),
        ("2026-11-20T08:00Z", datetime(2026, 11, 20, 8, 0, tzinfo=UTC)),
        ("2026-11-20T08:00", datetime(2026, 11, 20, 8, 0, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("24h", NOW - timedelta(days=1)),
    ],
)
def test_moment_is_a_time_or_an_age(written: str, meant: datetime) -> None:
    assert parse_moment(written, NOW) == meant
    assert parse_moment(written, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "2026-13-01",
        "9999999d",
        "0001-01-01T00:00+14:00",
        "9998-12-31",
        "9999-12-31T23:59:59-08:00",
        "1999-12-31T23:59:59Z",
        "2100-01-01",
    ],
)
def test_moment_that_cannot_be_read_is_refused(written: str) -> None:
    with pytest.raises(TimeInvalid, match="should be a time such as"):
        parse_moment(written, NOW)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("2026-11-31", ": November 2026 has 30 days"),
        ("2026-02-29T08:00Z", ": February 2026 has 28 days"),
        ("2028-02-30", ": February 2028 has 29 days"),
        ("2026-13-01", ": a year has the months 01 to 12"),
        ("2026-00", ": a year has the months 01 to 12"),
        ("2025-W53", ": 2025 has 52 weeks, 01 to 52"),
        ("2026-W54", ": 2026 has 53 weeks, 01 to 53"),
        *((text, "") for text in ("2026-11-30", "2026-W53", "1999-02-31", "yesterday", "2026-11-311", "")),
    ],
)
def test_a_date_that_is_not_in_the_calendar_is_explained(written: str, why: str) -> None:
    assert explain_date(written) == why


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (-3, "0s"), (42.9, "42s"), (185, "3m 05s"), (7800, "2h 10m"), (273_600, "3d 4h")],
)
def test_age_is_shown_in_its_two_largest_units(seconds: float | None, shown: str) -> None:
    assert format_seconds(seconds) == shown


@given(st.integers(0, 36_525), st.sampled_from("smhd"))
def test_every_number_and_unit_is_a_duration(number: int, unit: str) -> None:
    assert parse_duration(f"{number}{unit}") >= timedelta(0)
