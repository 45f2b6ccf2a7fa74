"""What an address answers, or that it does not: no message is lost, and no private network is reached."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.providers import http
from tests.alerts.slack import MINUTE, NOW, failure, fire, notify
from tests.fakes.settings import settings_of
from tests.fakes.web import Answer, Web
from tests.jobs.job_rows import runs

STATE = (
    "select status, coalesce(result, error_code), next_retry_at from work_queue where topic = 'alert_send'"
)


def state(engine: Engine) -> tuple[str, str]:
    ((status, code, _),) = runs(engine, STATE)
    return status, code


def test_a_limit_of_slack_is_waited_for(engine: Engine, web: Web) -> None:
    web.answers = [Answer(429, {"Retry-After": "200"}, b"rate_limited")]
    fire(engine, failure())
    notify(engine, web, NOW)

    ((status, code, retry_at),) = runs(engine, STATE)
    assert (status, code) == ("error", "slack.rate_limited")
    assert timedelta(seconds=150) < retry_at - utc_now() < timedelta(seconds=260)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(engine: Engine, web: Web, status: int) -> None:
    with Web() as inner:
        web.answers = [Answer(status, {"Location": f"{inner.url}/latest/meta-data"})]
        fire(engine, failure())
        notify(engine, web, NOW)
        assert inner.requests == []

    assert state(engine) == ("dead", "slack.message_refused")


def test_an_address_that_speaks_no_tls_is_tried_again(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with settings_of(SLACK_WEBHOOK_URL=f"https://127.0.0.1:{web.port}/x"):
        notify(engine, web, NOW)

    assert state(engine) == ("error", "slack.unavailable")
    assert notify(engine, web, NOW + MINUTE) == [web.requests[0].json["text"]]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Calls have half a second for what has 30 s."""
    client = httpx.Client(timeout=0.5, follow_redirects=False)
    monkeypatch.setattr(http, "get_http_client", lambda: client)
    yield
    client.close()


def test_an_address_that_hangs_is_tried_again(engine: Engine, web: Web, impatient: None) -> None:
    web.may_answer.clear()
    fire(engine, failure())
    notify(engine, web, NOW)

    assert state(engine) == ("error", "slack.no_answer")


@pytest.mark.parametrize("setting", ["SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "SENTRY_DSN"])
def test_an_answer_that_never_ends_is_read_in_part(engine: Engine, setting: str) -> None:
    """Each byte comes in time, so no read times out."""
    server, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nok")
        with connection, suppress(OSError):
            while not stop.wait(0.2):
                connection.sendall(b"x")

    threading.Thread(target=drip, daemon=True).start()
    address = f"http://key@127.0.0.1:{server.getsockname()[1]}/1"
    fire(engine, failure())
    try:
        with settings_of(**{setting: address, "ALLOW_PRIVATE_URLS": "1"}), Web() as web:
            sender = threading.Thread(target=notify, args=(engine, web, NOW), daemon=True)
            sender.start()
            sender.join(60)
            assert not sender.is_alive()
    finally:
        stop.set()
        server.close()
    assert state(engine) == ("done", "sent")
