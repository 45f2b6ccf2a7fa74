"""The table of responses in the contract, with a real database and broker."""

import json
import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ingress.app import Ingress
from services.privacy.shop_removal import mark_removed
from services.providers.shopify import sign_shopify
from services.providers.standard_webhooks import sign_standard
from services.shops.secrets import record_secret
from services.shops.shops import get_shop
from tests.ingress.conftest import QUO_SECRET, SHOPIFY_SECRET
from tests.ingress.posting import ORDER, post_charge, post_order, stored
from tests.ingress.rsgi import Client, RsgiProtocol
from tests.ledger_rows import rows_of


def test_a_signed_webhook_is_a_committed_row_and_planned_work_when_it_is_answered(
    client: Client, engine: Engine
) -> None:
    answer = post_order(client)

    assert answer.status_code == 200
    (event,) = stored(engine)
    assert answer.json == {"status": "accepted", "id": event.id}
    assert (event.provider, event.topic, event.delivery_key, bytes(event.body)) == (
        "shopify", "orders/create", "w-1", ORDER,
    )  # fmt: skip
    assert event.request_id == answer.headers["X-Request-Id"]
    with transaction(engine) as tx:
        (work,) = rows_of(tx)
    assert (work["topic"], work["key"]) == ("order_ingest", f"gid://shopify/Order/{2**53 + 1}")
    assert work["request_id"] == answer.headers["X-Request-Id"]


def test_a_delivery_sent_again_is_a_duplicate_of_the_same_event(client: Client, engine: Engine) -> None:
    first = post_order(client)
    again = post_order(client)
    assert again.status_code == 200
    assert again.json == {"status": "duplicate", "id": first.json["id"]}
    assert len(stored(engine)) == 1


def test_every_sender_of_the_contract_is_accepted(client: Client, engine: Engine) -> None:
    quo = json.dumps({"id": "EV1", "type": "message.received", "data": {"resource": {"id": "AC1"}}}).encode()
    standard = json.dumps({"type": "sale.closed", "data": {"id": "s1"}}).encode()
    quo_headers = sign_standard(quo, QUO_SECRET.encode(), webhook_id="msg_1", now=utc_now())
    standard_headers = sign_standard(standard, QUO_SECRET.encode(), webhook_id="msg_2", now=utc_now())
    answers = [
        post_order(client),
        post_charge(client),
        client.post("/webhooks/openphone/acme", data=quo, headers=quo_headers),
        client.post("/webhooks/standard/acme/till", data=standard, headers=standard_headers),
    ]
    assert [a.status_code for a in answers] == [200] * 4
    assert {(e.provider, e.delivery_key) for e in stored(engine)} == {
        ("shopify", "w-1"), ("stripe", "evt_1"), ("openphone", "msg_1"), ("standard:till", "msg_2"),
    }  # fmt: skip


def test_a_flipped_byte_is_refused_and_nothing_is_stored(client: Client, engine: Engine) -> None:
    headers = sign_shopify(
        ORDER,
        SHOPIFY_SECRET.encode(),
        topic="orders/create",
        webhook_id="w",
        domain="acme.myshopify.com",
    )
    flipped = bytes([ORDER[0] ^ 1]) + ORDER[1:]
    answer = client.post("/webhooks/shopify/acme", data=flipped, headers=headers)
    assert (answer.status_code, answer.json) == (401, {"error": "invalid_signature"})
    assert stored(engine) == []


@pytest.mark.parametrize("age", [timedelta(seconds=400), timedelta(days=2)])
def test_a_stale_stripe_signature_is_refused(client: Client, engine: Engine, age: timedelta) -> None:
    answer = post_charge(client, at=utc_now() - age)
    assert (answer.status_code, answer.json) == (401, {"error": "invalid_signature"})
    assert stored(engine) == []


def test_secret_of_one_shop_is_refused_at_another(client: Client, engine: Engine) -> None:
    assert post_order(client, shop="nobody").status_code == 404
    assert post_order(client, shop="nobody").json == {"error": "unknown_shop"}
    assert stored(engine) == []


