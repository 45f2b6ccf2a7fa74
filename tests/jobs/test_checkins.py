"""Check-ins for Sentry Crons, read from the envelopes. Only Sentry's server is a double."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sentry_sdk.envelope import Envelope
from sqlalchemy import Engine

from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.jobs.sentry_monitors import SentryCheckinHandler
from services.providers.sentry_envelopes import send_checkin
from tests.fakes.settings import settings_of
from tests.fakes.web import HANGS_UP, Answer, Request, Web
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick, runs
from tests.jobs.work import finish_runs, follow, make_due, serve
from tests.observability.sentry_sink import SentrySink

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
EVENING = NOW - timedelta(hours=20)
TOPIC = "sentry_checkin"
VERDICTS = (
    "select status, coalesce(result, error_code) from work_queue where topic = 'sentry_checkin' order by id"
)


def begin(engine: Engine, **zones: str) -> None:
    add_shops(engine, datetime(2026, 1, 1, tzinfo=UTC), **zones)
    add_jobs(engine, EVENING, make_job())
    run_tick(engine, EVENING)
    run_tick(engine, NOW)


def checkins(raw: list[bytes]) -> list[dict[str, Any]]:
    """Return the check-ins in envelopes, as Sentry's own code reads them."""
    items = [item for one in raw for item in Envelope.deserialize(one).items]
    assert {item.type for item in items} <= {"check_in"}
    return [json.loads(item.get_bytes()) for item in items]


def received(web: Web) -> list[tuple[str, str]]:
    return [(one["check_in_id"], one["status"]) for one in checkins([_plain(r) for r in web.requests])]


def _plain(request: Request) -> bytes:
    return (
        gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    )


@pytest.fixture
def sink() -> Iterator[SentrySink]:
    sink = SentrySink()
    yield sink
    sink.close()


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as web:
        yield web


def dsn(web: Web) -> str:
    return f"http://public@127.0.0.1:{web.port}/42"


def test_round_has_one_checkin_at_its_begin_and_one_at_its_end(engine: Engine, sink: SentrySink) -> None:
    with settings_of(SENTRY_DSN=sink.dsn, ENVIRONMENT="production"):
        begin(engine, west="America/Los_Angeles", mill="America/Los_Angeles")
        serve(engine, TOPIC, SentryCheckinHandler())
        finish_runs(engine, "reconcile")
        follow(engine)
        run_tick(engine, NOW + timedelta(seconds=5))
        follow(engine)
        serve(engine, TOPIC, SentryCheckinHandler())
        serve(engine, TOPIC, SentryCheckinHandler())

    begun, ended = checkins(sink.raw)
    assert begun["monitor_slug"] == ended["monitor_slug"] == "daily-reconciliation-america-los-angeles"
    assert (begun["status"], ended["status"]) == ("in_progress", "ok")
    assert begun["check_in_id"] == ended["check_in_id"]
    assert begun["environment"] == "production"
    assert begun["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 0 * * *"},
        "timezone": "America/Los_Angeles",
        "checkin_margin": 30,
        "max_runtime": 30,
    }
    assert begun.get("duration") is None
    assert ended["duration"] >= 0
    assert runs(engine, VERDICTS) == [("done", "delivered"), ("done", "delivered")]


def test_what_is_sent_again_has_the_id_of_the_first(engine: Engine, web: Web) -> None:
    web.answers = [Answer(500), HANGS_UP, Answer(200)]
    with settings_of(SENTRY_DSN=dsn(web)):
        begin(engine, west="America/Los_Angeles")
        for _ in range(3):
            serve(engine, TOPIC, SentryCheckinHandler())
            make_due(engine, [TOPIC])

    assert len(received(web)) == 3
    assert len(set(received(web))) == 1
    assert runs(engine, VERDICTS) == [("done", "delivered")]


