"""``POST /cron/<job>``: responses, with the real app and database."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from services.core import db
from services.core.broker import queue_depths
from services.core.clock import utc_now
from services.core.settings import Settings
from services.ledger.dispatch import reset_sender
from services.ledger.sweep import sweep
from tests.fakes.settings import settings_of
from tests.fakes.tcp_proxy import TcpProxy
from tests.jobs.cron_client import (
    LONG_AGO,
    RUNS,
    SHOWN,
    open_client,
    open_client_with_jobs,
    post,
)
from tests.jobs.job_rows import add_jobs, add_shops, make_job, runs
from tests.jobs.work import finish_runs


@pytest.fixture
def client(engine: Engine, settings: Settings) -> FlaskClient:
    return open_client_with_jobs(engine, settings)


def test_a_job_of_the_fleet_starts_and_is_found_by_its_request_id(
    client: FlaskClient, engine: Engine
) -> None:
    answer = post(client, "/cron/audit-verify?period=2026-11-20")

    assert answer.status_code == 202
    assert answer.get_json() == {
        "run": 1,
        "status": "started",
        "job": "audit-verify",
        "period": "2026-11-20",
        "shop": None,
    }
    assert runs(engine, RUNS) == [("audit-verify", None, "2026-11-20", "pending", "http", "cron secret")]
    ids = runs(
        engine,
        "select r.request_id, w.request_id, e.request_id "
        "from job_runs r join work_queue w on w.id = r.work_id cross join audit_events e",
    )
    assert ids == [(answer.headers["X-Request-Id"],) * 3]


def test_a_job_of_shops_starts_at_each_or_at_the_one_named(client: FlaskClient, engine: Engine) -> None:
    one = post(client, "/cron/daily-reconciliation?shop=east&period=2026-11-19")
    assert (one.status_code, one.get_json()["shop"]) == (202, "east")

    every = post(client, "/cron/daily-reconciliation?period=2026-11-19")
    assert every.status_code == 202
    document = every.get_json()
    assert (document["run"], document["status"], document["shop"]) == (2, "started", None)
    assert [(run["shop"], run["status"], run["run"]) for run in document["runs"]] == [
        ("west", "started", 2),
        ("east", "running", 1),
    ]
    assert len(runs(engine, RUNS)) == 2


def test_a_period_that_is_done_is_only_done_again_by_force(client: FlaskClient, engine: Engine) -> None:
    path = "/cron/daily-reconciliation?shop=west&period=2026-11-19"
    assert post(client, path).get_json()["status"] == "started"
    assert post(client, path).get_json()["status"] == "running"
    finish_runs(engine, "reconcile")

    done = post(client, path)
    assert (done.status_code, done.get_json()["status"], done.get_json()["run"]) == (200, "already_done", 1)
    again = post(client, path + "&force=1")
    assert (again.status_code, again.get_json()["status"], again.get_json()["run"]) == (202, "started", 1)


def test_all_shops_done_is_200_and_one_undone_is_202(client: FlaskClient, engine: Engine) -> None:
    post(client, "/cron/daily-reconciliation?period=2026-11-19")
    finish_runs(engine, "reconcile")
    done = post(client, "/cron/daily-reconciliation?period=2026-11-19")
    assert (done.status_code, done.get_json()["status"]) == (200, "already_done")

    add_shops(engine, LONG_AGO, new="Europe/Berlin")
    mixed = post(client, "/cron/daily-reconciliation?period=2026-11-19")
    document = mixed.get_json()
    assert (mixed.status_code, document["status"]) == (202, "started")
    assert {run["shop"]: run["status"] for run in document["runs"]} == {
        "west": "already_done",
        "east": "already_done",
        "new": "started",
    }
    assert document["run"] == next(run["run"] for run in document["runs"] if run["shop"] == "new")


@pytest.mark.parametrize(
    ("path", "status", "error", "detail"),
    [
        ("/cron/nothing", 404, "unknown_job", "it should be one of audit-verify, daily-reconciliation"),
        ("/api/v1/internal/run-due-reports", 404, "unknown_job", "run-due-reports"),
        ("/cron/daily-reconciliation?shop=nowhere", 404, "unknown_shop", "nowhere"),
        ("/cron/daily-reconciliation?shop=%00", 404, "unknown_shop", "x00"),
        ("/cron/audit-verify?shop=west", 422, "invalid_shop", "leave the shop 'west' out"),
        ("/cron/audit-verify?period=2026-11-31", 422, "invalid_period", "should be a day such as"),
        ("/cron/audit-verify?period=2026-11-%201", 422, "invalid_period", "should be a day such as"),
        ("/cron/audit-verify?period=2026-11-0%D9%A1", 422, "invalid_period", "should be a day such as"),
        ("/cron/audit-verify?period=9999-12-31", 422, "invalid_period", "should be a day such as"),
        ("/cron/audit-verify?period=0002-01-01", 422, "invalid_period", "should be a day such as"),
        (
            "/cron/audit-verify?period=2999-01-01",
            422,
            "invalid_period",
            "is not over yet in America/Vancouver",
        ),
    ],
)
def test_error_names_what_is_wrong(
    client: FlaskClient, engine: Engine, path: str, status: int, error: str, detail: str
) -> None:
    answer = post(client, path)

    assert (answer.status_code, answer.get_json()["error"]) == (status, error)
    assert detail in answer.get_json()["detail"]
    assert answer.headers["X-Request-Id"]
    assert runs(engine, RUNS) == []


def test_a_period_that_one_shop_cannot_have_starts_none(engine: Engine, settings: Settings) -> None:
    add_shops(engine, LONG_AGO, first="Pacific/Kiritimati")
    add_shops(
        engine, LONG_AGO, last="Pacific/Niue"
    )  # 25 hours behind: its day never ends together with the other one
    add_jobs(engine, LONG_AGO, make_job())
    over_at_the_first = datetime.now(ZoneInfo("Pacific/Kiritimati")).date() - timedelta(days=1)

    answer = post(open_client(settings), f"/cron/daily-reconciliation?period={over_at_the_first}")

    assert (answer.status_code, answer.get_json()["error"]) == (422, "invalid_period")
    assert runs(engine, RUNS) == []


def test_fleet_without_shops_is_no_error(engine: Engine, settings: Settings) -> None:
    add_jobs(engine, LONG_AGO, make_job())

    answer = post(open_client(settings), "/cron/daily-reconciliation")

    assert (answer.status_code, answer.get_json()["status"]) == (200, "no_shops")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_only_post_starts_anything(client: FlaskClient, engine: Engine, method: str) -> None:
    answer = getattr(client, method)("/cron/audit-verify", headers=SHOWN)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.get_json()["error"] == "method_not_allowed"
    assert answer.headers["X-Request-Id"]
    assert runs(engine, RUNS) == []


@pytest.fixture
def database_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    """Proxy to the database."""
    url = settings.database_url
    host, _, port = url.rpartition("@")[2].partition("/")[0].partition(":")
    with TcpProxy(host, int(port)) as proxy:
        engine = db.make_engine(url.replace(f"{host}:{port}", f"127.0.0.1:{proxy.port}"), application="cut")
        monkeypatch.setattr(db, "_engine", engine)
        yield proxy
        engine.dispose()


def test_unreachable_database_is_503_with_retry_after(client: FlaskClient, database_proxy: TcpProxy) -> None:
    assert post(client, "/cron/audit-verify").status_code == 202
    database_proxy.cut()

    answer = post(client, "/cron/audit-verify")

    assert (answer.status_code, answer.get_json()["error"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["X-Request-Id"]


def test_workers_get_a_message_at_once(client: FlaskClient, broker_url: str) -> None:
    reset_sender()

    assert post(client, "/cron/audit-verify").status_code == 202
    assert queue_depths(["reports"]) == {"reports": 1}


def test_begin_checkin_is_sent_while_the_run_goes_on(client: FlaskClient, broker_url: str) -> None:
    with settings_of(SENTRY_DSN="http://key@127.0.0.1:9/1"):
        reset_sender()
        assert post(client, "/cron/audit-verify").status_code == 202
    assert queue_depths(["reports", "sync"]) == {"reports": 1, "sync": 1}


def test_job_starts_without_the_broker(client: FlaskClient, engine: Engine) -> None:
    with settings_of(BROKER_URL="redis://127.0.0.1:9/0"):
        reset_sender()
        assert post(client, "/cron/audit-verify").status_code == 202
    reset_sender()

    with db.transaction(engine) as tx:
        _, refs = sweep(tx, utc_now() + timedelta(minutes=1), {})
    assert [(ref.queue, ref.topic) for ref in refs] == [("reports", "audit_verify")]


def test_hundred_concurrent_requests_start_one_run(client: FlaskClient, engine: Engine) -> None:
    app = client.application

    def start_job(_: int) -> tuple[int, str]:
        answer = post(app.test_client(), "/cron/daily-reconciliation?shop=west&period=2026-11-19")
        return answer.status_code, answer.get_json().get("status")

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(start_job, range(100)))

    assert answers == {(202, "started"): 1, (202, "running"): 99}
    assert len(runs(engine, RUNS)) == 1
    assert runs(engine, "select count(*) from work_queue") == [(1,)]
