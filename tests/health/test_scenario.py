"""Health of a fleet with a pause, waiting webhooks, failed runs and an altered chain.

With real database, broker, ingress, console and command. ``/health`` must not answer ``ok``.
"""

import json
from collections.abc import Iterator
from datetime import timedelta

import click
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text

from services.accounts.roles import Role
from services.alerts.people import acknowledge
from services.console.app import make_app
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings
from services.ingress.app import make_flask
from services.ingress.metrics import FORMER_NAMES
from services.jobs.complete_run import sync_run_status
from tasks.commands import backlog, pause
from tests.console.people import sign_in_as
from tests.health.fleet_rows import add_broken_connection, add_heartbeats, add_incident
from tests.jobs.job_rows import add_jobs, make_job, run_tick, settle
from tests.ledger_rows import accept, new_event

SECRET = "tests-only-cron-secret-" + "c" * 32


def run(command: click.Command, *arguments: str) -> str:
    context = CLIContext(app=Celery(set_as_current=False), no_color=True, workdir=None)
    result = CliRunner().invoke(command, arguments, obj=context)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def degraded_fleet(engine: Engine, broker_url: str, settings: Settings) -> Iterator[Engine]:
    """Forty webhooks wait behind a pause, and two nightly runs failed."""
    now = utc_now()
    run(pause, "-f", "--as", "ada-the-operator", "--reason", "counting stock")
    with transaction(engine) as tx:
        shop_id = add_broken_connection(tx, "harbour-teas")
        add_incident(tx, "P1")
    accept(engine, *(new_event(number, shop_id=shop_id) for number in range(40)))
    add_jobs(
        engine,
        now - timedelta(days=3),
        make_job(),
        make_job(name="monthly-close", topic="month_close", per_shop=False, zone="fleet"),
    )
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shops set created_at = now() - interval '3 days'")
    run_tick(engine, now)
    with transaction(engine) as tx:
        settle(tx, "daily-reconciliation", "dead")
        settle(tx, "monthly-close", "dead")
        sync_run_status(tx, now)
        add_heartbeats(tx, utc_now())
    yield engine


COUNTS = {
    "pauses": 1,
    "draining": 0,
    "connections_broken": 1,
    "p1_open": 1,
    "runs_failed": 2,
    "jobs_overdue": 0,
}


def test_the_public_health_is_degraded_with_counts_and_names_no_person(degraded_fleet: Engine) -> None:
    answer = make_flask().test_client().get("/health")

    body = answer.get_json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    assert body["failing"] == ["job:daily-reconciliation", "job:monthly-close"]
    assert body["jobs"] == {"overdue": [], "failed": ["daily-reconciliation", "monthly-close"]}
    assert {kind: body[kind] for kind in COUNTS} == COUNTS
    assert body["queues"]["webhooks"]["depth"] == 40
    for private in ("ada-the-operator", "counting stock", "harbour-teas", "HTTP 401"):
        assert private not in answer.text


def test_metrics_have_a_series_for_each(degraded_fleet: Engine) -> None:
    answer = make_flask().test_client().get("/metrics")

    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["shopfleet_pauses", "hold"] == 1
    assert found["shopfleet_pauses", "refuse"] == 0
    assert found["shopfleet_incidents_open", "P1"] == 1
    with transaction(degraded_fleet) as tx:
        p2 = tx.execute(text("select count(*) from incidents where severity = 'P2' and status = 'open'"))
    assert found["shopfleet_incidents_open", "P2"] == p2.scalar_one()
    assert found["shopfleet_connections_broken", "stripe"] == 1
    assert found["shopfleet_runs_failed", "monthly-close"] == 1
    assert found["shopfleet_runs_failed", "daily-reconciliation"] == 1
    assert found["shopfleet_component_down", "job:monthly-close"] == 1
    for name, former in FORMER_NAMES.items():
        assert {key[1:]: value for key, value in found.items() if key[0] == former} == {
            key[1:]: value for key, value in found.items() if key[0] == name
        }
    assert found["shopfleet_missing", "job:monthly-close"] == 1


def test_backlog_shows_person_reason_and_shop(degraded_fleet: Engine) -> None:
    shown = json.loads(run(backlog, "--json"))
    text = " ".join(run(backlog).split())

    (paused,) = shown["pauses"]
    assert (paused["created_by"], paused["reason"]) == ("ada-the-operator", "counting stock")
    kinds = [(line["kind"], line["shop"], line["why"]) for line in shown["conditions"]]
    assert kinds[0] == ("connections_broken", "harbour-teas", "stripe.key_refused: HTTP 401")
    assert kinds[1][:2] == ("p1_open", None)
    with transaction(degraded_fleet) as tx:
        acknowledge(tx, 1, now=utc_now(), by="bob", request_id="r")
    assert "bob" in {line["by"] for line in json.loads(run(backlog, "--json"))["conditions"]}
    assert set(kinds[2:]) == {("runs_failed", None, "x: y"), ("runs_failed", "harbour-teas", "x: y")}
    for part in ("everything", "counting stock", "ada-the-operator", "audit_chain_failed", "harbour-teas"):
        assert part in text


def test_console_gives_shop_person_and_reason_only_with_the_cron_secret(
    degraded_fleet: Engine, settings: Settings
) -> None:
    client = make_app(settings).test_client()

    public = client.get("/health").get_json()
    wrong = client.get("/health", headers={"X-Cron-Secret": "guess"}).get_json()
    with_secret = client.get("/health", headers={"X-Cron-Secret": SECRET}).get_json()

    assert "conditions" not in public
    assert "conditions" not in wrong
    assert (public["status"], with_secret["status"]) == ("degraded", "degraded")
    lines = {line["kind"]: line for line in with_secret["conditions"]}
    assert (lines["pauses"]["by"], lines["pauses"]["why"]) == ("ada-the-operator", "counting stock")
    assert lines["connections_broken"]["shop"] == "harbour-teas"
    assert lines["p1_open"]["name"] == "audit_chain_failed 2026-11-20"


def test_front_page_shows_a_degraded_fleet_with_counts(degraded_fleet: Engine, settings: Settings) -> None:
    page = sign_in_as(make_app(settings).test_client(), Role.VIEWER).get("/queues").text

    assert "Everything works." not in page
    assert "something needs a person" in page
    for count in ("Paused: 1", "Broken connections: 1", "Open P1 incidents: 1", "Failed runs: 2"):
        assert count in page
    assert "ada-the-operator" in page
    assert "counting stock" in page