def test_a_begin_that_comes_after_the_end_is_not_sent(engine: Engine, web: Web) -> None:
    web.answers = [Answer(503)]
    with settings_of(SENTRY_DSN=dsn(web)):
        begin(engine, west="America/Los_Angeles")
        serve(engine, TOPIC, SentryCheckinHandler())
        finish_runs(engine, "reconcile")
        follow(engine)
        make_due(engine, [TOPIC])
        for _ in range(2):  # one key at a time
            serve(engine, TOPIC, SentryCheckinHandler())

    assert [status for _, status in received(web)] == ["in_progress", "ok"]
    assert sorted(runs(engine, VERDICTS)) == [("done", "delivered"), ("done", "superseded")]


def test_retry_after_of_sentry_is_respected(engine: Engine, web: Web) -> None:
    web.answers = [Answer(429, {"X-Sentry-Rate-Limits": "90:monitor:organization"})]
    with settings_of(SENTRY_DSN=dsn(web)):
        begin(engine, west="America/Los_Angeles")
        serve(engine, TOPIC, SentryCheckinHandler())

    waits = "select extract(epoch from next_retry_at - now())::int from work_queue where topic = '{}'"
    ((seconds,),) = runs(engine, waits.format(TOPIC))
    assert 80 <= seconds <= 120


def test_what_was_planned_is_dropped_once_sentry_is_switched_off(engine: Engine, web: Web) -> None:
    with settings_of(SENTRY_DSN=dsn(web)):
        begin(engine, west="America/Los_Angeles")
    serve(engine, TOPIC, SentryCheckinHandler())

    assert web.requests == []
    assert runs(engine, VERDICTS) == [("done", "disabled")]


def test_checkin_is_posted_to_the_dsn_with_its_key(web: Web) -> None:
    with httpx.Client() as http:
        send_checkin(http, dsn(web), {"monitor_slug": "nightly", "status": "ok"})

    (request,) = web.requests
    assert request.path == "/api/42/envelope/"
    assert request.headers["content-type"] == "application/x-sentry-envelope"
    assert "sentry_key=public" in request.headers["x-sentry-auth"]


@pytest.mark.parametrize(
    ("answer", "fault", "code", "wait_seconds"),
    [
        (Answer(500), RetryLater, "sentry.unavailable", None),
        (HANGS_UP, RetryLater, "sentry.no_answer", None),
        (Answer(429), RetryLater, "sentry.rate_limited", 60),
        (Answer(429, {"Retry-After": "7"}), RetryLater, "sentry.rate_limited", 7),
        (
            Answer(429, {"X-Sentry-Rate-Limits": "300:error;transaction:org, 20::org, 9:monitor:org"}),
            RetryLater,
            "sentry.rate_limited",
            20,
        ),
        (
            Answer(429, {"X-Sentry-Rate-Limits": f"7::org, {'9' * 5000}:monitor:org"}),
            RetryLater,
            "sentry.rate_limited",
            3600,
        ),
        (
            Answer(429, {"X-Sentry-Rate-Limits": "what?", "Retry-After": "999999"}),
            RetryLater,
            "sentry.rate_limited",
            3600,
        ),
        (Answer(401), Misconfigured, "sentry.dsn_refused", None),
        (Answer(403), Misconfigured, "sentry.dsn_refused", None),
        (Answer(400, {"X-Sentry-Error": "bad slug"}), Refused, "sentry.checkin_refused", None),
    ],
)
def test_response_decides_what_happens_next(
    web: Web, answer: Answer, fault: type[WorkError], code: str, wait_seconds: int | None
) -> None:
    web.answers = [answer]
    with httpx.Client() as http, pytest.raises(fault) as caught:
        send_checkin(http, dsn(web), {"monitor_slug": "nightly", "status": "ok"})

    assert caught.value.code == code
    assert "public" not in str(caught.value)
    if isinstance(caught.value, RetryLater):
        wait = caught.value.wait
        assert (wait.total_seconds() if wait else None) == wait_seconds
    if "x-sentry-error" in {name.lower() for name in answer.headers}:
        assert "bad slug" in str(caught.value)


def test_a_dsn_that_cannot_be_read_is_named(web: Web) -> None:
    with httpx.Client() as http, pytest.raises(Misconfigured, match="SENTRY_DSN cannot be read"):
        send_checkin(http, "http://127.0.0.1/no-key", {})
