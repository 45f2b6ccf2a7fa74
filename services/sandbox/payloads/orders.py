"""Bodies of Shopify webhooks about orders, refunds, payments and parcels. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from services.sandbox.payloads.catalogue import Item
from services.sandbox.payloads.templates import (
    Body,
    big_id,
    decimal_text,
    local_text,
    make,
    minor_units,
    money_set,
)

_PEOPLE = (
    ("Ada", "Ferreira"),
    ("Ben", "Okafor"),
    ("Cid", "Lindqvist"),
    ("Dagny", "Ó Súilleabháin"),
    ("恵", "佐藤"),
)
_NOTES = (None, "Please leave at the door", "Gift – no prices, please")


def make_order(
    rng: random.Random,
    items: Sequence[Item],
    *,
    placed_at: datetime,
    currency: str = "USD",
    zone: tzinfo = UTC,
    number: int = 1001,
) -> Body:
    """Return the body of ``orders/create``: one to four lines, paid, 2 to 6 KB."""
    order_id = big_id(rng)
    chosen = rng.sample(list(items), k=min(len(items), rng.randint(1, 4)))
    lines = [make_line(rng, item, quantity=rng.randint(1, 3), currency=currency) for item in chosen]
    subtotal = sum(item.price_cents * line["quantity"] for item, line in zip(chosen, lines, strict=True))
    shipping = rng.choice((0, 5, 12)) * 100
    first_name, last_name = rng.choice(_PEOPLE)
    return make(
        "shopify", "orders/create", rng, order_id=order_id, lines=lines, at=placed_at, zone=zone,
        currency=currency, subtotal=subtotal, shipping=shipping, total=subtotal + shipping,
        first_name=first_name, last_name=last_name, email=f"customer{number}@example.com",
        customer_id=big_id(rng), ip=rng.randrange(1, 255), accepts_marketing=rng.random() < 0.5,
        note=rng.choice(_NOTES), number=number, number_from_1=number - 1000, grams=100 * len(lines),
    )  # fmt: skip


def make_line(rng: random.Random, item: Item, *, quantity: int, currency: str) -> Body:
    return make("shopify", "_line", rng, item=item, quantity=quantity, currency=currency)


def make_order_update(order: Body, *, updated_at: datetime, cancelled: bool = False, **changed: Any) -> Body:
    """Return the body of ``orders/updated`` or ``orders/cancelled``; ``order`` itself does not change."""
    at = local_text(updated_at, _zone_of(order))
    if cancelled:
        changed = {"cancelled_at": at, "cancel_reason": "customer", "financial_status": "voided"} | changed
    return order | {"updated_at": at} | changed


def make_refund(
    rng: random.Random, order: Body, *, refunded_at: datetime, restock: bool = True, **more: Any
) -> Body:
    """Return the body of ``refunds/create``: one unit of the first line; ``more``: location_id, user_id."""
    first = order["line_items"][0]
    line = _as_ordered(first)
    more = {"location_id": 65_536_001} | more
    return make(
        "shopify", "refunds/create", rng, order=order, line=line, at=refunded_at, zone=_zone_of(order),
        currency=order["currency"], restock=restock, restock_type="return" if restock else "no_restock",
        refund_location=more["location_id"] if restock else None, price_number=float(line["price"]), **more,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tax:
    """A sales tax, such as "GST" at Decimal("0.05")."""

    title: str
    rate: Decimal


GST_AND_PST = (Tax("GST", Decimal("0.05")), Tax("PST", Decimal("0.07")))


def make_taxed_order(
    rng: random.Random,
    items: Sequence[Item],
    *,
    placed_at: datetime,
    taxes: Sequence[Tax] = GST_AND_PST,
    mechanic: str = "",
    discount_cents: int = 0,
    currency: str = "CAD",
    **more: Any,
) -> Body:
    """Return the body of ``orders/create`` with addresses, a taxed shipping line and taxes on every line.

    ``discount_cents`` are spread over the lines; ``mechanic`` is a property of each. Taxes are added to the
    prices and rounded half up, per line and tax. ``more``: zone, number.
    """
    order = make_order(rng, items, placed_at=placed_at, currency=currency, **more)
    lines = [dict(line) for line in order["line_items"]]
    full = [minor_units(line["price"], currency) * line["quantity"] for line in lines]
    discounts = _spread(min(discount_cents, sum(full)), full)
    shipping = minor_units(order["total_shipping_price_set"]["shop_money"]["amount"], currency)
    for line, before, discount in zip(lines, full, discounts, strict=True):
        line["tax_lines"] = [_tax_line(tax, _tax_cents(tax, before - discount), currency) for tax in taxes]
        allocation = {**_money("amount", discount, currency), "discount_application_index": 0}
        line["discount_allocations"] = [allocation] if discount else []
        line["properties"] = [{"name": "mechanic", "value": mechanic}] if mechanic else []
    shipping_taxes = [_tax_line(tax, _tax_cents(tax, shipping), currency) for tax in taxes]
    shipping_line = make(
        "shopify", "_shipping_line", rng, shipping=shipping, currency=currency, tax_lines=shipping_taxes
    )
    taxed = [*lines, shipping_line]
    totals = [
        sum(minor_units(line["tax_lines"][place]["price"], currency) for line in taxed)
        for place in range(len(taxes))
    ]
    subtotal, discount, tax_total = sum(full) - sum(discounts), sum(discounts), sum(totals)
    address = make("shopify", "_address", rng, customer=order["customer"])
    amounts = {
        "subtotal_price": subtotal,
        "current_subtotal_price": subtotal,
        "total_discounts": discount,
        "total_tax": tax_total,
        "total_price": subtotal + shipping + tax_total,
        "current_total_price": subtotal + shipping + tax_total,
    }
    for name, cents in amounts.items():
        order |= _money(name, cents, currency)
    value = decimal_text(discount, currency)
    code = {"code": "WELCOME", "amount": value, "type": "fixed_amount"}
    application = {
        "allocation_method": "across", "target_selection": "all", "target_type": "line_item",
        "type": "discount_code", "code": "WELCOME", "value_type": "fixed_amount", "value": value,
    }  # fmt: skip
    return order | {
        "line_items": lines,
        "shipping_lines": [shipping_line],
        "tax_lines": [_tax_line(tax, cents, currency) for tax, cents in zip(taxes, totals, strict=True)],
        "shipping_address": address,
        "billing_address": address,
        "discount_codes": [code] if discount else [],
        "discount_applications": [application] if discount else [],
    }


def make_order_transaction(
    rng: random.Random,
    order: Body,
    *,
    processed_at: datetime,
    payment_ref: str = "",
    **more: Any,
) -> Body:
    """Return the body of ``order_transactions/create``, for the total of ``order``.

    ``payment_ref`` is the payment provider's own id, such as Stripe's ``ch_...``. ``more``: kind (default
    sale), status (success), gateway (stripe), parent_id.
    """
    values = {"kind": "sale", "status": "success", "gateway": "stripe", "parent_id": None} | more
    return make(
        "shopify", "order_transactions/create", rng, order=order, at=processed_at, zone=_zone_of(order),
        currency=order["currency"], amount=order["total_price"], payment_ref=payment_ref or None, **values,
    )  # fmt: skip


def make_fulfillment(
    rng: random.Random,
    order: Body,
    *,
    updated_at: datetime,
    location_id: int | None = None,
    **more: Any,
) -> Body:
    """Return the body of ``fulfillments/create``; ``more``: status, shipment_status, fulfillment_id."""
    lines = [_as_ordered(line) for line in order["line_items"]]
    values = {"status": "success", "shipment_status": None, "location_id": location_id} | more
    return make(
        "shopify", "fulfillments/create", rng, order=order, at=updated_at, zone=_zone_of(order),
        lines=lines, **values,
    )  # fmt: skip


def _zone_of(order: Body) -> tzinfo:
    return datetime.fromisoformat(order["updated_at"]).tzinfo or UTC


def _spread(cents: int, over: Sequence[int]) -> list[int]:
    """Return ``cents`` shared in proportion to ``over``; the last share gets the rounding difference."""
    total = sum(over) or 1
    shares = [cents * part // total for part in over]
    shares[-1] += cents - sum(shares)
    return shares


def _tax_cents(tax: Tax, base_cents: int) -> int:
    return int((Decimal(base_cents) * tax.rate).quantize(Decimal(1), ROUND_HALF_UP))


def _tax_line(tax: Tax, cents: int, currency: str) -> Body:
    price = _money("price", cents, currency)
    return {"title": tax.title, "rate": float(tax.rate), **price, "channel_liable": False}


def _money(name: str, cents: int, currency: str) -> Body:
    return {name: decimal_text(cents, currency), f"{name}_set": money_set(cents, currency)}


def _as_ordered(line: Body) -> Body:
    return {name: value for name, value in line.items() if name != "current_quantity"}
