"""A sandbox shop with GraphQL helpers, and the history of one order."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.sandbox.payloads import catalogue, orders
from services.sandbox.shopify.shop import ShopifyShop

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOCATION = 65_536_001


def open_shop(clock=lambda: 0.0, **state):
    shop = ShopifyShop("ada.myshopify.com", clock)
    shop.control(state)
    return shop


def run_query(shop, document, **variables):
    """Run ``document`` and return its data; fail on a GraphQL error."""
    status, body = shop.answer("t", {"query": document, "variables": variables}, NOW)
    assert status == 200
    assert "errors" not in body, body["errors"]
    return body["data"]


def fault(shop, document, **variables):
    """Return the first GraphQL error."""
    return shop.answer("t", {"query": document, "variables": variables}, NOW)[1]["errors"][0]


class History:
    """One order with every kind of change, as webhooks in the order of sending."""

    def __init__(self, seed=1):
        rng = random.Random(seed)
        self.items = catalogue.make_items(rng, 3)
        self.order = orders.make_taxed_order(
            rng, self.items, placed_at=NOW - timedelta(hours=5), mechanic="Ben", discount_cents=500,
            taxes=[*orders.GST_AND_PST, orders.Tax("Levy", Decimal("0.01"))],
        )  # fmt: skip
        self.paid = orders.make_order_transaction(
            rng, self.order, processed_at=NOW - timedelta(hours=5), payment_ref="ch_3abc"
        )
        self.sent = orders.make_fulfillment(
            rng, self.order, updated_at=NOW - timedelta(hours=3), location_id=LOCATION
        )
        self.refund = orders.make_refund(
            rng, self.order, refunded_at=NOW - timedelta(hours=2), location_id=LOCATION
        )
        self.changed = orders.make_order_update(
            self.order, updated_at=NOW - timedelta(hours=2), financial_status="partially_refunded",
            fulfillment_status="fulfilled",
        )  # fmt: skip
        self.product = catalogue.make_product(self.items, updated_at=NOW - timedelta(days=1))
        self.webhooks = [
            ("products/update", self.product),
            ("orders/create", self.order),
            ("order_transactions/create", self.paid),
            ("fulfillments/create", self.sent),
            ("refunds/create", self.refund),
            ("orders/updated", self.changed),
        ]

    def feed(self, shop, webhooks=None):
        fed = self.webhooks if webhooks is None else webhooks
        shop.control({"webhooks": [{"topic": topic, "body": body} for topic, body in fed]})
