"""The statement as PDF pages; equal statements have equal bytes."""

from itertools import groupby
from typing import Any, BinaryIO

from services.closing.profit_and_loss import ProfitStatement, StatementLine, format_month
from services.closing.tax_files import amount
from services.core.pdf import GREEN, INK, PALE, RULE, SHADE, paragraph, write_pages

PDF_NAME = "profit-and-loss.pdf"


def write_pdf(file: BinaryIO, statement: ProfitStatement) -> None:
    """Write the statement as PDF, US letter, one page for each currency."""
    from reportlab.platypus import PageBreak, Spacer

    title = f"Profit and loss, {format_month(statement.period)}"
    story: list[Any] = []
    for currency, lines in groupby(statement.lines, key=lambda line: line.currency):
        about = (
            f"{format_month(statement.period)} in {statement.zone}. All sums in {currency}. "
            "Prepared by Shopfleet."
        )
        story += [
            *([PageBreak()] if story else []),
            paragraph(statement.shop_name, 10, GREEN, bold=True),
            paragraph(title, 18, bold=True),
            paragraph(about, 8.5, PALE),
            Spacer(1, 9),
            _table(statement, list(lines)),
            Spacer(1, 10),
            *(paragraph(note, 7.5, PALE) for note in statement.notes),
        ]
    write_pages(file, f"{statement.shop_name}: {title}", story)


def _table(statement: ProfitStatement, lines: list[StatementLine]) -> Any:
    from reportlab.platypus import Table, TableStyle

    rows: list[list[Any]] = [["", format_month(statement.period), format_month(statement.before)]]
    marks: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
        ("TEXTCOLOR", (0, 0), (-1, -1), INK),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 2.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.8),
        ("LINEBELOW", (0, 0), (-1, 0), 1, INK),
    ]

    def mark(*styles: tuple[Any, ...]) -> None:
        row = len(rows)
        marks.extend((name, (0, row), (-1, row), *values) for name, *values in styles)

    for section, group in groupby(lines, key=lambda line: line.section):
        mark(("FONT", "Helvetica-Bold", 9), ("TEXTCOLOR", GREEN), ("TOPPADDING", 7))
        rows.append([section, "", ""])
        for line in group:
            if line.is_sum:
                mark(("FONT", "Helvetica-Bold", 9), ("LINEABOVE", 0.6, RULE), ("BACKGROUND", SHADE))
            before = "" if line.before is None else _format_amount(line.before, line.currency)
            label = line.label if line.is_sum else paragraph(line.label, 9)
            now = line.amount if line.is_unknown else _format_amount(line.cents, line.currency)
            rows.append([label, now, before])
    table = Table(rows, colWidths=["50%", "25%", "25%"], repeatRows=1)
    table.setStyle(TableStyle(marks))
    return table


def _format_amount(minor: int, currency: str) -> str:
    """Return an amount with thousands separators, a negative one in brackets."""
    whole, point, cents = amount(abs(minor), currency).partition(".")
    shown = f"{int(whole):,}{point}{cents}"
    return f"({shown})" if minor < 0 else shown
