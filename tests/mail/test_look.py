"""Pictures of each mail by Chromium, light and dark, wide and narrow, compared with stored pictures.

After an intended change store new pictures, and look at each of them before you commit it:

    KEEP_LOOK=1 python -m pytest -n 0 tests/mail/test_look.py
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mail.browser import Browser, find_browser, open_browser
from tests.mail.look import FAULTS, GROUNDS, compare, keep, one_font
from tests.mail.sample_mail_types import KINDS, sample_mail

KEPT = Path(__file__).with_name("look")
VIEWS = [(600, False), (600, True), (360, False), (360, True)]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A page of Chromium, for all tests of this process."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on the path: apt-get install chromium")
    with open_browser(path, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def draw(browser: Browser, html: str, width: int, dark: bool) -> bytes:
    browser.show(html.replace("</head>", one_font() + "</head>"), width=width, dark=dark)
    return browser.picture()


def reference(kind: str, width: int, dark: bool) -> Path:
    return KEPT / f"{kind}-{width}-{'dark' if dark else 'light'}.png"


@pytest.mark.parametrize("kind", KINDS)
def test_mail_looks_like_the_stored_pictures(browser: Browser, kind: str, tmp_path: Path) -> None:
    html = sample_mail(kind).html
    for width, dark in VIEWS:
        picture, kept = draw(browser, html, width, dark), reference(kind, width, dark)
        if os.environ.get("KEEP_LOOK"):
            keep(picture, kept)
        seen = tmp_path / kept.name
        seen.write_bytes(picture)
        difference = compare(picture, kept)
        assert not difference.is_other, f"{kept.name} is now like {seen}: {difference}"


@pytest.mark.parametrize("kind", KINDS)
def test_mail_is_readable_and_fits_with_the_fonts_of_this_machine(browser: Browser, kind: str) -> None:
    html = sample_mail(kind).html
    for width, dark in [*VIEWS, (320, False), (1200, True)]:
        browser.show(html, width=width, dark=dark)

        assert browser.evaluate(FAULTS) == [], f"{width} px, {'dark' if dark else 'light'}"
        page, card = browser.evaluate(GROUNDS)
        assert max(page, card) < 50 if dark else min(page, card) > 230


@pytest.mark.parametrize("kind", KINDS)
def test_mail_is_readable_without_its_head(browser: Browser, kind: str) -> None:
    bare = re.sub(r"<style>.*?</style>", "", sample_mail(kind).html, flags=re.DOTALL)
    browser.show(bare, width=360, dark=False)

    assert browser.evaluate(FAULTS) == []


BROKEN = {
    "no padding of the card": ("padding: 36px 40px 32px;", ""),
    "no ground of the card": ("background-color: #ffffff;", ""),
    "a huge title": ("font-size: 26px", "font-size: 48px"),
    "no dark colours": ("prefers-color-scheme: dark", "prefers-color-scheme: none"),
    "no rules for phones": ("max-width: 480px", "max-width: 48px"),
    "no badge": ('<span class="badge', '<span style="display: none" class="badge'),
    "no ground of the facts": ("background-color: #f6f8f7;", ""),
    "a grid of one column": ("<td", "<div"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_comparison_finds_a_broken_style(browser: Browser, fault: str) -> None:
    html = sample_mail("job_late").html
    assert BROKEN[fault][0] in html
    broken = html.replace(*BROKEN[fault])

    differences = [
        compare(draw(browser, broken, width, dark), reference("job_late", width, dark))
        for width, dark in VIEWS
    ]

    assert any(difference.is_other for difference in differences), differences


def test_low_contrast_and_a_wide_box_are_found(browser: Browser) -> None:
    html = sample_mail("job_late").html
    pale = html.replace("color: #46524d;", "color: #9aa5a0;")
    wide = html.replace(
        '<table class="facts"', '<table width="700" style="min-width:700px" class="facts-wide"'
    )

    browser.show(pale, width=600, dark=False)
    assert any("has a contrast of 2." in fault for fault in browser.evaluate(FAULTS))
    browser.show(wide, width=360, dark=False)
    assert any("px wide and has 360" in fault for fault in browser.evaluate(FAULTS))


def test_there_are_stored_pictures_of_every_kind_and_no_others() -> None:
    wanted = {reference(kind, width, dark).name for kind in KINDS for width, dark in VIEWS}
    assert {path.name for path in KEPT.iterdir()} == wanted
