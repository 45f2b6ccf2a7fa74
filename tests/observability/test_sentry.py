"""Events for Sentry, read from the envelopes. Only Sentry's server is a double."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from celery import Celery
from flask import Flask

from services.core.errors import SettingsInvalid
from services.core.sentry import (
    LONGEST_ERROR,
    capture_bug,
    capture_dead_work,
    capture_sweep_failed,
    init_sentry,
)
from services.core.settings import Settings
from tests.fleet.waiting import run_within
from tests.observability.sentry_sink import SentrySink

PASSWORD = "hunter2" * 2
BODY = '{"customer": {"email": "ada@example.com"}}'
SIGNATURE = "q83vEjRWeJCrze8SNFZ4kA=="
SECRET = "whsec_c2VjcmV0LW9mLWFkYQ"
NEVER_SENT = ("ada@example.com", SIGNATURE, SECRET, "c2VjcmV0", PASSWORD)


def settings_with(dsn: str) -> Settings:
    return Settings(
        database_url=f"postgresql://app:{PASSWORD}@db/fleet",
        migrate_database_url="",
        broker_url=f"redis://:{PASSWORD}@broker/0",
        secret_key=PASSWORD * 3,
        sentry_dsn=dsn,
    )


@pytest.fixture
def sink() -> Iterator[SentrySink]:
    sink = SentrySink()
    yield sink
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.init()
    sentry_sdk.get_isolation_scope().clear()
    sink.close()


def assert_clean(sink: SentrySink) -> None:
    sent = b"".join(sink.raw).decode()
    assert [word for word in NEVER_SENT if word in sent] == []


def test_dead_work_names_its_row_and_is_grouped_by_topic_and_code(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "worker-inventory")

    capture_dead_work(
        topic="inventory_push",
        work_id=71,
        code="shopify.refused",
        shop="ada-teas",
        request_id="req-1",
        last_error=f"answered 403 to a call with {SECRET} at https://app:{PASSWORD}@shop/",
    )
    event = sink.next_event()

    assert event["fingerprint"] == ["inventory_push", "shopify.refused"]
    assert event["message"] == "inventory_push is dead: shopify.refused"
    assert event["contexts"]["work"]["id"] == 71
    assert "answered 403" in event["contexts"]["work"]["last_error"]
    tags = {name: event["tags"][name] for name in ("topic", "shop", "request_id", "code", "component")}
    assert tags == {
        "topic": "inventory_push",
        "shop": "ada-teas",
        "request_id": "req-1",
        "code": "shopify.refused",
        "component": "worker-inventory",
    }
    assert_clean(sink)


def test_a_failed_sweep_is_reported(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "worker-ops")

    capture_sweep_failed(TimeoutError("the database did not answer"))
    event = sink.next_event()

    assert event["fingerprint"] == ["sweep", "TimeoutError"]
    assert event["exception"]["values"][0]["value"] == "the database did not answer"


def test_a_bug_carries_its_trace_but_no_local_variable(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "ingress")

    def verify(secret: str, body: str) -> None:
        raise ZeroDivisionError(f"while checking with {secret}" if body else "")

    try:
        verify(SECRET, BODY)
    except ZeroDivisionError as fault:
        capture_bug(fault, topic="orders/create", shop="ada-teas", request_id="req-2")
    event = sink.next_event()

    frames = event["exception"]["values"][0]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "verify"
    assert not any("vars" in frame for frame in frames)
    assert event["tags"]["request_id"] == "req-2"
    assert_clean(sink)


def test_the_report_of_an_error_in_a_route_has_neither_body_nor_signature(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "ingress")
    app = Flask(__name__)

    @app.post("/webhooks/shopify/<shop>")
    def receive(shop: str) -> str:
        raise RuntimeError(f"no table inbound_events for {shop}")

    app.test_client().post(
        f"/webhooks/shopify/ada-teas?token={PASSWORD}",
        data=BODY,
        headers={
            "X-Shopify-Hmac-Sha256": SIGNATURE,
            "Authorization": f"Bearer {PASSWORD}",
            "Content-Type": "application/json",
            "Cookie": f"session={PASSWORD}",
        },
    )
    event = sink.next_event()

    assert event["request"]["url"] == "http://localhost/webhooks/shopify/ada-teas"
    assert event["request"]["headers"]["Content-Type"] == "application/json"
    assert "data" not in event["request"]
    assert_clean(sink)


def test_a_value_that_an_error_quotes_is_short_and_without_addresses(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "worker-webhooks")

    capture_bug(ValueError(f"invalid literal: 'ada@example.com, 604-555-0199, {'x' * 10_000}'"))
    (error,) = sink.next_event()["exception"]["values"]

    assert error["value"].startswith("invalid literal: '[email], [phone], xxx")
    assert len(error["value"]) <= LONGEST_ERROR


def test_an_error_in_a_celery_task_is_reported_under_the_tasks_name(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "worker-webhooks")
    app = Celery("t", set_as_current=False)

    @app.task(name="order_ingest", shared=False)
    def fail(ids: list[int]) -> None:
        raise RuntimeError(f"cannot work on {len(ids)} rows")

    fail.apply(args=([1, 2],))
    event = sink.next_event()

    assert event["exception"]["values"][0]["value"] == "cannot work on 2 rows"
    assert event["transaction"] == "order_ingest"
    assert_clean(sink)


def test_values_of_a_failed_statement_are_not_sent(sink: SentrySink) -> None:
    init_sentry(settings_with(sink.dsn), "worker-webhooks")

    capture_bug(
        ValueError(
            "(psycopg.errors.CheckViolation) new row violates a check\n"
            "DETAIL:  Failing row contains (1, ada@example.com, 12).\n"
            "[SQL: insert into orders values (%(a)s)]\n"
            "[parameters: {'a': 'ada@example.com', 'b': [1, 2]}]\n"
            "(Background on this error at: https://sqlalche.me/e/20/gkpj)"
        )
    )
    event = sink.next_event()

    assert "insert into orders" in event["exception"]["values"][0]["value"]
    assert_clean(sink)


def test_unreachable_sentry_delays_nothing() -> None:
    init_sentry(settings_with("http://public@127.0.0.1:9/1"), "ingress")

    def capture_many() -> None:
        for number in range(300):
            capture_bug(RuntimeError(f"bug {number}"))

    run_within(capture_many, seconds=60)
    sentry_sdk.init()


@pytest.mark.parametrize("capture", [capture_bug, capture_sweep_failed])
def test_capturing_without_a_dsn_does_nothing(capture: Any) -> None:
    assert init_sentry(settings_with(""), "ingress") is False

    capture(RuntimeError("bug"))


def test_a_dsn_that_cannot_be_read_is_refused_at_start_without_repeating_it() -> None:
    with pytest.raises(SettingsInvalid, match="SENTRY_DSN cannot be read") as caught:
        init_sentry(settings_with(PASSWORD), "ingress")

    assert PASSWORD not in json.dumps(str(caught.value))
