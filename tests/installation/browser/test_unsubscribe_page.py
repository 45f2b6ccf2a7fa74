"""The ingress's page to unsubscribe in a real Chromium: accessible, by keys, and without JavaScript."""

from collections.abc import Iterator
from threading import Thread

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import text
from werkzeug.serving import make_server

from tests.installation.browser.axe import PHONE, find_faults
from tests.installation.browser.conftest import QuietHandler
from tests.outreach.audience import Audience
from tests.outreach.conftest import audience
from tests.outreach.test_unsubscribe import client, read_path

__all__ = ["audience", "client"]

WITHDRAWN = "select count(*)::int from outreach_consents where withdrawn_at is not null"


@pytest.fixture
def ingress(client: FlaskClient) -> Iterator[str]:
    """Serve the ingress; return its address."""
    server = make_server("localhost", 0, client.application, threaded=True, request_handler=QuietHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def open_context(chromium: Browser, ingress: str, *, has_script: bool = True) -> BrowserContext:
    """Open a profile of a phone."""
    context = chromium.new_context(base_url=ingress, viewport=PHONE, java_script_enabled=has_script)
    context.set_default_timeout(10_000)
    return context


def check(page: Page) -> None:
    assert find_faults(page) == []


def test_the_page_has_no_fault_and_one_key_unsubscribes(
    chromium: Browser, ingress: str, audience: Audience
) -> None:
    path = read_path(audience)
    with open_context(chromium, ingress) as context:
        page = context.new_page()
        page.goto(path)
        check(page)
        assert audience.rows(WITHDRAWN) == [(0,)]

        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Unsubscribe")).to_be_focused()
        box = page.get_by_role("button").bounding_box()
        assert box is not None
        assert box["height"] >= 44, "large enough for a thumb"
        page.keyboard.press("Enter")

        expect(page.get_by_role("heading", level=1)).to_have_text("You are unsubscribed")
        check(page)
        assert audience.rows(WITHDRAWN) == [(1,)]
        page.goto(path[:-3])
        expect(page.get_by_role("heading", level=1)).to_have_text("This link is not complete")
        check(page)
        assert context.cookies() == []


def test_it_works_without_javascript_and_a_second_click_changes_nothing(
    chromium: Browser, ingress: str, audience: Audience
) -> None:
    with open_context(chromium, ingress, has_script=False) as context:
        page = context.new_page()
        for _ in range(2):
            page.goto(read_path(audience))
            page.get_by_role("button", name="Unsubscribe").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("You are unsubscribed")
    assert audience.rows(WITHDRAWN) == [(1,)]


def test_the_name_of_a_shop_is_text(chromium: Browser, ingress: str, audience: Audience) -> None:
    with audience.engine.begin() as tx:
        name = f"<img src=x onerror=document.title=1>{'x' * 200}"
        tx.execute(text("update shops set name = :name"), {"name": name})
    with open_context(chromium, ingress) as context:
        page = context.new_page()
        page.goto(read_path(audience))
        expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
        check(page)
