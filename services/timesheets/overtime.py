"""Overtime rules as data, and what they make of the seconds worked in a week. Pure.

The rules are the general ones of each law. Averaging agreements, permits, public holidays, exempt work and
collective agreements are not in them: a report names its rule, so that a reader can compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import NamedTuple

from services.core.errors import InputInvalid, describe_unknown

HOUR = 3600
SUNDAY, MONDAY = 6, 0
WEEK = timedelta(days=7)


class DayPay(NamedTuple):
    """The seconds of one day by rate. Their sum is the time worked."""

    regular: int
    overtime: int = 0
    double: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OvertimeRule:
    """After how many hours of a day or week work is paid at 1.5 (overtime) or 2 (double) times the rate.

    With both limits, hours over the day's limit do not count again for the week. ``is_greater``: not both
    count, but the greater one of each week. ``has_seventh_day``: in a week with work on all seven days, the
    seventh has no regular hours. ``week_begins`` is a weekday, Monday is 0.
    """

    name: str
    place: str
    law: str
    weekly_hours: int = 0
    daily_hours: int = 0
    double_hours: int = 0
    is_greater: bool = False
    has_seventh_day: bool = False
    week_begins: int = SUNDAY

    def describe(self) -> str:
        """Return the rule in a sentence for the foot of a report."""
        parts = []
        if self.daily_hours:
            parts.append(f"over {self.daily_hours} h a day")
        if self.weekly_hours:
            parts.append(f"over {self.weekly_hours} h a week")
        if not parts:
            return "No overtime is computed."
        link = ", whichever is greater in the week" if self.is_greater else ""
        text = f"{self.place}: overtime {' and '.join(parts)}{link}"
        if self.double_hours:
            text += f"; double time over {self.double_hours} h a day"
        if self.has_seventh_day:
            text += (
                f"; the seventh day worked in a week is overtime, and double time over {self.daily_hours} h"
            )
        begins = "Sunday" if self.week_begins == SUNDAY else "Monday"
        return f"{text} ({self.law}). A week begins on {begins}."


NO_RULE = OvertimeRule(name="none", place="", law="")

_RULES = (
    NO_RULE,
    OvertimeRule(
        name="CA-AB", place="Alberta", law="Employment Standards Code, s. 21",
        daily_hours=8, weekly_hours=44, is_greater=True,
    ),
    OvertimeRule(
        name="CA-BC", place="British Columbia", law="Employment Standards Act, s. 40",
        daily_hours=8, double_hours=12, weekly_hours=40,
    ),
    OvertimeRule(
        name="CA-federal", place="Canada, federal works", law="Canada Labour Code, s. 169 and 174",
        daily_hours=8, weekly_hours=40, is_greater=True,
    ),
    OvertimeRule(
        name="CA-ON", place="Ontario", law="Employment Standards Act, 2000, s. 22", weekly_hours=44
    ),
    OvertimeRule(
        name="CA-QC", place="Quebec", law="Act respecting labour standards, s. 52 and 55", weekly_hours=40
    ),
    OvertimeRule(
        name="CA-SK", place="Saskatchewan", law="The Saskatchewan Employment Act, s. 2-17 and 2-18",
        daily_hours=8, weekly_hours=40, is_greater=True,
    ),
    OvertimeRule(
        name="US", place="United States", law="Fair Labor Standards Act, 29 U.S.C. 207", weekly_hours=40
    ),
    OvertimeRule(
        name="US-CA", place="California", law="Labor Code, s. 510",
        daily_hours=8, double_hours=12, weekly_hours=40, has_seventh_day=True,
    ),
)  # fmt: skip
RULES: Mapping[str, OvertimeRule] = MappingProxyType({rule.name: rule for rule in _RULES})


def get_rule(name: str) -> OvertimeRule:
    """Return the rule ``name``; raise ``InputInvalid`` with the names that exist."""
    if name not in RULES:
        raise InputInvalid(f"overtime={describe_unknown(name, RULES)}")
    return RULES[name]


def begin_of_week(day: date, rule: OvertimeRule) -> date:
    """Return the first day of the rule's week with ``day``."""
    return day - timedelta(days=(day.weekday() - rule.week_begins) % 7)


def rate_days(worked: Mapping[date, int], rule: OvertimeRule) -> dict[date, DayPay]:
    """Return the seconds of each day by rate; ``worked`` are one person's seconds of whole weeks."""
    weeks: dict[date, list[int]] = {}
    for day, seconds in worked.items():
        first = begin_of_week(day, rule)
        weeks.setdefault(first, [0] * 7)[(day - first).days] += seconds
    rated = {
        first + timedelta(days=place): pay
        for first, days in weeks.items()
        for place, pay in enumerate(rate_week(days, rule))
    }
    return {day: rated[day] for day in sorted(worked)}


def rate_week(days: Sequence[int], rule: OvertimeRule) -> list[DayPay]:
    """Return the pay of the seven ``days`` of a week, each in seconds worked.

    Overtime of a week falls on the days on which the week's limit is passed.
    """
    daily = [_rate_day(seconds, rule) for seconds in days]
    if rule.has_seventh_day and all(days):
        over = max(0, days[6] - rule.daily_hours * HOUR)
        daily[6] = DayPay(0, days[6] - over, over)
    if not rule.weekly_hours:
        return daily
    if not rule.is_greater:
        return _rate_over_week(daily, rule.weekly_hours * HOUR)
    weekly = _rate_over_week([DayPay(seconds) for seconds in days], rule.weekly_hours * HOUR)
    return max(daily, weekly, key=lambda week: sum(pay.overtime for pay in week))


def _rate_day(seconds: int, rule: OvertimeRule) -> DayPay:
    if not rule.daily_hours:
        return DayPay(seconds)
    double = max(0, seconds - rule.double_hours * HOUR) if rule.double_hours else 0
    overtime = max(0, seconds - double - rule.daily_hours * HOUR)
    return DayPay(seconds - double - overtime, overtime, double)


def _rate_over_week(days: Sequence[DayPay], limit: int) -> list[DayPay]:
    rated, left = [], limit
    for regular, overtime, double in days:
        kept = min(regular, left)
        left -= kept
        rated.append(DayPay(kept, overtime + regular - kept, double))
    return rated
