"""Accessibility rules of axe-core, run in an open page."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_SOURCE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
_RUN = """
async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
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


def find_faults(page: Page) -> list[str]:
    """Return the rules that the page breaks, and what is wider than the window."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_SOURCE)
    faults: list[Any] = [*page.evaluate(_RUN), *page.evaluate(_WIDER)]
    return [str(fault) for fault in faults]
