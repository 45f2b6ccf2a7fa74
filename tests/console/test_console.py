"""The front page and the access rules of the console."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from services.console.app import describe_age, make_app
from services.console.auth import PUBLIC_ROUTES, SECRET_ROUTES
from services.core.clock import utc_now
from services.core.settings import Settings
from services.fleet.ports import find_free_port
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck
from services.ledger.topics import QUEUES
from tests.health.fleet_rows import add_heartbeats, add_work

SETTINGS = Settings(database_url="", migrate_database_url="", broker_url="", secret_key="", flower_port=5999)


def open_client(engine: Engine) -> FlaskClient:
    probe = HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: 0.2, keep_seconds=0.0)
    return make_app(SETTINGS, probe).test_client()


def test_front_page_shows_a_healthy_fleet(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
        add_work(tx, "order_ingest", count=1234)

    page = open_client(engine).get("/")

    assert page.status_code == 200
    assert "Everything works." in page.text
    assert "1,234" in page.text
    assert all(queue in page.text for queue in QUEUES)
    assert "http://localhost:5999/" in page.text


def test_the_front_page_names_what_is_missing(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now() - timedelta(hours=1), but="sweep")

    page = open_client(engine).get("/").text

    assert "some work has stopped" in page
    assert "Everything works." not in page
    assert "<code>beat</code>" in page
    assert "<code>sweep</code>" in page
    assert "<code>worker:email</code>" not in page


def test_the_front_page_holds_no_shops_data(engine: Engine) -> None:
    with engine.begin() as tx:
        add_work(tx, "order_ingest", key="ada@example.com", payload={"name": "Ada"}, last_error="Ada")

    page = open_client(engine).get("/").text

    assert "ada" not in page.lower()


def test_flower_is_linked_where_the_console_was_reached(engine: Engine) -> None:
    page = open_client(engine).get("/", headers={"Host": "[::1]:8001"}).text

    assert 'href="http://[::1]:5999/"' in page


def test_every_route_is_public_by_decision_or_closed(engine: Engine) -> None:
    client = open_client(engine)

    routes = list(client.application.url_map.iter_rules())

    assert {rule.endpoint for rule in routes} == PUBLIC_ROUTES | SECRET_ROUTES


def test_undecided_route_is_closed(engine: Engine) -> None:
    client = open_client(engine)
    client.application.add_url_rule("/shops", "shops", lambda: "Ada's shop")

    answer = client.get("/shops")

    assert answer.status_code == 403
    assert "Ada" not in answer.text


@pytest.mark.parametrize("path", ["/", "/health", "/static/console.css", "/nowhere"])
def test_every_answer_forbids_foreign_scripts_and_frames(engine: Engine, path: str) -> None:
    policy = open_client(engine).get(path).headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


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
