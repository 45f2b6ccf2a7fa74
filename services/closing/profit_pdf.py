"""The statement as PDF pages; equal statements have equal bytes.

With ``invariant`` reportlab writes no date and no random id; without compression the bytes do not depend on
zlib.
"""

from itertools import groupby
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

from services.closing.profit_and_loss import ProfitStatement, StatementLine, format_month
from services.closing.tax_files import amount

PDF_NAME = "profit-and-loss.pdf"
_INK, _PALE, _GREEN, _RULE, _SHADE = "#1b2420", "#46524d", "#12694a", "#c9d3ce", "#f1f5f3"


def write_pdf(file: BinaryIO, statement: ProfitStatement) -> None:
    """Write the statement as PDF, US letter, one page for each currency."""
    # reportlab needs 20 MB: only the process that closes a month loads it.
    from reportlab.lib.pagesizes import letter
    from reportlab.lib.units import mm
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer

    title = f"Profit and loss, {format_month(statement.period)}"
    document = SimpleDocTemplate(
        file,
        pagesize=letter,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=16 * mm,
        bottomMargin=14 * mm,
        title=_encodable(f"{statement.shop_name}: {title}"),
        author="Shopfleet",
        invariant=1,
        pageCompression=0,
    )
    story: list[Any] = []
    for currency, lines in groupby(statement.lines, key=lambda line: line.currency):
        about = (
            f"{format_month(statement.period)} in {statement.zone}. All sums in {currency}. "
            "Prepared by Shopfleet."
        )
        story += [
            *([PageBreak()] if story else []),
            Paragraph(_markup(statement.shop_name), _style(10, _GREEN, bold=True)),
            Paragraph(_markup(title), _style(18, _INK, bold=True)),
            Paragraph(_markup(about), _style(8.5, _PALE)),
            Spacer(1, 9),
            _table(statement, list(lines)),
            Spacer(1, 10),
            *(Paragraph(_markup(note), _style(7.5, _PALE)) for note in statement.notes),
        ]
    document.build(story)


def _table(statement: ProfitStatement, lines: list[StatementLine]) -> Any:
    from reportlab.platypus import Paragraph, Table, TableStyle

    rows: list[list[Any]] = [["", format_month(statement.period), format_month(statement.before)]]
    marks: list[tuple[Any, ...]] = [
        ("FONT", (0, 0), (-1, -1), "Helvetica", 9),
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 9),
        ("TEXTCOLOR", (0, 0), (-1, -1), _INK),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 2.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.8),
        ("LINEBELOW", (0, 0), (-1, 0), 1, _INK),
    ]

    def mark(*styles: tuple[Any, ...]) -> None:
        row = len(rows)
        marks.extend((name, (0, row), (-1, row), *values) for name, *values in styles)

    for section, group in groupby(lines, key=lambda line: line.section):
        mark(("FONT", "Helvetica-Bold", 9), ("TEXTCOLOR", _GREEN), ("TOPPADDING", 7))
        rows.append([section, "", ""])
        for line in group:
            if line.is_sum:
                mark(("FONT", "Helvetica-Bold", 9), ("LINEABOVE", 0.6, _RULE), ("BACKGROUND", _SHADE))
            before = "" if line.before is None else _format_amount(line.before, line.currency)
            label = line.label if line.is_sum else Paragraph(_markup(line.label), _style(9, _INK))
            now = line.amount if line.is_unknown else _format_amount(line.cents, line.currency)
            rows.append([label, now, before])
    table = Table(rows, colWidths=["50%", "25%", "25%"], repeatRows=1)
    table.setStyle(TableStyle(marks))
    return table


def _style(size: float, color: str, *, bold: bool = False) -> Any:
    from reportlab.lib.styles import ParagraphStyle

    font = "Helvetica-Bold" if bold else "Helvetica"
    return ParagraphStyle(
        "p", fontName=font, fontSize=size, leading=size * 1.32, textColor=color, spaceAfter=1.5
    )


def _format_amount(minor: int, currency: str) -> str:
    """Return an amount with thousands separators, a negative one in brackets."""
    whole, point, cents = amount(abs(minor), currency).partition(".")
    shown = f"{int(whole):,}{point}{cents}"
    return f"({shown})" if minor < 0 else shown


def _markup(text: str) -> str:
    return escape(_encodable(text))


def _encodable(text: str) -> str:
    """Return ``text`` in the letters of the built-in Helvetica (Western European); others are ``?``."""
    return " ".join(text.split()).encode("cp1252", "replace").decode("cp1252")
