"""Labels are read back by a reader that is not ours, from the PNG and from the PDF."""

import io
import re
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image, ImageDraw
from sqlalchemy import Engine

from services.shopfloor.labels import Label, render_pdf, render_png
from tests.cli.commands import run
from tests.fakes.settings import settings_of
from tests.shopfloor.floor import place_order
from tests.shopify.sample_payloads import ORDER, rows

CODES = ["1", "1001", "5678901234567", str(2**63 - 1)]
LINES = ["due 2026-12-01 17:00", "Fridge 2 on the shelf at the back of the shop", "3 pieces"]


def read(image: Image.Image) -> list[tuple[str, str]]:
    return sorted((str(one.format), one.text) for one in zxingcpp.read_barcodes(image))


def draw(page: bytes, size: tuple[int, int]) -> Image.Image:
    """Draw the rectangles of a page without compression, at 300 dots an inch."""
    image = Image.new("L", size, 255)
    for found in re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) re f\*?", page):
        left, bottom, width, height = (round(float(one) * 300 / 72) for one in found)
        box = (left, size[1] - bottom - height, left + width - 1, size[1] - bottom - 1)
        ImageDraw.Draw(image).rectangle(box, fill=0)
    return image


@pytest.mark.parametrize("code", CODES)
def test_code_128_and_qr_of_a_label_are_read_back(code: str) -> None:
    label = Label(code, "#1001 with a very long name", LINES)

    image = Image.open(io.BytesIO(render_png(label)))

    assert image.size == (732, 449)
    assert read(image) == [("Code 128", code), ("QR Code", code)]
    assert read(draw(render_pdf([label], "roll"), (732, 449))) == [("Code 128", code), ("QR Code", code)]


def test_a_sheet_has_21_labels_that_are_read_back_and_the_next_page_the_rest() -> None:
    labels = [Label(str(10**12 + number), f"#{number}") for number in range(23)]

    streams = render_pdf(labels, "a4").split(b"endstream")

    pages = [stream for stream in streams if b" re f" in stream]
    found = [{text for _, text in read(draw(page, (2480, 3508)))} for page in pages]
    assert found == [{one.code for one in labels[:21]}, {one.code for one in labels[21:]}]


def test_equal_labels_have_equal_bytes_and_letters_of_any_script_are_drawn() -> None:
    label = Label("1", "注文 #1", ["für Zoë"])

    assert render_pdf([label], "roll") == render_pdf([label], "roll")
    assert render_png(label) == render_png(label)


def test_labels_are_printed_by_the_command_and_counted(floor: Engine, tmp_path: Path) -> None:
    with settings_of(POSTHOG_KEY="phc_" + "k" * 40):
        place_order(floor, note_attributes=[{"name": "due", "value": "2026-12-01"}])
        pdf = run("labels", "print", str(ORDER), "--shop", "harbour", "--out", str(tmp_path / "a.pdf"))
        png = run("labels", "print", f"#{ORDER % 1000}", "--shop", "harbour", "--format", "png", "--json",
                  "--out", str(tmp_path / "a.png"))  # fmt: skip
        dry = run(
            "labels", "print", str(ORDER), "--shop", "harbour", "--dry-run", "--out", str(tmp_path / "b")
        )
        two = run(
            "labels", "print", "1", "2", "--shop", "harbour", "--format", "png", "--out", str(tmp_path / "b")
        )

    assert (pdf.exit_code, png.exit_code, dry.exit_code, two.exit_code) == (0, 0, 0, 2), png.output
    assert read(Image.open(tmp_path / "a.png"))[0] == ("Code 128", str(ORDER))
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "b").exists()
    events = "select payload ->> 'event', count(*) from work_queue where topic = 'posthog_capture' group by 1"
    assert rows(floor, events) == [("print", 2)]
