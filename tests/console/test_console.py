"""The page of queues."""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from services.accounts.roles import Role
from services.console.formatting import describe_age
from services.console.queue_pages import make_flower_url
from services.core.clock import utc_now
from services.fleet.ports import find_free_port
from services.ledger.topics import QUEUES
from tests.console.people import make_console, sign_in_as
from tests.health.fleet_rows import add_heartbeats, add_work

TEMPLATES = Path(str(files("services.console") / "templates"))


def open_client(engine: Engine) -> FlaskClient:
    return sign_in_as(make_console(engine), Role.VIEWER)


def test_the_page_shows_a_healthy_fleet(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
        add_work(tx, "order_ingest", count=1234)

    page = open_client(engine).get("/queues")

    assert page.status_code == 200
    assert "Everything works." in page.text
    assert "1,234" in page.text
    assert all(queue in page.text for queue in QUEUES)
    assert "http://localhost:5555/" in page.text


def test_the_page_of_queues_names_what_is_missing(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now() - timedelta(hours=1), but="sweep")

    page = open_client(engine).get("/queues").text

    assert "some work has stopped" in page
    assert "Everything works." not in page
    assert "<code>beat</code>" in page
    assert "<code>sweep</code>" in page
    assert "<code>worker:email</code>" not in page


def test_the_page_of_queues_holds_no_shops_data(engine: Engine) -> None:
    with engine.begin() as tx:
        add_work(tx, "order_ingest", key="ada@example.com", payload={"name": "Ada"}, last_error="Ada")

    page = open_client(engine).get("/queues").text

    assert "ada" not in page.lower()


def test_flower_is_linked_where_the_console_was_reached(engine: Engine) -> None:
    app = make_console(engine).application
    with app.test_request_context("/queues", headers={"Host": "[::1]:8001"}):
        assert make_flower_url(5999) == "http://[::1]:5999/"


def test_the_console_answers_health_as_ingress_does(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    client = open_client(engine)

    statuses = [client.get(path).status_code for path in ("/health", "/api/v1/health", "/livez", "/readyz")]

    assert statuses == [200] * 4


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "–"), (0.2, "now"), (1, "1 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_age_is_readable(seconds: float | None, expected: str) -> None:
    assert describe_age(seconds) == expected


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda one: one.name)
def test_every_part_that_scrolls_is_reached_by_keys_and_has_a_name(template: Path) -> None:
    parts = re.findall(r'<pre\b[^>]*>|<[a-z]+ class="(?:[^"]* )?wide[ "][^>]*>', template.read_text())

    for part in parts:
        assert 'tabindex="0"' in part
        assert part.startswith("<pre") or re.search(r'role="region" aria-label="[^"]+"', part), part


def test_weak_secret_is_a_warning_at_start_and_not_shown(
    environment: dict[str, str],
) -> None:
    started = {
        "CRON_SECRET": "s3cret-of-17-char",
        "CONSOLE_PORT": str(find_free_port()),
        "LOG_FORMAT": "json",
    }
    console = subprocess.Popen(
        [sys.executable, "-m", "services.console.serve"],
        env=os.environ | started,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert console.stdout is not None
        line = next(line for line in console.stdout if "secret_too_short" in line)
    finally:
        console.terminate()
        console.wait(90)

    shown = json.loads(line)
    assert (shown["level"], shown["setting"], shown["characters"]) == ("warning", "CRON_SECRET", 17)
    assert "s3cret" not in line
