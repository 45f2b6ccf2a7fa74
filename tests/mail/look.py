"""Compares a picture of a mail with its reference, independent of the machine's fonts.

Pictures are taken in one font that travels with Pillow, so that they can be compared closely anywhere; the
rules below are checked in the page with the machine's own fonts.
"""

from base64 import b64encode
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFont

COLUMNS, ROWS = 12, 24
"""A picture's grid. Coarse on purpose: a cell covers a block of text, not single letters."""

MEAN_AT_MOST = 1.0
HEIGHT_AT_MOST = 0.02
"""Chromium's versions place text a pixel apart; a missing badge gives a mean of 2.5."""

FAULTS = """(() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth, room = window.innerWidth;
  if (wide > room) faults.push(`the page is ${wide} px wide and has ${room}`);
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const read = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const ground = node => {
    for (; node && node.nodeType === 1; node = node.parentElement) {
      const found = read(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; text = walker.nextNode();) {
    const words = text.textContent.trim(), holder = text.parentElement, style = getComputedStyle(holder);
    if (!words || !holder.offsetParent && style.position !== 'fixed') continue;
    const ink = light(read(style.color)), paper = light(ground(holder));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) faults.push(`"${words}" has a contrast of ${contrast.toFixed(2)}`);
    if (parseFloat(style.fontSize) < 12) faults.push(`"${words}" is set in ${style.fontSize}`);
    const range = document.createRange(); range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    if (box.right > room || box.left < 0) faults.push(`"${words}" sticks out of the page`);
  }
  return faults;
})()"""
"""Rules that need no reference: nothing wider than the page, contrast of at least 4.5 (WCAG 2.2, 1.4.3)."""

GROUNDS = """['.page', '.card'].map(name => getComputedStyle(document.querySelector(name)).backgroundColor)
  .map(color => color.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"""
"""How light the page and the card are, 0 to 255."""


class Difference(NamedTuple):
    """How far a picture is from its reference: mean of the cells (0 to 255), share of the height."""

    mean: float
    height: float

    @property
    def is_other(self) -> bool:
        """Whether the pictures differ."""
        return self.mean > MEAN_AT_MOST or self.height > HEIGHT_AT_MOST


@cache
def one_font() -> str:
    """Return the style that sets all text in the font of Pillow, Aileron (CC0)."""
    font = b64encode(ImageFont.load_default(12).font_bytes).decode()  # type: ignore[union-attr]
    face = f"@font-face {{ font-family: Look; src: url(data:font/ttf;base64,{font}); }}"
    return f"<style>{face} * {{ font-family: Look !important; }}</style>"


def compare(picture: bytes, reference: Path) -> Difference:
    """Return how far ``picture`` is from the one in ``reference``."""
    seen, kept = Image.open(BytesIO(picture)).convert("RGB"), Image.open(reference).convert("RGB")
    cells, reference_cells = _grid(seen), _grid(kept)
    mean = sum(abs(a - b) for a, b in zip(cells, reference_cells, strict=True)) / len(cells)
    return Difference(mean, abs(seen.height - kept.height) / kept.height)


def keep(picture: bytes, reference: Path) -> None:
    """Write this picture to ``reference``, in 128 colours to keep the repository small."""
    Image.open(BytesIO(picture)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        reference, optimize=True
    )


def _grid(picture: Image.Image) -> bytes:
    return picture.resize((COLUMNS, ROWS), Image.Resampling.BOX).tobytes()
