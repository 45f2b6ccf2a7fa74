"""Events of runs for product analytics: none lost, none counted twice."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from services.alerts.posthog import PosthogCaptureHandler
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.jobs.handler import JobResult
from services.providers.posthog import send_events
from tests.fakes.settings import settings_of
from tests.fakes.web import HANGS_UP, Answer, Web
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs, settle
from tests.jobs.work import finish_runs, follow, make_due, serve

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
KEY = "phc_" + "k" * 40
TOPIC = "posthog_capture"
OUTCOMES = (
    "select status, coalesce(result, error_code) from work_queue where topic = 'posthog_capture' order by id"
)


@pytest.fixture
def web(engine: Engine) -> Iterator[Web]:
    """Double of PostHog, during a nightly run of a shop."""
    with Web() as web, settings_of(POSTHOG_KEY=KEY, POSTHOG_HOST=web.url):
        add_shops(engine, datetime(2026, 1, 1, tzinfo=UTC), west="America/Los_Angeles")
        add_jobs(engine, NOW - timedelta(hours=20), make_job())
        run_tick(engine, NOW - timedelta(hours=20))
        run_tick(engine, NOW)
        yield web


def test_a_run_that_is_done_is_one_event_with_its_stats_and_time(engine: Engine, web: Web) -> None:
    finish_runs(engine, "reconcile", lambda _: JobResult(stats={"theirs": 12, "breaks": 1}))
    serve(engine, TOPIC, PosthogCaptureHandler())
    serve(engine, TOPIC, PosthogCaptureHandler())

    (request,) = web.requests
    assert request.path == "/batch/"
    assert request.json["api_key"] == KEY
    (event,) = request.json["batch"]
    assert event["event"] == "cron_job_completed"
    assert event["distinct_id"] == "shop-1"
    assert UUID(event["uuid"])
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    properties = event["properties"]
    assert properties["duration_seconds"] >= 0
    assert {name: properties[name] for name in ("job", "period", "status", "stats")} == {
        "job": "daily-reconciliation",
        "period": "2026-11-20",
        "status": "done",
        "stats": {"theirs": 12, "breaks": 1},
    }


def test_failed_run_is_an_event_too(engine: Engine, web: Web) -> None:
    with transaction(engine) as tx:
        settle(tx, "daily-reconciliation", "dead")
    follow(engine)
    serve(engine, TOPIC, PosthogCaptureHandler())

    assert web.requests[0].json["batch"][0]["properties"]["status"] == "failed"


def test_an_answer_that_is_lost_makes_no_second_event(engine: Engine, web: Web) -> None:
    web.answers = [HANGS_UP, Answer(502), Answer(200)]
    finish_runs(engine, "reconcile")
    for _ in range(4):
        serve(engine, TOPIC, PosthogCaptureHandler())
        make_due(engine, [TOPIC])

    assert len(web.requests) == 3
    assert len({request.json["batch"][0]["uuid"] for request in web.requests}) == 1
    assert len({request.body for request in web.requests}) == 1
    assert runs(engine, OUTCOMES) == [("done", "delivered")]


def test_nothing_is_lost_while_posthog_is_away(engine: Engine, web: Web) -> None:
    finish_runs(engine, "reconcile")
    with settings_of(POSTHOG_HOST="http://127.0.0.1:9"):
        serve(engine, TOPIC, PosthogCaptureHandler())
    assert runs(engine, OUTCOMES) == [("error", "posthog.unavailable")]

    make_due(engine, [TOPIC])
    serve(engine, TOPIC, PosthogCaptureHandler())
    assert len(web.requests) == 1


def test_event_over_the_quota_is_recognised(engine: Engine, web: Web) -> None:
    web.answers = [Answer(200, body=b'{"status":1,"quota_limited":["events"]}')]
    finish_runs(engine, "reconcile")
    serve(engine, TOPIC, PosthogCaptureHandler())

    assert runs(engine, OUTCOMES) == [("done", "over_quota")]


def test_without_a_key_nothing_is_planned_and_planned_events_are_dropped(engine: Engine, web: Web) -> None:
    finish_runs(engine, "reconcile")
    with settings_of(POSTHOG_KEY=""):
        serve(engine, TOPIC, PosthogCaptureHandler())
        assert runs(engine, OUTCOMES) == [("done", "disabled")]
        run_tick(engine, NOW + timedelta(days=1))
        finish_runs(engine, "reconcile")

    assert len(runs(engine, OUTCOMES)) == 1
    assert web.requests == []


@pytest.mark.parametrize(
    ("answer", "fault", "code", "wait_seconds"),
    [
        (Answer(503), RetryLater, "posthog.unavailable", None),
        (HANGS_UP, RetryLater, "posthog.unavailable", None),
        (Answer(429, {"Retry-After": "30"}), RetryLater, "posthog.rate_limited", 30),
        (Answer(429), RetryLater, "posthog.rate_limited", None),
        (Answer(401), Misconfigured, "posthog.key_refused", None),
        (Answer(403), Misconfigured, "posthog.key_refused", None),
        (Answer(400), Refused, "posthog.event_refused", None),
        (Answer(413), Refused, "posthog.event_refused", None),
    ],
)
def test_response_decides_what_happens_next(
    answer: Answer, fault: type[WorkError], code: str, wait_seconds: int | None
) -> None:
    with Web(answer) as web, httpx.Client() as http, pytest.raises(fault) as caught:
        send_events(http, web.url, KEY, [{"event": "e"}])

    assert caught.value.code == code
    if isinstance(caught.value, RetryLater):
        assert (caught.value.wait.total_seconds() if caught.value.wait else None) == wait_seconds


@pytest.mark.parametrize("host", ["us.i.posthog.com", "http://host:port", "ftp://us.i.posthog.com"])
def test_invalid_host_is_named(host: str) -> None:
    with httpx.Client() as http, pytest.raises(Misconfigured, match="POSTHOG_HOST"):
        send_events(http, host, KEY, [{}])


def test_the_key_is_in_no_row_no_log_and_no_error(
    engine: Engine, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.answers = [Answer(401)]
    finish_runs(engine, "reconcile")
    serve(engine, TOPIC, PosthogCaptureHandler())

    assert runs(engine, OUTCOMES) == [("dead", "posthog.key_refused")]
    with engine.connect() as tx:
        rows = tx.execute(text("select w::text from work_queue w")).scalars().all()
    assert KEY not in "".join(rows) + caplog.text
