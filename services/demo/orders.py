"""One shop's day, as the webhooks that Shopify, Stripe, Quo and mail servers send. Pure."""

import random
from datetime import datetime, timedelta
from typing import Any

from services.demo.delivery import Delivery
from services.demo.shops import LOCATION_ID, DemoShop
from services.sandbox.payloads import stripe as stripe_payloads
from services.sandbox.payloads.catalogue import make_product, make_shopify_body
from services.sandbox.payloads.mails import make_mail
from services.sandbox.payloads.orders import make_order, make_order_update, make_refund
from services.sandbox.payloads.quo import make_message
from services.sandbox.payloads.templates import dump, minor_units, uuid_text

OPEN_HOURS = (8, 20)
ORDERS_PER_MAIL = 8
STOCK_AT_OPENING = 5000
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class ShopDay:
    """Makes one shop's webhooks of the day from ``begins``, at least 1 s apart for each object."""

    def __init__(
        self, shop: DemoShop, begins: datetime, rng: random.Random, first_number: int = 1001
    ) -> None:
        self.shop, self.begins, self._rng = shop, begins, rng
        self.deliveries: list[Delivery] = []
        self.charges: list[dict[str, Any]] = []
        self._number = first_number

    def open(self) -> None:
        """Add Shopify's webhooks of products and stock, before the first order."""
        product = make_product(
            self.shop.items, updated_at=self.begins, currency=self.shop.currency, zone=self.shop.zone
        )
        self.shopify("products/update", product, self.begins)
        for place in range(len(self.shop.items)):
            self.count_stock(place, STOCK_AT_OPENING, self.begins, is_news=True)

    def count_stock(self, place: int, available: int, at: datetime, *, is_news: bool) -> None:
        """Add a count of a level. Without ``is_news`` its webhook arrives after that of a newer count."""
        item = self.shop.items[place]
        level = make_shopify_body(
            "inventory_levels/update",
            inventory_item_id=item.inventory_item_id,
            location_id=LOCATION_ID,
            available=available,
            at=at,
            zone=self.shop.zone,
        )
        held = {name: level[name] for name in ("inventory_item_id", "location_id", "available")}
        before = {"shop": self.shop.domain, "levels": [held]} if is_news else None
        self.shopify("inventory_levels/update", level, at if is_news else at + HOUR, before=before)

    def sell(self, orders: int) -> None:
        """Add ``orders`` orders over the opening hours, with their payments, refunds and messages."""
        opens, closes = OPEN_HOURS
        for place in range(orders):
            at = self.begins + opens * HOUR + place * (closes - opens) * HOUR / orders
            self._order(at.replace(microsecond=0))
            if self._rng.random() < 0.25:
                self.message(at + MINUTE)
            if place % ORDERS_PER_MAIL == 1:
                self.mail(at + 2 * MINUTE)

    def shopify(self, topic: str, body: dict[str, Any] | bytes, at: datetime, **more: Any) -> None:
        """Add a webhook of Shopify; ``more``: fault, before."""
        self._add("shopify", topic, body, at, **more)

    def stripe(self, kind: str, subject: dict[str, Any], at: datetime, *, fault: str = "") -> None:
        event = stripe_payloads.make_event(self._rng, kind, subject, created_at=at)
        self._add("stripe", kind, event, at, fault=fault)

    def _add(
        self, provider: str, topic: str, body: dict[str, Any] | bytes, at: datetime, **more: Any
    ) -> None:
        data = body if isinstance(body, bytes) else dump(body)
        slug, webhook_id = self.shop.slug, uuid_text(self._rng)
        self.deliveries.append(
            Delivery(
                shop=slug, provider=provider, topic=topic, body=data, webhook_id=webhook_id, at=at, **more
            )
        )

    def message(self, at: datetime, *, fault: str = "") -> None:
        """Add a customer's message, in the format of Quo that this shop uses."""
        provider = "openphone" if self.shop.legacy_quo else "quo"
        body = make_message(self._rng, sent_at=at, provider=provider)
        self._add(provider, "message.received", body, at, fault=fault)

    def mail(self, at: datetime) -> None:
        """Add a customer's mail, as the shop gets it: from Resend, or from its own mail server."""
        recipient = f"hello@{self.shop.slug}.example"
        provider, topic = ("resend", "email.received") if self.shop.legacy_quo else ("standard", "mail")
        body = make_mail(self._rng, sent_at=at, recipient=recipient, provider=provider)
        self._add(provider, topic, body, at)

    def charge(self, cents: int, at: datetime, status: str = "succeeded") -> dict[str, Any]:
        charge = stripe_payloads.make_charge(
            self._rng, amount_cents=cents, currency=self.shop.currency, created_at=at, status=status
        )
        self.charges.append(charge)
        return charge

    def _order(self, at: datetime) -> None:
        rng = self._rng
        order = make_order(
            rng, self.shop.items, placed_at=at, currency=self.shop.currency, zone=self.shop.zone,
            number=self._number,
        )  # fmt: skip
        self._number += 1
        paid_at = at
        if rng.random() < 0.25:
            self.shopify("orders/create", order | {"financial_status": "pending"}, at)
            paid_at = at + 90 * SECOND
            self.shopify("orders/paid", make_order_update(order, updated_at=paid_at), paid_at)
        else:
            self.shopify("orders/create", order, at)
        if rng.random() < 0.06:
            declined = self.charge(minor_units(order["total_price"], self.shop.currency), at, "failed")
            self.stripe("charge.failed", declined, at + SECOND)
        charge = self.charge(minor_units(order["total_price"], self.shop.currency), paid_at)
        self.stripe("charge.succeeded", charge, paid_at + SECOND)
        self.stripe("payment_intent.succeeded", stripe_payloads.make_payment_intent(charge), paid_at + SECOND)
        outcome = rng.random()
        if outcome < 0.12:
            self._refund(order, charge, at + HOUR)
        elif outcome < 0.18:
            cancelled = make_order_update(order, updated_at=at + 20 * MINUTE, cancelled=True)
            self.shopify("orders/cancelled", cancelled, at + 20 * MINUTE)
        elif outcome < 0.38:
            changed = make_order_update(order, updated_at=at + 10 * MINUTE, note="Call before delivery")
            self.shopify("orders/updated", changed, at + 10 * MINUTE)

    def _refund(self, order: dict[str, Any], charge: dict[str, Any], at: datetime) -> None:
        rng = self._rng
        refund = make_refund(rng, order, refunded_at=at, restock=rng.random() < 0.7, location_id=LOCATION_ID)
        cents = minor_units(refund["transactions"][0]["amount"], self.shop.currency)
        self.shopify("refunds/create", refund, at)
        changed = make_order_update(order, updated_at=at + SECOND, financial_status="partially_refunded")
        self.shopify("orders/updated", changed, at + SECOND)
        self.stripe("charge.refunded", stripe_payloads.make_refunded_charge(charge, cents), at + 2 * SECOND)
        refunded = stripe_payloads.make_refund(rng, charge, amount_cents=cents, created_at=at + 2 * SECOND)
        self.stripe("refund.created", refunded, at + 2 * SECOND)
