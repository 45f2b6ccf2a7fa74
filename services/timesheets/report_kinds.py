"""The kinds of reports: what each one lists, from the timesheets of a period. Pure.

``KINDS`` is the table of kinds. Times worked are whole seconds until a file is written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from services.core.counts import format_count
from services.core.errors import InputInvalid, describe_unknown
from services.core.times import format_time
from services.timesheets.hours import HoursKind, Timesheet, find_day
from services.timesheets.overtime import DayPay, begin_of_week, rate_days
from services.timesheets.report_table import Column, ReportInput, ReportTable, Row, Unit

_LONGEST_SHIFT = timedelta(hours=24)
_PERSON = Column("Person", Unit.TEXT)
_PAY = (Column("Regular"), Column("Overtime"), Column("Double time"))
_RULE = Column("Overtime rule", Unit.TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportKind:
    """A kind of report. ``is_live``: it is about this moment, not about a period that is over."""

    name: str
    title: str
    columns: Sequence[Column]
    list_rows: Callable[[ReportInput], Iterable[Row]]
    is_live: bool = False
    has_rates: bool = False
    """Its hours are by rate, so it needs all timesheets of a person."""


def make_table(kind: ReportKind, given: ReportInput) -> ReportTable:
    """Return the report of ``kind``, with notes on what a reader must know to compare its figures."""
    return ReportTable(
        title=kind.title,
        columns=kind.columns,
        rows=list(kind.list_rows(given)),
        notes=_list_notes(kind, given),
    )


def _list_notes(kind: ReportKind, given: ReportInput) -> list[str]:
    notes = []
    if kind.has_rates:
        notes.append(given.rule.describe())
        week = begin_of_week(given.last, given.rule) + timedelta(days=6)
        if given.rule.weekly_hours and week > given.last:
            notes.append(f"The last week ends on {week}, after this period: its later days are not counted.")
    known = [one for one in given.sheets if _is_begun(one, given)]
    if not kind.is_live:
        hour = f"{given.day_begins:02d}:00" if given.day_begins else "midnight"
        notes.append(f"A day begins at {hour}; a shift over it is divided. Hours are elapsed time.")
        notes.append("Hours are rounded once to 0.01 h; a total is rounded from its seconds.")
        ended = [one for one in known if one.is_open]
        if ended:
            shifts = format_count(len(ended), "shift")
            notes.append(f"Not counted: {shifts} still open, {_name_all(ended, given)}.")
    wrong = [one for one in known if one.start and one.end and one.end <= one.start]
    if wrong:
        shifts = format_count(len(wrong), "shift ends before it starts", "shifts end before they start")
        notes.append(f"Not counted: {shifts}, {_name_all(wrong, given)}.")
    long = [one for one in known if one.start and one.end and one.end - one.start > _LONGEST_SHIFT]
    if long:
        notes.append(f"Check: {format_count(len(long), 'shift')} longer than 24 h, {_name_all(long, given)}.")
    return notes


def _is_begun(sheet: Timesheet, given: ReportInput) -> bool:
    """Return whether the sheet begins on the report's last day or before."""
    day = find_day(sheet.start, given.zone, given.day_begins) if sheet.start else sheet.day
    return day <= given.last


def _name_all(sheets: Sequence[Timesheet], given: ReportInput) -> str:
    names = [f"{given.name_person(one.user_id)} on {one.day}" for one in sheets]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _by_person(given: ReportInput) -> Iterable[Row]:
    work, leave, days, shifts = _sum_people(given)
    for user in _sort_people(given, work.keys() | leave.keys()):
        yield (
            given.name_person(user), len(days.get(user, ())), len(shifts.get(user, ())), work.get(user, 0),
            leave.get(user, 0), work.get(user, 0) + leave.get(user, 0),
        )  # fmt: skip


def _sum_people(
    given: ReportInput,
) -> tuple[dict[int, int], dict[int, int], dict[int, set[date]], dict[int, set[int]]]:
    work: dict[int, int] = {}
    leave: dict[int, int] = {}
    days: dict[int, set[date]] = {}
    shifts: dict[int, set[int]] = {}
    for sums, kind in ((work, HoursKind.WORK), (leave, HoursKind.LEAVE)):
        for part in given.list_parts(kind):
            if part.day >= given.first:
                user = part.sheet.user_id
                sums[user] = sums.get(user, 0) + part.seconds
                if kind is HoursKind.WORK:
                    days.setdefault(user, set()).add(part.day)
                    shifts.setdefault(user, set()).add(part.sheet.id)
    return work, leave, days, shifts


