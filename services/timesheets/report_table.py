"""What a report is made of, and its content as a table of typed columns. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple

from services.timesheets.hours import DayPart, HoursKind, Timesheet, divide
from services.timesheets.overtime import OvertimeRule


class Unit(StrEnum):
    """What the values of a column are."""

    TEXT = "text"
    COUNT = "count"
    HOURS = "hours"
    """Whole seconds, which a file shows as hours."""
    DAY = "day"
    MOMENT = "moment"


class Column(NamedTuple):
    """A column. ``is_summed``: the report has its sum below."""

    title: str
    unit: Unit = Unit.HOURS
    is_summed: bool = True


class Employee(NamedTuple):
    """A person whose time is recorded."""

    name: str
    payroll_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """What a report is made of: the days ``first`` to ``last`` of a company in ``zone``.

    ``sheets`` also has those of the days before ``first`` that a week of the overtime rule or a shift needs.
    ``day_begins`` is the local hour at which a day begins.
    """

    first: date
    last: date
    zone: tzinfo
    now: datetime
    rule: OvertimeRule
    sheets: Sequence[Timesheet]
    people: Mapping[int, Employee]
    jobcodes: Mapping[int, str]
    day_begins: int = 0

    def list_parts(self, kind: HoursKind) -> list[DayPart]:
        """Return the parts of ``kind`` by day, also of the days before ``first``."""
        found = (divide(sheet, self.zone, self.day_begins) for sheet in self.sheets if sheet.kind is kind)
        return [part for parts in found for part in parts if part.day <= self.last]

    def name_person(self, user_id: int) -> str:
        person = self.people.get(user_id)
        return person.name if person else f"person {user_id}"

    def name_jobcode(self, jobcode_id: int) -> str:
        return self.jobcodes.get(jobcode_id) or (
            "no job code" if not jobcode_id else f"job code {jobcode_id}"
        )


Row = tuple[Any, ...]


_NUMBERS = (Unit.COUNT, Unit.HOURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """A report's content. ``totals`` has a value for each summed column, None for the others."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    totals: Row = field(init=False)

    def __post_init__(self) -> None:
        sums = tuple(
            sum(row[place] for row in self.rows) if column.is_summed and column.unit in _NUMBERS else None
            for place, column in enumerate(self.columns)
        )
        object.__setattr__(self, "totals", sums)
