"""PDF pages; equal content has equal bytes.

With ``invariant`` reportlab writes no date and no random id; without compression the bytes do not depend on
zlib. reportlab needs 20 MB: only a process that writes a PDF loads it.
"""

from collections.abc import Sequence
from typing import Any, BinaryIO
from xml.sax.saxutils import escape

INK, PALE, GREEN, RULE, SHADE = "#1b2420", "#46524d", "#12694a", "#c9d3ce", "#f1f5f3"


def write_pages(file: BinaryIO, title: str, story: Sequence[Any], *, is_landscape: bool = False) -> None:
    """Write reportlab's flowables ``story`` as pages, US letter."""
    from reportlab.lib.pagesizes import landscape, letter
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    SimpleDocTemplate(
        file,
        pagesize=landscape(letter) if is_landscape else letter,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        topMargin=16 * mm,
        bottomMargin=14 * mm,
        title=encodable(title),
        author="Shopfleet",
        invariant=1,
        pageCompression=0,
    ).build(list(story))


def paragraph(text: str, size: float, color: str = INK, *, bold: bool = False) -> Any:
    """Return plain ``text`` as a paragraph of ``size`` points."""
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    font = "Helvetica-Bold" if bold else "Helvetica"
    style = ParagraphStyle(
        "p", fontName=font, fontSize=size, leading=size * 1.32, textColor=color, spaceAfter=1.5
    )
    return Paragraph(escape(encodable(text)), style)


def encodable(text: str) -> str:
    """Return ``text`` in the letters of the built-in Helvetica (Western European); others are ``?``."""
    return " ".join(text.split()).encode("cp1252", "replace").decode("cp1252")