def test_a_signed_body_that_cannot_be_read_is_kept(client: Client, engine: Engine) -> None:
    answer = post_order(client, body=b"<html>not json")
    assert answer.status_code == 200
    with transaction(engine) as tx:
        (work,) = rows_of(tx)
    assert (work["status"], work["error_code"]) == ("dead", "unreadable")


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/webhooks/shopify/acme", 405, "method_not_allowed"),
        ("POST", "/webhooks/fax/acme", 404, "not_found"),
        ("POST", "/webhooks/shopify", 404, "not_found"),
        ("POST", "/webhooks/standard/acme", 404, "not_found"),
    ],
)
def test_request_that_is_no_webhook_has_a_json_error(
    client: Client, method: str, path: str, status: int, error: str
) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.json) == (status, {"error": error})
    assert answer.headers["X-Request-Id"]


def test_a_body_over_five_mebibytes_is_too_large(client: Client, engine: Engine) -> None:
    answer = post_order(client, body=b" " * (5 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json) == (413, {"error": "too_large"})
    assert stored(engine) == []


def test_both_secrets_of_a_rotation_are_good_and_a_third_is_not(
    client: Client, engine: Engine, shop_id: int
) -> None:
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-webhook", "the-new-client-secret", utc_now())
    assert post_order(client, webhook_id="a", secret=SHOPIFY_SECRET).status_code == 200
    assert post_order(client, webhook_id="b", secret="the-new-client-secret").status_code == 200
    assert post_order(client, webhook_id="c", secret="another").status_code == 401


def test_a_refusing_pause_keeps_the_event_with_the_provider(
    client: Client, ingress: Ingress, engine: Engine, shop_id: int
) -> None:
    with transaction(engine) as tx:
        tx.execute(
            text("insert into pauses (shop_id, mode, created_by) values (:shop, 'refuse', 'ada')"),
            {"shop": shop_id},
        )
    deadline = time.monotonic() + 60
    while not ingress.secrets.snapshot.refusals:
        assert time.monotonic() < deadline
        ingress.secrets.reload()

    answer = post_order(client)

    assert (answer.status_code, answer.json) == (503, {"error": "paused"})
    assert int(answer.headers["Retry-After"]) > 0
    assert stored(engine) == []


def test_a_body_without_a_stated_length_is_read_no_further_than_the_limit(client: Client) -> None:
    protocol = RsgiProtocol([b" " * 1024 * 1024] * 9)
    reply = client.send("/webhooks/shopify/acme", protocol, [])
    assert (reply.status_code, reply.json) == (413, {"error": "too_large"})
    assert protocol.read_bytes <= 6 * 1024 * 1024


def test_health_is_served_by_flask_on_the_same_port(client: Client) -> None:
    reply = client.open("/livez", method="GET")
    assert (reply.status_code, reply.json) == (200, {"status": "alive"})
    assert client.open("/nothing-here", method="GET").status_code == 404


def test_other_request_is_answered_in_json_with_a_request_id(client: Client) -> None:
    for method, path, status, error in (
        ("POST", "//webhooks/shopify/acme", 404, "not_found"),
        ("GET", "/nothing-here", 404, "not_found"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("POST", "/webhooks/shopify/" + "a" * 60_000, 414, "uri_too_long"),
    ):
        reply = client.open(path, method=method)
        assert (reply.status_code, reply.json) == (status, {"error": error})
        assert reply.headers["X-Request-Id"]


def test_late_webhook_of_a_removed_shop_is_verified_answered_200_and_not_stored(
    client: Client, ingress: Ingress, engine: Engine
) -> None:
    assert post_order(client).json["status"] == "accepted"
    with transaction(engine) as tx:
        mark_removed(tx, get_shop(tx, "acme"), utc_now(), by="ada", request_id="r")
    ingress.secrets.reload()

    late = post_order(client, webhook_id="w-2")
    forged = post_order(client, webhook_id="w-3", secret="another")

    assert (late.status_code, late.json) == (200, {"status": "ignored"})
    assert post_charge(client).json == {"status": "ignored"}
    assert (forged.status_code, forged.json) == (404, {"error": "unknown_shop"})
    assert len(stored(engine)) == 1
    ingress.stats.flush()
    with transaction(engine) as tx:
        counted = tx.execute(text("select shop, provider from request_counts where outcome = 'ignored'"))
        assert set(counted.all()) >= {("acme", "shopify"), ("acme", "stripe")}
