"""A company's timesheets of one week, written by hand."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from services.timesheets.hours import HoursKind, Timesheet
from services.timesheets.overtime import RULES
from services.timesheets.report_table import Employee, ReportInput

ZONE = ZoneInfo("America/Vancouver")
PEOPLE = {7: Employee("Dana Ruiz", "E-07"), 8: Employee("=SUM(A1)", "8"), 9: Employee("Zoë Łuczak")}
JOBCODES = {3: "Repairs", 4: "Holiday"}


def make_sheet(
    number: int,
    user_id: int,
    start: str,
    end: str = "",
    *,
    kind: HoursKind = HoursKind.WORK,
    jobcode_id: int = 3,
) -> Timesheet:
    """Return a shift between two local times such as ``2026-11-16T09:00``; without ``end`` it is open."""
    times = [
        datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC) for text in (start, end) if text
    ]
    return Timesheet(
        id=number, user_id=user_id, jobcode_id=jobcode_id, kind=kind, day=date.fromisoformat(start[:10]),
        seconds=0, start=times[0], end=times[1] if end else None,
    )  # fmt: skip


def make_entry(number: int, user_id: int, day: str, hours: float, kind: HoursKind) -> Timesheet:
    """Return an entry without times."""
    return Timesheet(
        id=number, user_id=user_id, jobcode_id=4 if kind is HoursKind.LEAVE else 3, kind=kind,
        day=date.fromisoformat(day), seconds=round(hours * 3600),
    )  # fmt: skip


WEEK = (
    make_sheet(1, 7, "2026-11-14T20:00", "2026-11-15T02:00"),  # 2 h belong to Sunday
    make_sheet(2, 7, "2026-11-16T08:00", "2026-11-16T21:00"),  # 13 h
    make_sheet(3, 7, "2026-11-17T09:00", "2026-11-17T17:20"),  # 8 h 20 min
    make_sheet(4, 7, "2026-11-18T09:00", "2026-11-18T09:30", kind=HoursKind.UNPAID),
    make_entry(5, 7, "2026-11-19", 8, HoursKind.LEAVE),
    make_entry(6, 8, "2026-11-18", 7.5, HoursKind.WORK),
    make_sheet(7, 9, "2026-11-21T22:00", "2026-11-22T06:00"),  # 6 h belong to the next week
    make_sheet(8, 9, "2026-11-20T09:00"),
)


def make_input(rule: str = "CA-BC", sheets: Sequence[Timesheet] = WEEK) -> ReportInput:
    return ReportInput(
        first=date(2026, 11, 15), last=date(2026, 11, 21), zone=ZONE,
        now=datetime(2026, 11, 22, 16, tzinfo=UTC), rule=RULES[rule], sheets=sheets, people=PEOPLE,
        jobcodes=JOBCODES,
    )  # fmt: skip
