"""Webhooks signed by other libraries are accepted by the ingress, and refused with one byte changed."""

import importlib
import json
from collections.abc import Mapping
from datetime import datetime

import pytest
from sqlalchemy import Engine, text
from stripe import WebhookSignature

from services.core.clock import utc_now
from services.core.db import transaction
from tests.ingress.conftest import QUO_SECRET, SHOPIFY_SECRET, STRIPE_SECRET
from tests.ingress.rsgi import Client
from tests.interop import test_node_libraries as node

run_node = node.run_node

CHARGE = {
    "id": "evt_9",
    "object": "event",
    "type": "charge.succeeded",
    "created": 1,
    "data": {"object": {"id": "ch_9"}},
}
ORDER = {"id": 2**53 + 9, "admin_graphql_api_id": f"gid://shopify/Order/{2**53 + 9}"}
MESSAGE = {"id": "EV9", "type": "message.received", "data": {"resource": {"id": "AC9"}}}


def check(client: Client, engine: Engine, path: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Check that ``body`` is accepted and stored, and refused with its last byte changed."""
    assert client.post(path, data=body[:-1] + b" ", headers=headers).status_code == 401
    answer = client.post(path, data=body, headers=headers)
    assert (answer.status_code, answer.json["status"]) == (200, "accepted")
    with transaction(engine) as tx:
        (stored,) = tx.execute(text("select body from inbound_events")).scalars()
    assert bytes(stored) == body


def test_stripes_own_library(client: Client, engine: Engine) -> None:
    body = json.dumps(CHARGE)
    header = WebhookSignature.generate_signature_header(body, STRIPE_SECRET)
    check(client, engine, "/webhooks/stripe/acme", body.encode(), {"Stripe-Signature": header})


@pytest.mark.parametrize("library", ["standardwebhooks", "svix.webhooks"])
@pytest.mark.parametrize("path", ["/webhooks/openphone/acme", "/webhooks/standard/acme/till"])
def test_standard_webhooks_libraries(client: Client, engine: Engine, library: str, path: str) -> None:
    body, now = json.dumps(MESSAGE), utc_now()
    sign = importlib.import_module(library).Webhook  # to import svix takes 1.7 s
    headers = {
        "webhook-id": "msg_9",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": sign(QUO_SECRET).sign(
            "msg_9", datetime.fromtimestamp(int(now.timestamp()), now.tzinfo), body
        ),
    }
    check(client, engine, path, body.encode(), headers)


@pytest.mark.parametrize("provider", ["shopify", "stripe"])
def test_shopifys_and_stripes_own_node_packages(
    client: Client,
    engine: Engine,
    run_node: node.RunNode,
    provider: str,
) -> None:
    body = json.dumps(ORDER if provider == "shopify" else CHARGE).encode()
    secret = SHOPIFY_SECRET if provider == "shopify" else STRIPE_SECRET
    headers = run_node("sign", provider, secret, body)
    check(client, engine, f"/webhooks/{provider}/acme", body, headers)  # type: ignore[arg-type]
