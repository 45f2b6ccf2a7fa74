"""Overtime equals the law's examples, and a computation minute by minute."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.timesheets.overtime import (
    HOUR,
    RULES,
    DayPay,
    OvertimeRule,
    begin_of_week,
    rate_days,
    rate_week,
)

# Sunday to Saturday.
WEEKS = [
    ("CA-BC", (0, 8, 10, 13, 7, 0, 0), (31, 6, 1)),
    ("CA-BC", (0, 8, 8, 8, 8, 8, 8), (40, 8, 0)),
    ("CA-BC", (0, 10, 10, 10, 10, 10, 0), (40, 10, 0)),
    ("CA-BC", (0, 9, 9, 9, 9, 9, 5), (40, 10, 0)),
    ("CA-AB", (0, 8, 8, 8, 8, 8, 8), (44, 4, 0)),
    ("CA-AB", (0, 5, 7, 0, 0, 11, 0), (20, 3, 0)),
    ("CA-AB", (0, 10, 10, 10, 10, 10, 0), (40, 10, 0)),
    ("CA-AB", (0, 9, 9, 8, 8, 8, 8), (44, 6, 0)),
    ("CA-ON", (0, 12, 12, 12, 8, 0, 0), (44, 0, 0)),
    ("CA-ON", (0, 12, 12, 12, 12, 4, 0), (44, 8, 0)),
    ("CA-SK", (0, 10, 10, 10, 10, 0, 0), (32, 8, 0)),
    ("CA-QC", (0, 10, 10, 10, 10, 1, 0), (40, 1, 0)),
    ("US", (0, 14, 14, 14, 0, 0, 0), (40, 2, 0)),
    ("US-CA", (1, 9, 13, 8, 8, 8, 10), (40, 14, 3)),
    ("US-CA", (0, 9, 13, 8, 8, 8, 10), (40, 15, 1)),
    ("none", (0, 24, 24, 24, 24, 24, 24), (144, 0, 0)),
]


@pytest.mark.parametrize(("name", "hours", "sums"), WEEKS)
def test_a_week_has_the_overtime_of_its_law(
    name: str, hours: Sequence[int], sums: tuple[int, int, int]
) -> None:
    week = rate_week([one * HOUR for one in hours], RULES[name])
    if name == "US-CA" and all(hours):
        assert week[6] == (0, 8 * HOUR, 2 * HOUR), "the seventh day"
    assert tuple(sum(pay[rate] for pay in week) / HOUR for rate in range(3)) == sums


def rate_slowly(days: Sequence[int], rule: OvertimeRule) -> list[DayPay]:
    """Go through the week minute by minute."""

    def walk(*, with_day: bool, with_week: bool) -> list[list[int]]:
        week, in_week = [[0, 0, 0] for _ in range(7)], 0
        for place, seconds in enumerate(days):
            for minute in range(seconds // 60):
                rate = 0
                if rule.has_seventh_day and all(days) and place == 6:
                    rate = 1 if minute < rule.daily_hours * 60 else 2
                elif with_day and rule.double_hours and minute >= rule.double_hours * 60:
                    rate = 2
                elif with_day and rule.daily_hours and minute >= rule.daily_hours * 60:
                    rate = 1
                elif with_week and rule.weekly_hours:
                    rate = 1 if in_week >= rule.weekly_hours * 60 else 0
                    in_week += 1
                week[place][rate] += 60
        return week

    if rule.is_greater:
        both = walk(with_day=True, with_week=False), walk(with_day=False, with_week=True)
        found = max(both, key=lambda week: sum(pay[1] for pay in week))
    else:
        found = walk(with_day=True, with_week=True)
    return [DayPay(*pay) for pay in found]


@given(
    rule=st.sampled_from(list(RULES.values())),
    days=st.lists(st.integers(0, 24 * 60), min_size=7, max_size=7),
)
def test_every_rule_equals_a_computation_minute_by_minute(rule: OvertimeRule, days: list[int]) -> None:
    seconds = [minutes * 60 for minutes in days]
    rated = rate_week(seconds, rule)
    assert [sum(pay) for pay in rated] == seconds
    assert rated == rate_slowly(seconds, rule)


def test_each_week_is_rated_by_itself() -> None:
    first = date(2026, 11, 22)  # a Sunday
    worked = {first + timedelta(days=place): 9 * HOUR for place in range(-3, 4)}
    rated = rate_days(worked, RULES["CA-ON"])
    assert list(rated) == sorted(worked)
    assert all(pay == (9 * HOUR, 0, 0) for pay in rated.values()), "27 and 36 hours"
    assert {begin_of_week(day, RULES["CA-ON"]) for day in worked} == {first, first - timedelta(days=7)}


def test_every_rule_names_its_limits_and_its_law() -> None:
    for rule in RULES.values():
        text = rule.describe()
        assert text.endswith("."), text
        for hours in filter(None, (rule.daily_hours, rule.weekly_hours, rule.double_hours)):
            assert f"over {hours} h a" in text
        assert rule.law in text
