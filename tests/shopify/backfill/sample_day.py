"""A day of a shop as webhooks of Shopify and Stripe, generated from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from services.sandbox.payloads import stripe
from services.sandbox.payloads.catalogue import Item, make_items, make_product, make_shopify_body
from services.sandbox.payloads.orders import make_line, make_order, make_order_update, make_refund
from services.sandbox.payloads.templates import big_id, decimal_text, local_text

MORNING = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
EVENING = MORNING + timedelta(hours=14)
CURRENCY = "CAD"
PLACES = ((65_536_001, "Harbour", "BC"), (65_536_002, "Depot", "ON"))

Body = dict[str, Any]


class Webhook(NamedTuple):
    """One webhook."""

    topic: str
    body: Body
    at: datetime
    provider: str = "shopify"


@dataclass
class Day:
    """A day: every webhook, oldest first."""

    rng: random.Random
    webhooks: list[Webhook] = field(default_factory=list)
    orders: list[Body] = field(default_factory=list)

    def add_webhook(self, topic: str, body: Body, at: datetime) -> None:
        """Add a Shopify webhook."""
        self.webhooks.append(Webhook(topic, body, at))

    def add_stripe_event(self, event_type: str, subject: Body, at: datetime) -> None:
        """Add a Stripe event."""
        event = stripe.make_event(self.rng, event_type, subject, created_at=at)
        self.webhooks.append(Webhook(event_type, event, at, "stripe"))

    def stripe_events(self) -> list[Body]:
        """Return the events as Stripe lists them."""
        return [one.body for one in self.webhooks if one.provider == "stripe"]

    def shopify_webhooks(self) -> list[Body]:
        """Return Shopify's webhooks for the sandbox, without ``orders/edited``, which has no order state."""
        return [
            {"topic": one.topic, "body": one.body}
            for one in self.webhooks
            if one.provider == "shopify" and one.topic != "orders/edited"
        ]


