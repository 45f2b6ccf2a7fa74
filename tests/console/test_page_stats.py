"""Requests to the console are counted by route and status; one that fails has a row with its cause."""

from collections.abc import Iterator

import pytest
from flask import Flask, url_for
from sqlalchemy import Engine

from services.console.app import make_app
from services.core.db import make_engine, transaction
from services.core.log_redaction import is_secret_name
from services.core.sentry import _scrub
from services.core.settings import Settings
from services.ingress.request_stats import RequestStats
from services.ledger.request_errors import list_errors
from tests.fakes.tcp_proxy import TcpProxy
from tests.jobs.cron_client import FLEET_JOB, LONG_AGO, SHOWN
from tests.jobs.job_rows import add_jobs, add_shops, make_job
from tests.jobs.test_cron_route import database_proxy

__all__ = ["database_proxy"]

COUNTS = "select shop, outcome, route, status, count from request_counts where minute > '1970-01-01Z'"


@pytest.fixture
def stats(settings: Settings) -> Iterator[RequestStats]:
    """Counts of the console with a connection of their own."""
    engine = make_engine(settings.database_url, application="stats")
    yield RequestStats(engine)
    engine.dispose()


@pytest.fixture
def app(engine: Engine, settings: Settings, stats: RequestStats) -> Flask:
    add_shops(engine, LONG_AGO, west="America/Los_Angeles")
    add_jobs(engine, LONG_AGO, make_job(), FLEET_JOB)
    app = make_app(settings, stats=stats)

    def fail() -> str:
        raise LookupError("ada@example.com") from ZeroDivisionError("a bug")

    app.view_functions["static"] = lambda filename: fail()
    return app


def count(stats: RequestStats, engine: Engine) -> list[tuple[object, ...]]:
    stats.flush()
    with transaction(engine) as tx:
        return sorted(tuple(row) for row in tx.exec_driver_sql(COUNTS))


def test_requests_are_counted_by_shop_route_and_status(
    app: Flask, stats: RequestStats, engine: Engine
) -> None:
    client = app.test_client()
    client.post("/cron/daily-reconciliation?shop=west&period=2026-11-19", headers=SHOWN)
    client.post("/cron/daily-reconciliation?shop=west&period=2026-11-19", headers=SHOWN)
    client.post("/cron/daily-reconciliation?shop=nobody", headers=SHOWN)
    client.post("/cron/daily-reconciliation?shop=west")
    client.get("/nothing")
    client.get("/livez?shop=west")

    assert count(stats, engine) == [
        ("?", "answered", "/cron/<job>", 403, 1),
        ("?", "answered", "/cron/<job>", 404, 1),
        ("?", "answered", "?", 404, 1),
        ("?", "health", "/livez", 200, 1),
        ("west", "answered", "/cron/<job>", 202, 2),
    ]


def test_a_bug_is_a_row_with_the_class_of_its_origin(app: Flask, stats: RequestStats, engine: Engine) -> None:
    answer = app.test_client().get("/static/x?token=hidden", headers={"Cookie": "session=hidden"})
    assert answer.status_code == 500
    stats.flush()

    with transaction(engine) as tx:
        (found,) = list_errors(tx)
    assert found._asdict() == {
        "request_id": answer.headers["X-Request-Id"], "at": found.at, "shop_id": None,
        "route": "/static/<path:filename>", "status": 500, "error_class": "ZeroDivisionError", "reason": "",
        "staff_label": "",
        "request": {"method": "GET", "path": "/static/x"},
    }  # fmt: skip


def test_no_token_of_an_address_is_stored_or_reported(
    app: Flask, stats: RequestStats, engine: Engine
) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if any(map(is_secret_name, rule.arguments))]
    rules = [rule for rule in rules if "<int:" not in str(rule)]
    assert "/sign-in/forgot/<token>" in map(str, rules)

    def fail(**_arguments: str) -> str:
        raise LookupError("a bug")

    client = app.test_client()
    for rule in rules:
        app.view_functions[rule.endpoint] = fail
        with app.test_request_context():
            path = url_for(rule.endpoint, **dict.fromkeys(rule.arguments, "Ia2.bC-9"))
        event = {"request": {"url": f"http://localhost{path}"}, "message": f"GET {path} failed"}
        assert "Ia2.bC-9" in path
        assert "Ia2.bC-9" not in str(_scrub(event, {})), path  # type: ignore[arg-type]
        client.open(path, method="GET" if "GET" in (rule.methods or ()) else "POST")
    stats.flush()

    with transaction() as tx:
        stored = [one.request["path"] for one in list_errors(tx)]
    assert "/sign-in/forgot/[hidden]" in stored
    assert not any("Ia2.bC-9" in path for path in stored)


def test_without_the_database_the_row_names_the_caller_and_the_shop(
    app: Flask, stats: RequestStats, engine: Engine, database_proxy: TcpProxy
) -> None:
    database_proxy.cut()
    answer = app.test_client().post("/cron/daily-reconciliation?shop=west", headers=SHOWN)
    assert answer.status_code == 503
    stats.flush()

    with transaction(engine) as tx:
        (found,) = list_errors(tx)
    assert (found.shop_id, found.status, found.staff_label) == (1, 503, "cron secret")
    assert found.error_class == "OperationalError"


def test_a_health_page_that_reports_a_fault_is_no_error(
    app: Flask, stats: RequestStats, engine: Engine
) -> None:
    assert app.test_client().get("/health").status_code == 503  # no beat was ever seen

    assert ("?", "health", "/health", 503, 1) in count(stats, engine)
    with transaction(engine) as tx:
        assert list_errors(tx) == []
