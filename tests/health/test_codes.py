"""Health state -> status code, for the three routes of the ingress and of the console."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, create_engine

from services.console.app import make_app
from services.console.queue_pages import CONDITION_LABELS
from services.core.clock import utc_now
from services.core.db import driver_url
from services.core.settings import Settings
from services.ingress.health import health_blueprint
from services.ingress.metrics import _CONDITIONS
from services.jobs.conditions import count_conditions
from services.ledger.health import DEGRADING
from services.ledger.health_check import HealthCheck
from services.ledger.pause import PauseScope, clear_pauses, record_pause
from services.ledger.topics import QUEUES
from tests.fleet.waiting import wait_for
from tests.health.fleet_rows import add_broken_connection, add_heartbeats, add_incident, add_job, add_run

SETTINGS = Settings(database_url="", migrate_database_url="", broker_url="", secret_key="k" * 32)
EVERYTHING = PauseScope()


def open_ingress(probe: HealthCheck) -> FlaskClient:
    app = Flask(__name__)
    app.register_blueprint(health_blueprint(probe))
    return app.test_client()


def open_console(probe: HealthCheck) -> FlaskClient:
    return make_app(SETTINGS, probe).test_client()


def pause(tx: Connection, mode: str = "hold") -> None:
    record_pause(tx, EVERYTHING, mode, now=utc_now(), by="ada", reason="counting")


def drain(tx: Connection) -> None:
    pause(tx)
    clear_pauses(tx, [EVERYTHING], 1.0, now=utc_now(), by="ada")


def refuse_a_credential(tx: Connection) -> None:
    add_broken_connection(tx, "harbour")


def fail_a_run(tx: Connection) -> None:
    add_job(tx, "monthly-close")
    add_run(tx, "monthly-close", "2026-10", "failed")


def let_a_run_be_overdue(tx: Connection) -> None:
    add_job(tx, "monthly-close")
    add_run(tx, "monthly-close", "2026-10", "running")


State = tuple[Callable[[Connection], Any] | None, str, Mapping[str, int], int]
"""Case, component without heartbeat, counts above zero, and the code of ``/health``."""

STATES: dict[str, State] = {
    "peace": (None, "", {}, 200),
    "beat is dead": (None, "beat", {}, 503),
    "the sweep stands still": (None, "sweep", {}, 503),
    **{f"no worker takes {queue}": (None, f"queue:{queue}", {}, 503) for queue in QUEUES},
    "everything is held": (pause, "", {"pauses": 1}, 200),
    "everything is refused": (lambda tx: pause(tx, "refuse"), "", {"pauses": 1}, 200),
    "a backlog drains": (drain, "", {"draining": 1}, 200),
    "a credential is refused": (
        lambda tx: add_broken_connection(tx, "a"),
        "",
        {"connections_broken": 1},
        200,
    ),
    "a P1 is open": (lambda tx: add_incident(tx, "P1"), "", {"p1_open": 1}, 200),
    "Slack gets no alerts": (
        lambda tx: add_incident(tx, "P2", rule="alert_channel_failed:slack"),
        "",
        {"alert_channels_failed": 1},
        200,
    ),
    "a run failed": (fail_a_run, "", {"runs_failed": 1}, 200),
    "a run is overdue": (let_a_run_be_overdue, "", {"jobs_overdue": 1}, 200),
    "a P2 is open": (lambda tx: add_incident(tx, "P2"), "", {}, 200),
    "a pause while the sweep stands still": (pause, "sweep", {"pauses": 1}, 503),
}


@pytest.mark.parametrize("open_client", [open_ingress, open_console])
@pytest.mark.parametrize("state", STATES)
def test_a_state_has_its_code_on_every_route(
    engine: Engine, open_client: Callable[[HealthCheck], FlaskClient], state: str
) -> None:
    happens, silent, counts, code = STATES[state]
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now(), but=silent)
        if happens is not None:
            happens(tx)
    client = open_client(HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: 0.2))

    health = client.get("/health")
    answer = health.get_json()

    assert health.status_code == code, health.text
    assert {kind: answer[kind] for kind in DEGRADING if answer[kind]} == counts
    assert answer["status"] == ("down" if code == 503 else "degraded" if counts else "ok")
    assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 200)


def test_every_kind_of_condition_has_a_state_a_metric_a_label_and_a_line_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()

    assert {kind for _, _, counts, _ in STATES.values() for kind in counts} == set(DEGRADING)
    assert {kind for _, _, _, kinds, _ in _CONDITIONS for kind in kinds} >= set(DEGRADING)
    assert set(CONDITION_LABELS) == set(DEGRADING)
    assert [kind for kind in DEGRADING if f"| `{kind}` |" not in docs] == []


@pytest.mark.parametrize("open_client", [open_ingress, open_console])
def test_without_the_broker_queues_stop_and_webhooks_are_accepted(
    engine: Engine, open_client: Callable[[HealthCheck], FlaskClient]
) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    client = open_client(HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: None))

    codes = [client.get(path).status_code for path in ("/health", "/livez", "/readyz")]

    assert codes == [503, 200, 200]


@pytest.mark.parametrize("open_client", [open_ingress, open_console])
def test_readiness_fails_only_without_the_database(
    open_client: Callable[[HealthCheck], FlaskClient],
) -> None:
    nowhere = create_engine(
        driver_url("postgresql://nobody@127.0.0.1:9/none"), connect_args={"connect_timeout": 2}
    )
    client = open_client(HealthCheck(count_conditions, engine=lambda: nowhere, ping=lambda _: 0.2))

    health = client.get("/health")

    assert (health.status_code, health.get_json()["status"]) == (503, "unavailable")
    assert [health.get_json()[kind] for kind in DEGRADING] == [None] * len(DEGRADING)
    assert [client.get(path).status_code for path in ("/livez", "/readyz")] == [200, 503]


def test_ended_pause_does_not_degrade_health(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
        pause(tx)
    probe = HealthCheck(count_conditions, engine=lambda: engine, ping=lambda _: 0.2, keep_seconds=0.0)
    client = open_ingress(probe)
    assert client.get("/health").get_json()["status"] == "degraded"

    with engine.begin() as tx:
        clear_pauses(tx, [EVERYTHING], None, now=utc_now(), by="ada")

    wait_for(lambda: client.get("/health").get_json()["status"] == "ok")
