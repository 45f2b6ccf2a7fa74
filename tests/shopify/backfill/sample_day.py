"""A shop's day in webhooks: what Shopify and Stripe would have sent, made up from a seed."""

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
    """A day as it was: every webhook, oldest first."""

    rng: random.Random
    webhooks: list[Webhook] = field(default_factory=list)
    orders: list[Body] = field(default_factory=list)

    def tell(self, topic: str, body: Body, at: datetime) -> None:
        """Shopify sends this."""
        self.webhooks.append(Webhook(topic, body, at))

    def charge(self, event_type: str, subject: Body, at: datetime) -> None:
        """Stripe sends this."""
        event = stripe.make_event(self.rng, event_type, subject, created_at=at)
        self.webhooks.append(Webhook(event_type, event, at, "stripe"))

    def told_by_stripe(self) -> list[Body]:
        """The events as Stripe lists them."""
        return [one.body for one in self.webhooks if one.provider == "stripe"]

    def told(self) -> list[Body]:
        """Shopify's webhooks as the sandbox takes them; ``orders/edited`` holds no state of an order."""
        return [
            {"topic": one.topic, "body": one.body}
            for one in self.webhooks
            if one.provider == "shopify" and one.topic != "orders/edited"
        ]


def make_day(seed: int, *, orders: int = 12) -> Day:
    """Return a day: goods that change, stock that is counted, orders with all that becomes of them."""
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
        day.tell("locations/create", place, MORNING)
        if day.rng.random() < 0.5:
            later = MORNING + timedelta(hours=1)
            day.tell(
                "locations/update", place | {"name": f"{name} 2", "updated_at": local_text(later)}, later
            )
    for part in (items[:3], items[3:4], items[4:]):
        day.tell("products/create", make_product(part, updated_at=MORNING, currency=CURRENCY), MORNING)
        if day.rng.random() < 0.7:
            later = MORNING + timedelta(hours=day.rng.randrange(1, 9))
            product = make_product(part, updated_at=later, currency=CURRENCY)
            product["title"] += " (new)"
            product["variants"][0]["sku"] += "-B"
            day.tell("products/update", product, later)
    for item in items:
        for hours in sorted(day.rng.sample(range(10), 2)):
            _tell_item(day, item, MORNING + timedelta(hours=hours))


def _tell_item(day: Day, item: Item, at: datetime) -> None:
    body = {
        "id": item.inventory_item_id, "sku": item.sku, "tracked": True,
        "cost": decimal_text(day.rng.randrange(100, 900), CURRENCY),
        "created_at": local_text(MORNING), "updated_at": local_text(at),
    }  # fmt: skip
    day.tell("inventory_items/update", body, at)


def _count_stock(day: Day, items: list[Item]) -> None:
    for item in items:
        for number, _, _ in PLACES[: day.rng.randint(1, 2)]:
            for hours in sorted(day.rng.sample(range(12), day.rng.randint(1, 3))):
                at = MORNING + timedelta(hours=hours, minutes=day.rng.randrange(60))
                place = {"inventory_item_id": item.inventory_item_id, "location_id": number}
                available = day.rng.choice((7, 8, day.rng.randrange(40)))
                level = make_shopify_body("inventory_levels/update", available=available, at=at, **place)
                day.tell("inventory_levels/update", level, at)


def _sell(day: Day, items: list[Item], number: int, at: datetime) -> None:
    """One order and its fate."""
    rng = day.rng
    order = _dress(rng, make_order(rng, items, placed_at=at, currency=CURRENCY, number=1001 + number))
    day.orders.append(order)
    waiting = order | {"financial_status": "pending"}
    day.tell("orders/create", waiting, at)
    sale = _transaction(rng, order, "sale", order["total_price"], at)
    day.tell("order_transactions/create", sale, at)
    _take_money(day, order, at)
    # Paid within the second in which it was placed, as at a till; or a little later.
    paid_at = at if rng.random() < 0.5 else at + timedelta(seconds=40)
    order = waiting | {"financial_status": "paid", "updated_at": local_text(paid_at)}
    day.tell("orders/paid", order, paid_at)
    for step in rng.sample(("edit", "ship", "refund", "cancel"), rng.randint(0, 3)):
        at += timedelta(minutes=rng.randrange(5, 90))
        order = _FATES[step](day, items, order, at)


