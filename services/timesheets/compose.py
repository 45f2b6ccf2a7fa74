"""A report as files and as mails, one to each recipient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.core.counts import format_count
from services.core.times import format_time
from services.mail.compose import compose_mail
from services.mail.formatting import day
from services.mail.message import Attachment, Mail, MailType
from services.shops.shops import Shop
from services.timesheets.account import read_input
from services.timesheets.definition import ReportDefinition
from services.timesheets.hours import HoursKind, Timesheet
from services.timesheets.overtime import RULES
from services.timesheets.report_files import FORMATS, ReportHead, format_row
from services.timesheets.report_kinds import KINDS, make_table
from services.timesheets.report_table import Employee, ReportInput, ReportTable, Unit

MAIL_ROWS = 100
"""Rows of a report in the text of its mail; the files have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeReport:
    """A report of one period: its content, and its files by name."""

    report: ReportDefinition
    period: str
    head: ReportHead
    table: ReportTable
    files: Sequence[Attachment]

    @property
    def stats(self) -> dict[str, int]:
        return {"rows": len(self.table.rows), "files": len(self.files)}


def make_report(report: ReportDefinition, shop: Shop, period: str, now: datetime) -> MadeReport:
    """Read the timesheets of ``period`` and return the report. Raises the ``WorkError`` of a call."""
    given, unreadable = read_input(report, shop, period, now)
    table = make_table(report.report_kind, given)
    if unreadable:
        note = f"INCOMPLETE: {format_count(unreadable, 'row')} of QuickBooks Time cannot be read."
        table = ReportTable(
            title=table.title, columns=table.columns, rows=table.rows, notes=[note, *table.notes]
        )
    return render_report(report, shop, period, given, table)


def render_report(
    report: ReportDefinition, shop: Shop, period: str, given: ReportInput, table: ReportTable
) -> MadeReport:
    """Return the report with its files. Pure."""
    head = ReportHead(
        company=shop.name,
        name=report.name,
        period=_name_period(report, given),
        about=f"{table.title}; days and times of {shop.timezone}",
    )
    stem = f"{_make_stem(report.name)}-{period.replace(':', '')}"
    formats = [FORMATS[name] for name in report.formats]
    files = [
        Attachment(name=f"{stem}.{one.suffix}", content_type=one.content_type, content=one.write(head, table))
        for one in formats
    ]
    return MadeReport(report=report, period=period, head=head, table=table, files=files)


def compose_report(made: MadeReport, shop: Shop) -> list[Mail]:
    """Return the report's mail to each recipient."""
    context = plan_report_mail(made.head, made.table, made.files)
    return [
        compose_mail(
            REPORT_MAIL, context, shop=shop, recipient=one, period=mail_period(made.report.id, made.period),
            attachments=made.files,
        )
        for one in made.report.recipients
    ]  # fmt: skip


def mail_period(report_id: int, period: str) -> str:
    """Return the period of the report's mail, which is sent once to each recipient."""
    return f"{report_id}/{period}"


def plan_report_mail(head: ReportHead, table: ReportTable, files: Sequence[Attachment]) -> dict[str, Any]:
    """Return the context of ``timesheet_report``."""
    has_totals = any(value is not None for value in table.totals)
    return {
        "title": head.name,
        "report_period": head.period,
        "about": head.about,
        "headings": [(one.title, one.unit in (Unit.HOURS, Unit.COUNT)) for one in table.columns],
        "lines": [format_row(row, table) for row in table.rows[:MAIL_ROWS]],
        "sums": format_row(table.totals, table) if table.rows and has_totals else [],
        "hidden": max(0, len(table.rows) - MAIL_ROWS),
        "notes": list(table.notes),
        "file_names": [one.name for one in files],
    }


def _name_period(report: ReportDefinition, given: ReportInput) -> str:
    if report.report_kind.is_live:
        return f"At {format_time(given.now, given.zone)}"
    if given.first == given.last:
        return day(given.first)
    return f"{day(given.first)} to {day(given.last)}"


def _make_stem(name: str) -> str:
    words = "".join(one if one.isascii() and one.isalnum() else " " for one in name.lower()).split()
    return "-".join(words) or "report"


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    last = now.date() - timedelta(days=now.weekday() + 1)
    first = last - timedelta(days=6)
    sheets = [
        _sample_shift(number, user, first + timedelta(days=place), hours)
        for number, (user, place, hours) in enumerate(
            [(1, 0, 8), (1, 1, 9.5), (1, 2, 8), (1, 3, 12.5), (2, 0, 7.5), (2, 1, 8), (2, 3, 8), (2, 4, 4)]
        )
    ]
    given = ReportInput(
        first=first, last=last, zone=shop.zone if shop else UTC, now=now, rule=RULES["CA-BC"], sheets=sheets,
        people={1: Employee("Dana Ruiz", "E-07"), 2: Employee("Miguel Sol", "E-12")}, jobcodes={3: "Repairs"},
    )  # fmt: skip
    table = make_table(KINDS["payroll"], given)
    head = ReportHead(
        company=shop.name if shop else "Your company", name="Weekly payroll hours",
        period=f"{day(first)} to {day(last)}", about=f"{table.title}; days and times of the company's zone",
    )  # fmt: skip
    return plan_report_mail(head, table, ())


def _sample_shift(number: int, user: int, on: date, hours: float) -> Timesheet:
    return Timesheet(
        id=number, user_id=user, jobcode_id=3, kind=HoursKind.WORK, day=on, seconds=round(hours * 3600)
    )


REPORT_MAIL = MailType(
    name="timesheet_report",
    package="services.timesheets",
    about="a scheduled report on hours worked",
    reader="recipients of the report",
    why="You get this because your company has scheduled this report for you. An admin can change it.",
    sample=_sample,
)
