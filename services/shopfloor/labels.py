"""Draws labels of orders as PDF and PNG: Code 128 and QR, both with the number of the order at Shopify.

A label is 62 x 38 mm, for a roll of 62 mm or a sheet of 21 (A4, 3 x 7, such as Avery L7160). Coordinates are
dots of a printer with 300 dots an inch, from the top left corner, so that each bar has whole dots.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from services.core.counts import format_count
from services.core.pdf import encodable
from services.core.times import format_time

LAYOUTS = ("roll", "a4")
FORMATS = ("pdf", "png")
_DPI, _WIDTH, _HEIGHT = 300, 732, 449
_POINTS = 72 / _DPI
_QUIET, _BAR_TOP, _BAR_HEIGHT, _CODE_SIZE = 10, 280, 110, 28
_QR_DOTS, _QR_LEFT, _QR_TOP = 9, 36, 36
_TEXT_LEFT, _TEXT_TOP = 262, 22
_NAME_SIZE, _LINE_SIZE = 64, 34
_SHEET = {"columns": 3, "rows": 7, "left": 85, "top": 179, "across": 780, "down": 450}
"""Positions on A4, in dots: margins and the distance from label to label."""
_FONT, _BOLD = "Vera.ttf", "VeraBd.ttf"


class Label(NamedTuple):
    """What a label shows. ``code`` is read by scanners; ``lines`` are for people."""

    code: str
    name: str
    lines: Sequence[str] = ()


class _Rectangle(NamedTuple):
    left: int
    top: int
    width: int
    height: int


class _Text(NamedTuple):
    left: int
    top: int
    size: int
    text: str
    font: str


def make_label(order: Any, zone: ZoneInfo) -> Label:
    """Return the label of an order of the board: name, due date, storage location and number of items."""
    pieces = sum(line["quantity"] for line in order.lines)
    lines = [
        f"due {format_time(order.due_at, zone).rpartition(' ')[0]}" if order.due_at else "",
        order.storage,
        format_count(pieces, "piece") if pieces > 1 else "",
    ]
    return Label(order.order_gid.rpartition("/")[2], order.name, [line for line in lines if line])


def render_pdf(labels: Sequence[Label], layout: str) -> bytes:
    """Return a PDF: a page for each label (``roll``), or sheets of 21 (``a4``)."""
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    for font in (_FONT, _BOLD):
        registerFont(TTFont(font, str(_find_font(font))))
    size = A4 if layout == "a4" else (_WIDTH * _POINTS, _HEIGHT * _POINTS)
    file = BytesIO()
    canvas = Canvas(file, pagesize=size, invariant=1, pageCompression=0)
    canvas.setTitle("Labels")
    each_page = _SHEET["columns"] * _SHEET["rows"] if layout == "a4" else 1
    for number, label in enumerate(labels):
        if number and number % each_page == 0:
            canvas.showPage()
        row, column = divmod(number % each_page, _SHEET["columns"])
        left = _SHEET["left"] + column * _SHEET["across"] if layout == "a4" else 0
        top = _SHEET["top"] + row * _SHEET["down"] if layout == "a4" else 0
        for part in _plan_parts(label):
            x, y = (left + part.left) * _POINTS, size[1] - (top + part.top) * _POINTS
            if isinstance(part, _Rectangle):
                height = part.height * _POINTS
                canvas.rect(x, y - height, part.width * _POINTS, height, stroke=0, fill=1)
            else:
                canvas.setFont(part.font, part.size * _POINTS)
                canvas.drawString(x, y - part.size * _POINTS, part.text)
    canvas.save()
    return file.getvalue()


def render_png(label: Label) -> bytes:
    """Return one label as a black and white PNG with 300 dots an inch."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (_WIDTH, _HEIGHT), 255)
    draw = ImageDraw.Draw(image)
    for part in _plan_parts(label):
        if isinstance(part, _Rectangle):
            right, bottom = part.left + part.width - 1, part.top + part.height - 1
            draw.rectangle((part.left, part.top, right, bottom), fill=0)
        else:
            font = ImageFont.truetype(str(_find_font(part.font)), part.size)
            draw.text((part.left, part.top), part.text, fill=0, font=font)
    file = BytesIO()
    image.save(file, "PNG", dpi=(_DPI, _DPI))
    return file.getvalue()


def _plan_parts(label: Label) -> Iterator[_Rectangle | _Text]:
    yield from _plan_bars(label.code)
    yield from _plan_squares(label.code)
    yield _Text(_TEXT_LEFT, _BAR_TOP + _BAR_HEIGHT + 8, _CODE_SIZE, label.code, _FONT)
    yield _fit(_TEXT_TOP, _NAME_SIZE, label.name, _BOLD)
    for place, line in enumerate(label.lines[:3]):
        yield _fit(_TEXT_TOP + _NAME_SIZE + 24 + place * (_LINE_SIZE + 12), _LINE_SIZE, line, _FONT)


def _fit(top: int, size: int, text: str, font: str) -> _Text:
    """Return ``text``, cut so that it ends inside the label."""
    from PIL import ImageFont

    measure, text = ImageFont.truetype(str(_find_font(font)), size), encodable(text)
    while text and measure.getlength(text) > _WIDTH - _TEXT_LEFT - 12:
        text = text[:-1]
    return _Text(_TEXT_LEFT, top, size, text, font)


def _plan_bars(code: str) -> Iterator[_Rectangle]:
    """Yield the bars of ``code`` in Code 128, as wide as the label allows with the quiet zones."""
    from reportlab.graphics.barcode.code128 import Code128

    encoder = Code128(code)
    encoder.validate()
    encoder.encode()
    encoder.decompose()
    # A letter for each bar (capital) and space: A is one module wide, B two.
    widths = [(letter.isupper(), ord(letter.lower()) - ord("a") + 1) for letter in encoder.decomposed]
    modules = sum(width for _, width in widths)
    dots = _WIDTH // (modules + 2 * _QUIET)
    left = (_WIDTH - modules * dots) // 2
    for is_bar, width in widths:
        if is_bar:
            yield _Rectangle(left, _BAR_TOP, width * dots, _BAR_HEIGHT)
        left += width * dots


def _plan_squares(code: str) -> Iterator[_Rectangle]:
    from reportlab.graphics.barcode.qrencoder import QRCode, QRErrorCorrectLevel

    encoder = QRCode(None, QRErrorCorrectLevel.M)
    encoder.addData(code)
    encoder.make()
    count = encoder.getModuleCount()
    for row in range(count):
        for column in range(count):
            if encoder.isDark(row, column):
                left, top = _QR_LEFT + column * _QR_DOTS, _QR_TOP + row * _QR_DOTS
                yield _Rectangle(left, top, _QR_DOTS, _QR_DOTS)


def _find_font(name: str) -> Path:
    import reportlab

    return Path(reportlab.__file__).parent / "fonts" / name
