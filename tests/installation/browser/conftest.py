"""The console on loopback, and a real Chromium that opens it."""

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.console.people import make_console
from tests.mail.browser import find_browser

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name of werkzeug
        """Write nothing."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium, for the tests of one module: its event loop must end before other modules."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on the path: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def app(engine: Engine) -> Flask:
    return make_console(engine).application


@pytest.fixture
def console(app: Flask) -> Iterator[str]:
    """Serve the console; return its address. Passkeys work on ``localhost``, not on ``127.0.0.1``."""
    server = make_server("localhost", 0, app, threaded=True, request_handler=QuietHandler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(chromium: Browser, console: str) -> Iterator[Page]:
    """An empty page of a new profile. A fault of the browser's console fails the test."""
    context = chromium.new_context(base_url=console, viewport={"width": 1200, "height": 800})
    context.set_default_timeout(10_000)
    faults: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda fault: faults.append(str(fault)))
    opened.on(
        "console",
        lambda line: (
            faults.append(f"{line.text} {line.location.get('url')}")
            if line.type in ("error", "warning")
            else None
        ),
    )
    yield opened
    context.close()
    assert faults == []
