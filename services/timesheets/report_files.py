"""A report as CSV, XLSX and PDF; equal reports have equal bytes. Pure."""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO, StringIO
from types import MappingProxyType
from typing import Any

from services.core.counts import format_count
from services.core.pdf import GREEN, INK, PALE, RULE, SHADE, encodable, paragraph, write_pages
from services.timesheets.report_table import Column, ReportTable, Row, Unit

_HUNDREDTH = Decimal("0.01")
# Also the full-width forms, which some spreadsheet programs read as the same signs.
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
PDF_ROWS = 5_000
"""Rows of a PDF, about 150 pages: 10 to 30 s, 120 MB. It says so if there are more."""
_LONG_WORD = re.compile(r"(\S{24})(?=\S)")
"""A longer word leaves no width for the other columns of a page."""
_CREATED = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # XlsxWriter takes naive UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportHead:
    """What is written above a report: the ``company``, the report's own ``name``, and its ``period``."""

    company: str
    name: str
    period: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """A kind of file. ``write`` returns its bytes."""

    suffix: str
    content_type: str
    write: Callable[[ReportHead, ReportTable], bytes]


def format_hours(seconds: int) -> str:
    """Return hours with two decimals, rounded half up: 5418 s is "1.51" (1.505 h)."""
    return f"{(Decimal(seconds) / 3600).quantize(_HUNDREDTH, ROUND_HALF_UP):f}"


def format_value(value: Any, column: Column) -> str:
    """Return a value for people; None is empty."""
    if value is None:
        return ""
    return format_hours(value) if column.unit is Unit.HOURS else str(value)


def format_row(row: Row, table: ReportTable) -> list[str]:
    return [format_value(value, column) for value, column in zip(row, table.columns, strict=True)]


def _write_csv(_head: ReportHead, table: ReportTable) -> bytes:
    file = StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([column.title for column in table.columns])
    for row in table.rows:
        writer.writerow([_plain(text) for text in format_row(row, table)])
    return file.getvalue().encode("utf-8-sig")  # with the mark Excel reads UTF-8


def _plain(text: str) -> str:
    """Return ``text``, with an apostrophe if a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _write_xlsx(head: ReportHead, table: ReportTable) -> bytes:
    from xlsxwriter import Workbook  # only a process that writes a report loads it

    file = BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with Workbook(file, options) as book:
        book.set_properties({"title": f"{head.company}: {head.name}", "created": _CREATED})
        sheet = book.add_worksheet(table.title[:31])
        bold, note = book.add_format({"bold": True}), book.add_format({"font_color": PALE})
        top = book.add_format({"bold": True, "bottom": 1})
        hours = book.add_format({"num_format": "#,##0.00"})
        sums = book.add_format({"bold": True, "top": 1, "num_format": "#,##0.00"})
        counts = book.add_format({"bold": True, "top": 1})
        sheet.write_string(0, 0, f"{head.company}: {head.name}", bold)
        sheet.write_string(1, 0, f"{head.period}. {head.about}", note)
        first = 3
        for place, column in enumerate(table.columns):
            sheet.write_string(first, place, column.title, top)
            shown = [format_value(row[place], column) for row in table.rows[:1000]]
            sheet.set_column(place, place, min(40, max(map(len, [column.title, *shown])) + 2))
        line = first
        for line, row in enumerate(table.rows, first + 1):
            _write_cells(sheet, line, row, table, {Unit.HOURS: hours})
        if any(value is not None for value in table.totals):
            line += 1
            _write_cells(sheet, line, table.totals, table, {Unit.HOURS: sums, Unit.COUNT: counts})
        for place, text in enumerate(table.notes, line + 2):
            sheet.write_string(place, 0, text, note)
        sheet.freeze_panes(first + 1, 0)
    return file.getvalue()


def _write_cells(sheet: Any, line: int, row: Row, table: ReportTable, formats: Mapping[Unit, Any]) -> None:
    for place, (value, column) in enumerate(zip(row, table.columns, strict=True)):
        if value is None:
            continue
        if column.unit in (Unit.HOURS, Unit.COUNT):
            sheet.write_number(line, place, float(format_value(value, column)), formats.get(column.unit))
        else:
            sheet.write_string(line, place, str(value))


def _write_pdf(head: ReportHead, table: ReportTable) -> bytes:
    from reportlab.platypus import Spacer, Table, TableStyle

    lines: list[list[Any]] = [[column.title for column in table.columns]]
    for row in table.rows[:PDF_ROWS]:
        cells = zip(format_row(row, table), table.columns, strict=True)
        lines.append(
            [
                paragraph(_LONG_WORD.sub(r"\1 ", text), 8.5) if column.unit is Unit.TEXT else text
                for text, column in cells
            ]
        )
    marks: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 8.5),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 8.5),
        ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
        ("LINEBELOW", (0, 1), (-1, -1), 0.4, RULE),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
    ]
    for place, column in enumerate(table.columns):
        if column.unit in (Unit.HOURS, Unit.COUNT):
            marks.append(("ALIGN", (place, 0), (place, -1), "RIGHT"))
    if any(value is not None for value in table.totals):
        lines.append([encodable(text) for text in format_row(table.totals, table)])
        marks += [
            ("FONT", (0, -1), (-1, -1), "Helvetica-Bold", 8.5),
            ("BACKGROUND", (0, -1), (-1, -1), SHADE),
        ]
    shown = Table(lines, repeatRows=1, style=TableStyle(marks), hAlign="LEFT")
    file = BytesIO()
    story = [
        paragraph(head.company, 10, GREEN, bold=True),
        paragraph(head.name, 18, bold=True),
        paragraph(f"{head.period}. {head.about}", 8.5, PALE),
        *_describe_cut(len(table.rows)),
        Spacer(1, 9),
        shown if table.rows else paragraph("No time was recorded.", 10),
        Spacer(1, 10),
        *(paragraph(text, 7.5, PALE) for text in table.notes),
    ]
    write_pages(file, f"{head.company}: {head.name}", story, is_landscape=len(table.columns) > 5)
    return file.getvalue()


def _describe_cut(rows: int) -> list[Any]:
    """Return a line for a table of more than ``PDF_ROWS``; its sums are of all rows."""
    if rows <= PDF_ROWS:
        return []
    text = f"Here are the first {PDF_ROWS:,} of {format_count(rows, 'row')}; the total is of all. "
    return [paragraph(f"{text}CSV and XLSX files have every row: set them as formats.", 10, bold=True)]


_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FORMATS: Mapping[str, FileFormat] = MappingProxyType(
    {
        "csv": FileFormat(suffix="csv", content_type="text/csv", write=_write_csv),
        "xlsx": FileFormat(suffix="xlsx", content_type=_XLSX, write=_write_xlsx),
        "pdf": FileFormat(suffix="pdf", content_type="application/pdf", write=_write_pdf),
    }
)
"""The files that a mail may have; its own text shows the report in any case."""