def _sort_people(given: ReportInput, users: Iterable[int]) -> list[int]:
    return sorted(users, key=lambda user: (given.name_person(user).casefold(), user))


def _by_jobcode(given: ReportInput) -> Iterable[Row]:
    seconds: dict[int, int] = {}
    people: dict[int, set[int]] = {}
    for kind in (HoursKind.WORK, HoursKind.LEAVE):
        for part in given.list_parts(kind):
            if part.day >= given.first:
                code = part.sheet.jobcode_id
                seconds[code] = seconds.get(code, 0) + part.seconds
                people.setdefault(code, set()).add(part.sheet.user_id)
    for code in sorted(seconds, key=lambda code: (given.name_jobcode(code).casefold(), code)):
        yield given.name_jobcode(code), len(people[code]), seconds[code]


def _rate_people(given: ReportInput) -> dict[int, dict[date, DayPay]]:
    """Return each person's days of the period with work, by rate."""
    worked: dict[int, dict[date, int]] = {}
    for part in given.list_parts(HoursKind.WORK):
        days = worked.setdefault(part.sheet.user_id, {})
        days[part.day] = days.get(part.day, 0) + part.seconds
    return {
        user: {day: pay for day, pay in rate_days(days, given.rule).items() if day >= given.first}
        for user, days in worked.items()
    }


def _payroll(given: ReportInput) -> Iterable[Row]:
    rated, (_, leave, _, _) = _rate_people(given), _sum_people(given)
    for user in _sort_people(given, rated.keys() | leave.keys()):
        pay = [sum(rate) for rate in zip(*rated.get(user, {}).values(), strict=True)] or [0, 0, 0]
        away = leave.get(user, 0)
        if total := sum(pay) + away:
            person = given.people.get(user)
            number = person.payroll_id if person else ""
            yield given.name_person(user), number, *pay, away, total, given.rule.name


def _overtime(given: ReportInput) -> Iterable[Row]:
    rated = _rate_people(given)
    for user in _sort_people(given, rated):
        for day, pay in rated[user].items():
            if pay.overtime or pay.double:
                yield given.name_person(user), day, sum(pay), *pay, given.rule.name


def _on_the_clock(given: ReportInput) -> Iterable[Row]:
    for sheet in sorted(given.sheets, key=lambda one: (one.start or given.now, one.id)):
        if sheet.is_open and sheet.start is not None:
            passed = max(0, round((given.now - sheet.start).total_seconds()))
            since = format_time(sheet.start, given.zone)
            yield given.name_person(sheet.user_id), since, given.name_jobcode(sheet.jobcode_id), passed


_KINDS = (
    ReportKind(
        name="hours-by-person",
        title="Hours by person",
        columns=(
            _PERSON, Column("Days", Unit.COUNT, is_summed=False), Column("Shifts", Unit.COUNT),
            Column("Worked"), Column("Leave"), Column("Total"),
        ),
        list_rows=_by_person,
    ),
    ReportKind(
        name="hours-by-job-code",
        title="Hours by job code",
        columns=(
            Column("Job code", Unit.TEXT), Column("People", Unit.COUNT, is_summed=False), Column("Hours"),
        ),
        list_rows=_by_jobcode,
    ),
    ReportKind(
        name="payroll",
        title="Payroll hours",
        columns=(_PERSON, Column("Payroll id", Unit.TEXT), *_PAY, Column("Leave"), Column("Total"), _RULE),
        list_rows=_payroll,
        has_rates=True,
    ),
    ReportKind(
        name="overtime",
        title="Overtime by day",
        columns=(_PERSON, Column("Day", Unit.DAY), Column("Worked"), *_PAY, _RULE),
        list_rows=_overtime,
        has_rates=True,
    ),
    ReportKind(
        name="on-the-clock",
        title="On the clock",
        columns=(
            _PERSON, Column("Since", Unit.MOMENT), Column("Job code", Unit.TEXT),
            Column("Hours so far", is_summed=False),
        ),
        list_rows=_on_the_clock,
        is_live=True,
    ),
)  # fmt: skip
KINDS: Mapping[str, ReportKind] = MappingProxyType({kind.name: kind for kind in _KINDS})


def get_kind(name: str) -> ReportKind:
    """Return the kind ``name``; raise ``InputInvalid`` with the names that exist."""
    if name not in KINDS:
        raise InputInvalid(f"kind={describe_unknown(name, KINDS)}")
    return KINDS[name]
