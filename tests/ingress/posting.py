"""Signed webhooks to post, and the stored events."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.providers.shopify import sign_shopify
from services.providers.stripe import sign_stripe
from tests.ingress.conftest import SHOPIFY_SECRET, STRIPE_SECRET
from tests.ingress.rsgi import Client, Reply

ORDER = json.dumps({"id": 2**53 + 1, "admin_graphql_api_id": f"gid://shopify/Order/{2**53 + 1}"}).encode()
CHARGE = json.dumps(
    {
        "id": "evt_1",
        "object": "event",
        "type": "charge.succeeded",
        "created": 1,
        "data": {"object": {"id": "ch_1"}},
    }
).encode()


def post_order(
    client: Client,
    *,
    body: bytes = ORDER,
    webhook_id: str = "w-1",
    secret: str = SHOPIFY_SECRET,
    shop: str = "acme",
) -> Reply:
    headers = sign_shopify(
        body, secret.encode(), topic="orders/create", webhook_id=webhook_id, domain="acme.myshopify.com"
    )
    return client.post(f"/webhooks/shopify/{shop}", data=body, headers=headers)


def post_charge(client: Client, *, body: bytes = CHARGE, at: datetime | None = None) -> Reply:
    headers = sign_stripe(body, STRIPE_SECRET.encode(), now=at or utc_now())
    return client.post("/webhooks/stripe/acme", data=body, headers=headers)


def stored(engine: Engine) -> list[Any]:
    with transaction(engine) as tx:
        return list(
            tx.execute(text("select id, provider, topic, delivery_key, body, request_id from inbound_events"))
        )
