"""Accessibility rules of axe-core, run in an open page: wide, in dark colours, and on a phone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from playwright.sync_api import Page, ViewportSize


class View(NamedTuple):
    """Width and colours of a window. ``rules``: those of axe-core that can differ from the views before."""

    size: ViewportSize
    colours: Literal["light", "dark"]
    rules: tuple[str, ...] = ()


WIDE, PHONE = ViewportSize(width=1200, height=800), ViewportSize(width=360, height=740)
VIEWS = {
    "light": View(WIDE, "light"),
    "dark": View(WIDE, "dark", ("color-contrast", "link-in-text-block")),
    "phone": View(PHONE, "light"),
}
"""The media queries of the pages ask for colours and width. The last view stays."""

_SOURCE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_RUN = """
async (rules) => {
  const found = await axe.run(document, {resultTypes: ["violations"], ...(rules.length && {runOnly: rules})});
  const describe = (rule) => rule.nodes.map((node) => `${rule.id}: ${node.html} ${node.failureSummary}`);
  return found.violations.flatMap(describe);
}
"""
_WIDER = """
() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const isWide = (one) => one.getBoundingClientRect().right > width;
  const wide = [...document.querySelectorAll("main *")].filter(isWide);
  return [`wider than ${width} px: ${wide.slice(0, 3).map((one) => one.outerHTML.slice(0, 120)).join(" ")}`];
}
"""


def find_faults(page: Page, shown: Callable[[str], object] = lambda view: None) -> list[str]:
    """Return the rules that the page breaks in each of ``VIEWS``, and what is wider than the window.

    Calls ``shown`` with the name of each view while it is shown.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_SOURCE)
    found: list[str] = []
    for name, view in VIEWS.items():
        page.set_viewport_size(view.size)
        page.emulate_media(color_scheme=view.colours)
        shown(name)
        faults: list[Any] = [*page.evaluate(_RUN, list(view.rules)), *page.evaluate(_WIDER)]
        found += [f"{name}: {fault}" for fault in faults]
    return found
