"""Responses of the health and metrics routes."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, text

from services.core.clock import utc_now
from services.core.db import driver_url, transaction
from services.ingress.health import health_blueprint
from services.ingress.metrics import metrics_blueprint
from services.jobs.conditions import count_conditions
from services.ledger.health_check import HealthCheck
from services.ledger.pause import PauseScope, record_pause
from services.ledger.settle import BatchResult, record_stats
from services.ledger.timings import count_timings
from services.ledger.topics import QUEUES, TOPICS
from tests.health.fleet_rows import (
    add_broken_connection,
    add_drift,
    add_heartbeats,
    add_incident,
    add_job,
    add_requests,
    add_run,
    add_settled,
    add_work,
)
from tests.lock_order import UNWATCHED

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def open_client(engine: Callable[[], Engine], ping_ms: float | None = 0.2) -> FlaskClient:
    probe = HealthCheck(count_conditions, engine=engine, ping=lambda _: ping_ms, keep_seconds=0.0)
    app = Flask(__name__)
    app.register_blueprint(health_blueprint(probe))
    app.register_blueprint(metrics_blueprint(probe, engine))
    return app.test_client()


def engine_to_nowhere() -> Engine:
    return create_engine(
        driver_url("postgresql://nobody@127.0.0.1:9/none"), connect_args={"connect_timeout": 2}
    )


def scrape(client: FlaskClient) -> Figures:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def figure(figures: Figures, name: str, /, **labels: str) -> float | None:
    return figures.get((f"shopfleet_{name}", frozenset(labels.items())))


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
def test_health_of_a_working_fleet_is_200_with_figures_of_every_queue(engine: Engine, path: str) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
        add_work(tx, "order_ingest", count=2, created_at=utc_now() - timedelta(minutes=3))

    answer = open_client(lambda: engine).get(path)

    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["status"], body["failing"]) == ("ok", [])
    assert body["database"]["latency_ms"] >= 0
    assert body["broker"]["latency_ms"] == 0.2
    assert 1 < body["beat"]["age_seconds"] < 10
    assert 1 < body["sweep"]["age_seconds"] < 10
    assert list(body["queues"]) != []
    assert set(body["queues"]) == set(QUEUES)
    assert body["queues"]["webhooks"]["depth"] == 2
    assert 179 < body["queues"]["webhooks"]["oldest_age_seconds"] < 190
    assert set(body["queues"]["email"]) == {
        "depth",
        "waiting",
        "locked",
        "in_hand",
        "error",
        "dead",
        "has_worker",
        "oldest_age_seconds",
        "last_processed_at",
        "items_per_minute",
        "error_rate",
        "canary_age_seconds",
    }


@pytest.mark.parametrize(
    ("missing", "name"), [("beat", "beat"), ("sweep", "sweep"), ("queue:inventory", "worker:inventory")]
)
def test_health_is_503_with_the_name_of_what_is_missing(engine: Engine, missing: str, name: str) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now(), but=missing)

    answer = open_client(lambda: engine).get("/health")

    assert answer.status_code == 503
    body = answer.get_json()
    assert body["failing"] == [name]
    assert body["missing"] == [name], "the former name, until 0.3"
    assert [queue for queue, state in body["queues"].items() if not state["has_worker"]] == [
        one.removeprefix("worker:") for one in body["failing"] if one.startswith("worker:")
    ]
    assert all(state["in_hand"] == state["locked"] for state in body["queues"].values())
    assert answer.get_json()["status"] == "down"


def test_without_the_broker_health_is_503_and_webhooks_are_accepted(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    client = open_client(lambda: engine, ping_ms=None)

    assert client.get("/health").get_json()["failing"] == ["broker"]
    assert client.get("/health").status_code == 503
    assert client.get("/readyz").status_code == 200
    assert client.get("/livez").status_code == 200


def test_without_the_database_nothing_is_ready_but_the_process_lives() -> None:
    client = open_client(engine_to_nowhere)

    health = client.get("/health")

    assert (health.status_code, health.get_json()["status"]) == (503, "unavailable")
    assert health.get_json()["failing"] == ["database"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_metrics_count_waiting_work_settled_work_and_requests(engine: Engine) -> None:
    now = utc_now()
    minute = now.replace(second=0, microsecond=0)
    with engine.begin() as tx:
        add_heartbeats(tx, now, but="sweep")
        add_drift(tx, now, {"webhooks": 4, "note": "not a number"})
        add_work(tx, "order_ingest", count=3)
        add_work(tx, "order_ingest", count=2, status="dead")
        add_work(tx, "order_ingest", count=1, locked_at=now)
        add_work(tx, "inventory_push", status="error", next_retry_at=now - timedelta(minutes=10))
        add_settled(tx, "order_ingest", minute, worker="w1", done=5, retried=1, dead=2)
        add_settled(tx, "order_ingest", minute - timedelta(days=40), worker="w2", done=7)
        add_requests(tx, minute, "ada", "shopify", "accepted", 4)
        add_requests(tx, minute, "ben", "shopify", "accepted", 6)
        add_requests(tx, minute, "ben", "stripe", "invalid_signature", 1)

    figures = scrape(open_client(lambda: engine))

    orders = {"queue": "webhooks", "topic": "order_ingest"}
    pushes = {"queue": "inventory", "topic": "inventory_push"}
    assert figure(figures, "work_items", **orders, status="pending") == 3
    assert figure(figures, "work_items", **orders, status="dead") == 2
    assert figure(figures, "work_items", **pushes, status="error") == 1
    assert figure(figures, "work_locked", **orders) == 1
    assert 599 < (figure(figures, "work_oldest_age_seconds", **pushes) or 0) < 610
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="done") == 12
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="retried") == 1
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="dead") == 2
    assert figure(figures, "requests_total", provider="shopify", outcome="accepted") == 10
    assert figure(figures, "requests_total", provider="stripe", outcome="invalid_signature") == 1
    assert figure(figures, "ledger_broker_drift", name="webhooks") == 4
    assert figure(figures, "ledger_broker_drift", name="note") is None
    assert 1 < (figure(figures, "heartbeat_age_seconds", name="beat") or 0) < 20
    assert figure(figures, "component_down", name="sweep") == 1
    assert figure(figures, "component_down", name="beat") is None
    assert figure(figures, "up", part="database") == 1


def test_histograms_of_work_are_cumulative_and_sum_all_workers(engine: Engine) -> None:
    with transaction(engine) as tx:
        for worker, waited in (("w1", 0.02), ("w2", 7200.0)):
            timings = count_timings([waited], [0.5], [])
            record_stats(tx, TOPICS["order_ingest"], worker, BatchResult(done=1), utc_now(), timings)

    figures = scrape(open_client(lambda: engine))

    def bucket(bound: str) -> float | None:
        return figure(figures, "work_wait_seconds_bucket", topic="order_ingest", le=bound)

    assert [bucket(bound) for bound in ("0.01", "0.025", "3600.0", "+Inf")] == [0, 1, 1, 2]
    assert figure(figures, "work_wait_seconds_count", topic="order_ingest") == 2
    assert figure(figures, "work_wait_seconds_sum", topic="order_ingest") == 7200.02
    assert figure(figures, "work_run_seconds_sum", topic="order_ingest") == 1
    assert figure(figures, "work_effect_seconds_count", topic="order_ingest") is None


def test_every_topic_has_its_series_before_its_first_item(engine: Engine) -> None:
    figures = scrape(open_client(lambda: engine))

    for topic in TOPICS.values():
        where = {"queue": topic.queue, "topic": topic.name}
        assert figure(figures, "work_items", **where, status="dead") == 0


def test_metrics_without_the_database_report_it() -> None:
    figures = scrape(open_client(engine_to_nowhere))

    assert figure(figures, "up", part="database") == 0
    assert figure(figures, "up", part="broker") == 1
    assert figure(figures, "component_down", name="database") == 1


LABELS = {
    "part",
    "name",
    "queue",
    "topic",
    "status",
    "outcome",
    "provider",
    "mode",
    "severity",
    "job",
    "rule",
    "le",
}
"""Allowed label names: their values come from closed lists, never a shop, a person or a reason."""


def test_no_label_holds_a_shop_a_person_or_a_reason(engine: Engine) -> None:
    shop, person, reason = "ada-teas", "ada lovelace", "it is a secret"
    with engine.begin() as tx:
        tx.execution_options(**UNWATCHED)
        now = utc_now()
        add_requests(tx, now, shop, "shopify", "accepted", 4)
        shop_id = add_broken_connection(tx, shop)
        add_incident(tx, "P1")
        for scope in (PauseScope(shop_id=shop_id), PauseScope(topic="order_ingest")):
            record_pause(tx, scope, "hold", now=now, by=person, reason=reason)
        add_job(tx, "monthly-close")
        add_run(tx, "monthly-close", "2026-09", "failed", shop_id=shop_id, started_by=person, error=reason)
        add_run(tx, "monthly-close", "2026-10", "running", shop_id=shop_id, started_by=person)
        add_work(tx, "order_ingest", status="dead", key=person, last_error=reason, locked_by=person)
        # Texts that a person or a provider wrote.
        tx.execute(text("update incidents set summary = :reason, detail = '{}'"), {"reason": reason})
        tx.execute(text("update connections set detail = :reason, code = :reason"), {"reason": reason})

    families = list(text_string_to_metric_families(open_client(lambda: engine).get("/metrics").text))

    labels = {name: value for f in families for s in f.samples for name, value in s.labels.items()}
    values = {value for family in families for s in family.samples for value in s.labels.values()}
    assert set(labels) <= LABELS
    assert not [v for v in values for private in (shop, person, reason) if private in v]
    assert not values & {str(shop_id)}
    counted = {family.name: sum(s.value for s in family.samples) for family in families}
    assert [counted[f"shopfleet_{name}"] for name in ("pauses", "runs_failed", "jobs_overdue")] == [2, 1, 1]


def test_every_metric_is_in_the_docs(engine: Engine) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
    answer = open_client(lambda: engine).get("/metrics").text
    families = re.findall(r"^# TYPE (\w+) (\w+)$", answer, re.MULTILINE)

    assert len(families) >= 15
    assert [name for name, _ in families if f"`{name}`" not in documented] == []