def _take_money(day: Day, order: Body, at: datetime) -> None:
    """What Stripe says of an order's payment."""
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
    day.charge(f"payment_intent.{word}", stripe.make_payment_intent(charge), at)
    day.charge("charge.succeeded" if charge["paid"] else "charge.failed", charge, at)
    if charge["paid"] and rng.random() < 0.5:
        at += timedelta(minutes=30)
        refund = stripe.make_refund(rng, charge, amount_cents=cents // 3, created_at=at)
        charge = stripe.make_refunded_charge(charge, cents // 3)
        day.charge("charge.refunded", charge, at)
        day.charge("refund.created", refund, at)
    if charge["paid"] and rng.random() < 0.3:
        at += timedelta(minutes=30)
        dispute = stripe.make_dispute(rng, charge, created_at=at)
        day.charge("charge.dispute.created", dispute, at)
        at += timedelta(minutes=30)
        day.charge("charge.dispute.closed", dispute | {"status": "lost"}, at)


def _pay_out(day: Day) -> None:
    at = MORNING + timedelta(hours=10)
    for cents in (120_00, -7_50):
        payout = stripe.make_payout(
            day.rng, amount_cents=cents, currency=CURRENCY, created_at=at, arrives_at=at, status="in_transit"
        )
        day.charge("payout.created", payout, at)
        day.charge("payout.paid", payout | {"status": "paid"}, at + timedelta(hours=1))


def _edit(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    more = make_line(day.rng, day.rng.choice(items), quantity=1, currency=CURRENCY)
    order = make_order_update(order, updated_at=at, line_items=[*order["line_items"], more])
    day.tell("orders/edited", {"order_edit": {"order_id": order["id"]}}, at)
    day.tell("orders/updated", order, at)
    return order


def _ship(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    del items
    parcel = {
        "id": big_id(day.rng), "order_id": order["id"], "status": "success", "shipment_status": None,
        "location_id": PLACES[0][0], "created_at": local_text(at), "updated_at": local_text(at),
        "line_items": [{"id": line["id"], "quantity": line["quantity"]} for line in order["line_items"]],
    }  # fmt: skip
    day.tell("fulfillments/create", parcel, at)
    order = make_order_update(order, updated_at=at, fulfillment_status="fulfilled")
    day.tell("orders/fulfilled", order, at)
    if day.rng.random() < 0.7:
        at += timedelta(minutes=3)
        day.tell(
            "fulfillments/update",
            parcel | {"shipment_status": "in_transit", "updated_at": local_text(at)},
            at,
        )
        order = make_order_update(order, updated_at=at)
        day.tell("orders/updated", order, at)
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
    day.tell("refunds/create", refund, at)
    for paid in refund["transactions"]:
        day.tell("order_transactions/create", paid, at)
    order = make_order_update(order, updated_at=at, financial_status="partially_refunded")
    day.tell("orders/updated", order, at)
    return order


def _cancel(day: Day, items: list[Item], order: Body, at: datetime) -> Body:
    del items
    order = make_order_update(order, updated_at=at, cancelled=True)
    day.tell("orders/cancelled", order, at)
    return order


_FATES = {"edit": _edit, "ship": _ship, "refund": _refund, "cancel": _cancel}


def _dress(rng: random.Random, order: Body) -> Body:
    """Give an order taxes, a discount, a mechanic and a place, as orders of a shop in Canada have them."""
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
    """Yield what arrived: two thirds of the day's webhooks, in no order."""
    rng = random.Random(seed)
    kept = [one for one in day.webhooks if rng.random() >= 1 / 3]
    rng.shuffle(kept)
    yield from kept