def make_day(seed: int, *, orders: int = 12) -> Day:
    """Return a day: products that change, stock levels, orders with their later events."""
    day = Day(random.Random(seed))
    items = make_items(day.rng, 8)
    _open_shop(day, items)
    for number in range(orders):
        _sell(day, items, number, MORNING + timedelta(minutes=540 * number // orders))
    _count_stock(day, items)
    _pay_out(day)
    day.webhooks.sort(key=lambda one: one.at)
    return day


def _open_shop(day: Day, items: list[Item]) -> None:
    for number, name, province in PLACES:
        place = {
            "id": number, "name": name, "country_code": "CA", "province_code": province, "active": True,
            "created_at": local_text(MORNING), "updated_at": local_text(MORNING),
        }  # fmt: skip
        day.add_webhook("locations/create", place, MORNING)
        if day.rng.random() < 0.5:
            later = MORNING + timedelta(hours=1)
            day.add_webhook(
                "locations/update", place | {"name": f"{name} 2", "updated_at": local_text(later)}, later
            )
    for part in (items[:3], items[3:4], items[4:]):
        day.add_webhook("products/create", make_product(part, updated_at=MORNING, currency=CURRENCY), MORNING)
        if day.rng.random() < 0.7:
            later = MORNING + timedelta(hours=day.rng.randrange(1, 9))
            product = make_product(part, updated_at=later, currency=CURRENCY)
            product["title"] += " (new)"
            product["variants"][0]["sku"] += "-B"
            day.add_webhook("products/update", product, later)
    for item in items:
        for hours in sorted(day.rng.sample(range(10), 2)):
            _add_item_update(day, item, MORNING + timedelta(hours=hours))


def _add_item_update(day: Day, item: Item, at: datetime) -> None:
    body = {
        "id": item.inventory_item_id, "sku": item.sku, "tracked": True,
        "cost": decimal_text(day.rng.randrange(100, 900), CURRENCY),
        "created_at": local_text(MORNING), "updated_at": local_text(at),
    }  # fmt: skip
    day.add_webhook("inventory_items/update", body, at)


def _count_stock(day: Day, items: list[Item]) -> None:
    for item in items:
        for number, _, _ in PLACES[: day.rng.randint(1, 2)]:
            for hours in sorted(day.rng.sample(range(12), day.rng.randint(1, 3))):
                at = MORNING + timedelta(hours=hours, minutes=day.rng.randrange(60))
                place = {"inventory_item_id": item.inventory_item_id, "location_id": number}
                available = day.rng.choice((7, 8, day.rng.randrange(40)))
                level = make_shopify_body("inventory_levels/update", available=available, at=at, **place)
                day.add_webhook("inventory_levels/update", level, at)


def _sell(day: Day, items: list[Item], number: int, at: datetime) -> None:
    """Add an order and its later events."""
    rng = day.rng
    order = _dress(rng, make_order(rng, items, placed_at=at, currency=CURRENCY, number=1001 + number))
    day.orders.append(order)
    waiting = order | {"financial_status": "pending"}
    day.add_webhook("orders/create", waiting, at)
    sale = _transaction(rng, order, "sale", order["total_price"], at)
    day.add_webhook("order_transactions/create", sale, at)
    _take_money(day, order, at)
    # Paid within the same second, as at a counter; or 40 seconds later.
    paid_at = at if rng.random() < 0.5 else at + timedelta(seconds=40)
    order = waiting | {"financial_status": "paid", "updated_at": local_text(paid_at)}
    day.add_webhook("orders/paid", order, paid_at)
    for step in rng.sample(("edit", "ship", "refund", "cancel"), rng.randint(0, 3)):
        at += timedelta(minutes=rng.randrange(5, 90))
        order = _STEPS[step](day, items, order, at)


def _take_money(day: Day, order: Body, at: datetime) -> None:
    """Add the Stripe events of an order's payment."""
    rng = day.rng
    cents = int(order["total_price"].replace(".", ""))
    charge = stripe.make_charge(
        rng,
        amount_cents=cents,
        currency=CURRENCY,
        created_at=at,
        order_gid=order["admin_graphql_api_id"],
        status=rng.choice(("succeeded", "succeeded", "failed")),
    )
    word = "succeeded" if charge["paid"] else "payment_failed"
    day.add_stripe_event(f"payment_intent.{word}", stripe.make_payment_intent(charge), at)
    day.add_stripe_event("charge.succeeded" if charge["paid"] else "charge.failed", charge, at)
    if charge["paid"] and rng.random() < 0.5:
        at += timedelta(minutes=30)
        refund = stripe.make_refund(rng, charge, amount_cents=cents // 3, created_at=at)
        charge = stripe.make_refunded_charge(charge, cents // 3)
        day.add_stripe_event("charge.refunded", charge, at)
        day.add_stripe_event("refund.created", refund, at)
    if charge["paid"] and rng.random() < 0.3:
        at += timedelta(minutes=30)
        dispute = stripe.make_dispute(rng, charge, created_at=at)
        day.add_stripe_event("charge.dispute.created", dispute, at)
        at += timedelta(minutes=30)
        day.add_stripe_event("charge.dispute.closed", dispute | {"status": "lost"}, at)


def _pay_out(day: Day) -> None:
    at = MORNING + timedelta(hours=10)
    for cents in (120_00, -7_50):
        payout = stripe.make_payout(
            day.rng, amount_cents=cents, currency=CURRENCY, created_at=at, arrives_at=at, status="in_transit"
        )
        day.add_stripe_event("payout.created", payout, at)
        day.add_stripe_event("payout.paid", payout | {"status": "paid"}, at + timedelta(hours=1))


def _edit(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    more = make_line(day.rng, day.rng.choice(items), quantity=1, currency=CURRENCY)
    order = make_order_update(order, updated_at=at, line_items=[*order["line_items"], more])
    day.add_webhook("orders/edited", {"order_edit": {"order_id": order["id"]}}, at)
    day.add_webhook("orders/updated", order, at)
    return order


def _ship(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    del items
    parcel = {
        "id": big_id(day.rng), "order_id": order["id"], "status": "success", "shipment_status": None,
        "location_id": PLACES[0][0], "created_at": local_text(at), "updated_at": local_text(at),
        "line_items": [{"id": line["id"], "quantity": line["quantity"]} for line in order["line_items"]],
    }  # fmt: skip
    day.add_webhook("fulfillments/create", parcel, at)
    order = make_order_update(order, updated_at=at, fulfillment_status="fulfilled")
    day.add_webhook("orders/fulfilled", order, at)
    if day.rng.random() < 0.7:
        at += timedelta(minutes=3)
        day.add_webhook(
            "fulfillments/update",
            parcel | {"shipment_status": "in_transit", "updated_at": local_text(at)},
            at,
        )
        order = make_order_update(order, updated_at=at)
        day.add_webhook("orders/updated", order, at)
    return order


def _refund(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    del items
    refund = make_refund(day.rng, order, refunded_at=at, restock=day.rng.random() < 0.5)
    line = refund["refund_line_items"][0]
    tax = decimal_text(day.rng.randrange(200), CURRENCY)
    line["total_tax"], line["total_tax_set"] = float(tax), _set(tax)
    shipping, shipping_tax = "5.00", "0.60"
    refund["refund_shipping_lines"] = [
        {"id": big_id(day.rng), "subtotal_amount_set": _set(shipping), "tax_amount_set": _set(shipping_tax)}
    ]
    refund["order_adjustments"] = [
        {"kind": "shipping_refund", "amount": f"-{shipping}", "tax_amount": f"-{shipping_tax}"}
    ]
    day.add_webhook("refunds/create", refund, at)
    for paid in refund["transactions"]:
        day.add_webhook("order_transactions/create", paid, at)
    order = make_order_update(order, updated_at=at, financial_status="partially_refunded")
    day.add_webhook("orders/updated", order, at)
    return order


def _cancel(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    del items
    order = make_order_update(order, updated_at=at, cancelled=True)
    day.add_webhook("orders/cancelled", order, at)
    return order


_STEPS = {"edit": _edit, "ship": _ship, "refund": _refund, "cancel": _cancel}


def _dress(rng: random.Random, order: Body) -> Body:
    """Return the order with taxes, a discount, a mechanic and an address in Canada."""
    lines = [
        line
        | {
            "tax_lines": [_tax("GST", 0.05, rng.randrange(1, 300)), _tax("PST", 0.07, rng.randrange(1, 300))],
            "discount_allocations": [{"amount": "1.00", "amount_set": _set("1.00")}]
            if rng.random() < 0.3
            else [],
            "properties": [{"name": "Mechanic", "value": rng.choice(("Ada", "Ben"))}]
            if rng.random() < 0.5
            else [],
        }
        for line in order["line_items"]
    ]
    shipping = {
        "id": big_id(rng), "title": "Post", "price": "12.00", "price_set": _set("12.00"),
        "discounted_price": "12.00", "discounted_price_set": _set("12.00"),
        "tax_lines": [_tax("GST", 0.05, 60)],
    }  # fmt: skip
    total_tax = decimal_text(rng.randrange(100, 900), CURRENCY)
    return order | {
        "line_items": lines,
        "shipping_lines": [shipping] if rng.random() < 0.7 else [],
        "total_tax": total_tax,
        "total_tax_set": _set(total_tax),
        "subtotal_price_set": _set(order["subtotal_price"]),
        "total_discounts_set": _set(order["total_discounts"]),
        "note_attributes": [{"name": "served by", "value": "Cid"}] if rng.random() < 0.3 else [],
        "shipping_address": {"country_code": "CA", "province_code": rng.choice(("BC", "ON", "AB"))},
        "billing_address": {"country_code": "CA", "province_code": "QC"},
        "location_id": PLACES[0][0] if rng.random() < 0.3 else None,
    }


def _transaction(rng: random.Random, order: Body, kind: str, amount: str, at: datetime) -> Body:
    charge = f"ch_{rng.randrange(10**9):09d}"
    return {
        "id": big_id(rng), "order_id": order["id"], "kind": kind, "status": "success", "gateway": "stripe",
        "amount": amount, "currency": CURRENCY, "authorization": charge,
        "payment_id": f"#{rng.randrange(9)}.1",
        "receipt": {"id": charge}, "parent_id": None, "created_at": local_text(at),
        "processed_at": local_text(at),
    }  # fmt: skip


def _tax(title: str, rate: float, cents: int) -> Body:
    price = decimal_text(cents, CURRENCY)
    return {"title": title, "rate": rate, "price": price, "price_set": _set(price)}


def _set(amount: str) -> Body:
    money = {"amount": amount, "currency_code": CURRENCY}
    return {"shop_money": money, "presentment_money": money}


def drop_a_third(day: Day, seed: int) -> Iterator[Webhook]:
    """Yield two thirds of the day's webhooks, in random order."""
    rng = random.Random(seed)
    kept = [one for one in day.webhooks if rng.random() >= 1 / 3]
    rng.shuffle(kept)
    yield from kept
