"""What an orchestrator and Prometheus get, over the routes themselves."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine

from services.core.clock import utc_now
from services.core.db import driver_url
from services.ingress.health import health_blueprint
from services.ingress.metrics import metrics_blueprint
from services.ledger.probe import Probe
from services.ledger.topics import QUEUES, TOPICS
from tests.health.fleet_rows import add_drift, add_heartbeats, add_requests, add_settled, add_work

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def open_client(engine: Callable[[], Engine], ping_ms: float | None = 0.2) -> FlaskClient:
    probe = Probe(engine=engine, ping=lambda _: ping_ms, keep_seconds=0.0)
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
def test_health_is_200_in_peace_with_every_queues_figures(engine: Engine, path: str) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
        add_work(tx, "order_ingest", count=2, created_at=utc_now() - timedelta(minutes=3))

    answer = open_client(lambda: engine).get(path)

    assert answer.status_code == 200, answer.text
    said = answer.get_json()
    assert (said["status"], said["missing"]) == ("ok", [])
    assert said["database"]["latency_ms"] >= 0
    assert said["broker"]["latency_ms"] == 0.2
    assert 1 < said["beat"]["age_seconds"] < 10
    assert 1 < said["sweep"]["age_seconds"] < 10
    assert list(said["queues"]) != []
    assert set(said["queues"]) == set(QUEUES)
    assert said["queues"]["webhooks"]["depth"] == 2
    assert 179 < said["queues"]["webhooks"]["oldest_age_seconds"] < 190
    assert set(said["queues"]["email"]) == {
        "depth",
        "in_hand",
        "dead",
        "oldest_age_seconds",
        "last_processed_at",
        "items_per_minute",
        "error_rate",
        "canary_age_seconds",
    }


@pytest.mark.parametrize(
    ("gone", "name"), [("beat", "beat"), ("sweep", "sweep"), ("queue:inventory", "worker:inventory")]
)
def test_health_is_503_with_the_name_of_what_is_gone(engine: Engine, gone: str, name: str) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now(), but=gone)

    answer = open_client(lambda: engine).get("/health")

    assert answer.status_code == 503
    assert answer.get_json()["missing"] == [name]
    assert answer.get_json()["status"] == "degraded"


def test_without_the_broker_health_is_503_but_webhooks_may_come(engine: Engine) -> None:
    with engine.begin() as tx:
        add_heartbeats(tx, utc_now())
    client = open_client(lambda: engine, ping_ms=None)

    assert client.get("/health").get_json()["missing"] == ["broker"]
    assert client.get("/health").status_code == 503
    assert client.get("/readyz").status_code == 200
    assert client.get("/livez").status_code == 200


def test_without_the_database_nothing_is_ready_but_the_process_lives() -> None:
    client = open_client(engine_to_nowhere)

    health = client.get("/health")

    assert (health.status_code, health.get_json()["status"]) == (503, "unavailable")
    assert health.get_json()["missing"] == ["database"]
    assert client.get("/readyz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_metrics_tell_what_waits_what_was_settled_and_what_was_answered(engine: Engine) -> None:
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
    assert figure(figures, "work_in_hand", **orders) == 1
    assert 599 < (figure(figures, "work_oldest_age_seconds", **pushes) or 0) < 610
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="done") == 12
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="retried") == 1
    assert figure(figures, "work_settled_total", topic="order_ingest", outcome="dead") == 2
    assert figure(figures, "requests_total", provider="shopify", outcome="accepted") == 10
    assert figure(figures, "requests_total", provider="stripe", outcome="invalid_signature") == 1
    assert figure(figures, "drift", name="webhooks") == 4
    assert figure(figures, "drift", name="note") is None
    assert 1 < (figure(figures, "heartbeat_age_seconds", name="beat") or 0) < 20
    assert figure(figures, "missing", name="sweep") == 1
    assert figure(figures, "missing", name="beat") is None
    assert figure(figures, "up", part="database") == 1


def test_every_topic_has_its_series_before_its_first_item(engine: Engine) -> None:
    figures = scrape(open_client(lambda: engine))

    for topic in TOPICS.values():
        where = {"queue": topic.queue, "topic": topic.name}
        assert figure(figures, "work_items", **where, status="dead") == 0


def test_metrics_without_the_database_say_so_instead_of_failing() -> None:
    figures = scrape(open_client(engine_to_nowhere))

    assert figure(figures, "up", part="database") == 0
    assert figure(figures, "up", part="broker") == 1
    assert figure(figures, "missing", name="database") == 1


def test_no_shop_is_named_to_whoever_scrapes(engine: Engine) -> None:
    with engine.begin() as tx:
        add_requests(tx, utc_now(), "ada-teas", "shopify", "accepted", 4)

    assert "ada-teas" not in open_client(lambda: engine).get("/metrics").text
