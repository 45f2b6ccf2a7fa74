"""Thin events: their object is fetched and recorded, with the real runner and real HTTP."""

from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import NewEvent, record_work
from services.ledger.filters import EventFilter
from services.ledger.replay import replay_events
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import NewWork
from services.payments.event_fetch import EventFetchHandler
from services.payments.handler import ingest_transactions
from services.shops.secrets import record_secret
from tests.fakes.stripe import StripeApi
from tests.ledger_rows import NOW, accept
from tests.payments.test_balance import entry, kept
from tests.payments.test_transactions import charge, ingest, rows
from tests.shopify.sample_payloads import add_shop

KEY = "rk_test_" + "a" * 24
CHARGE = orjson.loads(charge(amount_refunded=1500).body)["data"]["object"]
WORK = "select topic, status, result, error_code, origin from work_queue order by id"


@pytest.fixture
def api(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeApi]:
    """A Stripe double in the settings, and a shop with its key."""
    with StripeApi(KEY) as started:
        monkeypatch.setenv("STRIPE_API_BASE", started.url)
        get_settings.cache_clear()
        add_shop(engine)
        with transaction(engine) as tx:
            record_secret(tx, 1, "stripe-key", KEY, NOW)
        yield started
    get_settings.cache_clear()


def thin(number: int = 1, url: str | None = "/v1/charges/ch_1", **fields: Any) -> dict[str, Any]:
    event = {
        "id": f"evt_{number}",
        "object": "v2.core.event",
        "type": "v1.charge.refunded",
        "created": "2026-11-20T09:00:00.123Z",
        "context": None,
        "related_object": {"id": "ch_1", "type": "charge", "url": url} if url else None,
    }
    return event | fields


def receive(engine: Engine, event: dict[str, Any]) -> None:
    new = NewEvent(
        shop_id=1,
        provider="stripe",
        topic=event["type"],
        delivery_key=event["id"],
        body=orjson.dumps(event),
        received_at=NOW,
        key="ch_1",
    )
    accept(engine, new)


def work(engine: Engine) -> list[tuple[Any, ...]]:
    ExternalRunner(engine, "tests", Random(1)).run_batch(TOPICS["event_fetch"], EventFetchHandler())
    TransactionalRunner(engine, "tests", Random(1)).run_batch(
        TOPICS["transaction_ingest"], ingest_transactions
    )
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(WORK)]


def test_charge_of_a_thin_event_is_fetched_and_becomes_a_row(engine: Engine, api: StripeApi) -> None:
    api.objects = {"/v2/core/events/evt_1": thin(), "/v1/charges/ch_1": CHARGE}
    receive(engine, thin())

    assert work(engine) == [
        ("event_fetch", "done", "fetched", None, "webhook"),
        ("transaction_ingest", "done", "done", None, "backfill"),
    ]
    assert rows(engine) == [("ch_1", "charge", "paid", 5000, 1500, "CAD", "pi_1")]


def test_replayed_thin_event_is_fetched_again_and_records_the_current_state(
    engine: Engine, api: StripeApi
) -> None:
    api.objects = {"/v2/core/events/evt_1": thin(), "/v1/charges/ch_1": CHARGE}
    receive(engine, thin())
    work(engine)
    api.objects["/v1/charges/ch_1"] = CHARGE | {"amount_refunded": 2000}
    with transaction(engine) as tx:
        replay_events(tx, EventFilter(topic="v1.charge.refunded"), now=utc_now(), by="tests")

    assert [row[2] for row in work(engine)] == ["fetched", "done", "fetched", "done"]
    assert rows(engine)[0][4] == 2000


def test_snapshot_that_stripe_dates_later_wins_over_what_was_fetched(engine: Engine, api: StripeApi) -> None:
    api.objects = {"/v2/core/events/evt_1": thin(), "/v1/charges/ch_1": CHARGE}
    receive(engine, thin())
    work(engine)
    later = 400 * 86_400

    assert ingest(engine, charge("charge.refunded", later, amount_refunded=5000)) == ["done"]
    assert ingest(engine, charge("charge.refunded", -later)) == ["stale"]


@pytest.mark.parametrize(
    ("objects", "event", "result"),
    [
        ({}, thin(), "gone"),
        ({"/v2/core/events/evt_1": thin()}, thin(), "gone"),
        ({"/v2/core/events/evt_1": thin(url=None)}, thin(), "ignored"),
        (
            {"/v2/core/events/evt_1": thin(), "/v1/charges/ch_1": {"id": "cus_1", "object": "customer"}},
            thin(),
            "ignored",
        ),
    ],
    ids=["no event", "no object", "about nothing", "about a customer"],
)
def test_missing_or_foreign_object_changes_no_transaction(
    engine: Engine, api: StripeApi, objects: dict[str, Any], event: dict[str, Any], result: str
) -> None:
    api.objects = objects
    receive(engine, event)

    assert [row[:3] for row in work(engine)] == [("event_fetch", "done", result)]
    assert rows(engine) == []


def test_event_of_another_account_is_requested_in_its_context(engine: Engine, api: StripeApi) -> None:
    event = thin(context="acct_9")
    api.objects = {"/v2/core/events/evt_1": event, "/v1/charges/ch_1": CHARGE}
    receive(engine, event)
    work(engine)

    assert [headers["stripe-context"] for headers in api.headers] == ["acct_9", "acct_9"]


def test_error_of_a_shop_without_a_key_names_the_command(engine: Engine, api: StripeApi) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from shop_secrets")
    receive(engine, thin())

    assert [row[:4] for row in work(engine)] == [("event_fetch", "dead", None, "stripe.no_key")]
    with engine.connect() as tx:
        why = tx.exec_driver_sql("select last_error from work_queue").scalar_one()
    assert "fleet shops secret harbour stripe-key --stdin" in why


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        ((429, {"Retry-After": "7"}, {"error": {}}), "error", "stripe.rate_limited"),
        ((401, {}, {"error": {}}), "dead", "stripe.key_refused"),
        ((500, {}, {"error": {}}), "error", "stripe.unavailable"),
    ],
)
def test_http_errors_have_the_usual_outcomes(
    engine: Engine, api: StripeApi, failure: Any, status: str, code: str
) -> None:
    api.failures.append(failure)
    receive(engine, thin())

    assert [(row[1], row[3]) for row in work(engine)] == [(status, code)]


@pytest.mark.parametrize("event", [thin(created="yesterday"), thin(created=None)])
def test_thin_event_that_cannot_be_read_waits_for_a_person(
    engine: Engine, api: StripeApi, event: dict[str, Any]
) -> None:
    receive(engine, event)

    assert [(row[1], row[3]) for row in work(engine)] == [("dead", "stripe.unreadable_event")]


def test_reconciled_payout_brings_its_entries(engine: Engine, api: StripeApi) -> None:
    api.lists["balance_transactions"] = [entry(1, in_payout="po_1"), entry(2, in_payout="po_2")]
    with transaction(engine) as tx:
        record_work(tx, [NewWork(shop_id=1, topic="event_fetch", payload={"payout": "po_1"})], NOW)

    assert [row[:3] for row in work(engine)] == [("event_fetch", "done", "fetched")]
    assert [row[0] for row in kept(engine)] == ["txn_0001"]
