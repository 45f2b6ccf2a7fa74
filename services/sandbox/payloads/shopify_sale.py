"""Bodies of Shopify webhooks about a sale in full: taxes, discounts, who did the work, payments, parcels.

Pure. ``make_order`` of ``shopify_payloads`` makes the plain order that these begin with.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from services.sandbox.payloads.common import big_id, decimal_text, local_text, minor_units, money_set
from services.sandbox.payloads.shopify import make_order
from services.sandbox.shopify.catalogue import Item

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tax:
    """A sales tax as it stands on an order: "GST" at Decimal("0.05")."""

    title: str
    rate: Decimal


GST_AND_PST = (Tax("GST", Decimal("0.05")), Tax("PST", Decimal("0.07")))
"""What British Columbia taxes most goods with."""


def make_taxed_order(
    rng: random.Random,
    items: Sequence[Item],
    *,
    placed_at: datetime,
    taxes: Sequence[Tax] = GST_AND_PST,
    province_code: str = "BC",
    country_code: str = "CA",
    mechanic: str = "",
    discount_cents: int = 0,
    currency: str = "CAD",
    **more: Any,
) -> Body:
    """Return the body of ``orders/create`` with addresses, a taxed shipping line and taxes on every line.

    ``discount_cents`` are spread over the lines; ``mechanic`` is a property of each. Taxes come on top and
    are rounded half up, per line and tax. ``more`` goes to ``make_order`` (zone, number).
    """
    order = make_order(rng, items, placed_at=placed_at, currency=currency, **more)
    lines = [dict(line) for line in order["line_items"]]
    full = [minor_units(line["price"], currency) * line["quantity"] for line in lines]
    discounts = _spread(min(discount_cents, sum(full)), full)
    shipping = minor_units(order["total_shipping_price_set"]["shop_money"]["amount"], currency)
    for line, before, discount in zip(lines, full, discounts, strict=True):
        line["tax_lines"] = [_tax_line(tax, before - discount, currency) for tax in taxes]
        line["discount_allocations"] = [_allocation(discount, currency)] if discount else []
        line["properties"] = [{"name": "mechanic", "value": mechanic}] if mechanic else []
    freight = _shipping_line(rng, shipping, taxes, currency)
    address = _address(order["customer"], province_code, country_code)

    taxed = [*lines, freight]
    totals = [
        sum(minor_units(line["tax_lines"][place]["price"], currency) for line in taxed)
        for place in range(len(taxes))
    ]
    subtotal, tax_total = sum(full) - sum(discounts), sum(totals)
    return (
        order
        | _amount("subtotal_price", subtotal, currency)
        | _amount("current_subtotal_price", subtotal, currency)
        | _amount("total_discounts", sum(discounts), currency)
        | _amount("total_tax", tax_total, currency)
        | _amount("total_price", subtotal + shipping + tax_total, currency)
        | _amount("current_total_price", subtotal + shipping + tax_total, currency)
        | {
            "line_items": lines,
            "shipping_lines": [freight],
            "tax_lines": [
                _tax_line(tax, None, currency, cents) for tax, cents in zip(taxes, totals, strict=True)
            ],
            "shipping_address": address,
            "billing_address": address,
            "discount_codes": _codes(sum(discounts), currency),
            "discount_applications": _applications(sum(discounts), currency),
        }
    )


def make_order_transaction(
    rng: random.Random,
    order: Body,
    *,
    processed_at: datetime,
    payment_ref: str = "",
    kind: str = "sale",
    status: str = "success",
    gateway: str = "stripe",
    amount_cents: int | None = None,
    parent_id: int | None = None,
) -> Body:
    """Return the body of ``order_transactions/create``: all of ``order`` unless ``amount_cents`` is given.

    ``payment_ref`` is the payment provider's own id, such as Stripe's ``ch_...``.
    """
    transaction_id, currency = big_id(rng), order["currency"]
    zone = datetime.fromisoformat(order["updated_at"]).tzinfo or UTC
    at = local_text(processed_at, zone)
    amount = order["total_price"] if amount_cents is None else decimal_text(amount_cents, currency)
    return {
        "id": transaction_id,
        "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{transaction_id}",
        "order_id": order["id"],
        "kind": kind,
        "gateway": gateway,
        "status": status,
        "message": None,
        "created_at": at,
        "test": False,
        "authorization": payment_ref or None,
        "location_id": None,
        "user_id": None,
        "parent_id": parent_id,
        "processed_at": at,
        "device_id": None,
        "error_code": None,
        "source_name": "web",
        "receipt": {},
        "amount": amount,
        "currency": currency,
        "payment_id": f"{order['name']}.1",
        "manual_payment_gateway": False,
    }


def make_fulfillment(
    rng: random.Random,
    order: Body,
    *,
    updated_at: datetime,
    created_at: datetime | None = None,
    location_id: int | None = None,
    status: str = "success",
    shipment_status: str | None = None,
    fulfillment_id: int | None = None,
) -> Body:
    """Return the body of ``fulfillments/create`` or ``update``: all lines of ``order`` in one parcel."""
    number = big_id(rng) if fulfillment_id is None else fulfillment_id
    zone = datetime.fromisoformat(order["updated_at"]).tzinfo or UTC
    lines = [
        {name: value for name, value in line.items() if name != "current_quantity"}
        for line in order["line_items"]
    ]
    return {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/Fulfillment/{number}",
        "order_id": order["id"],
        "status": status,
        "created_at": local_text(created_at or updated_at, zone),
        "service": "manual",
        "updated_at": local_text(updated_at, zone),
        "tracking_company": "Canada Post",
        "shipment_status": shipment_status,
        "location_id": location_id,
        "email": order["email"],
        "name": f"{order['name']}.1",
        "line_items": lines,
    }


def _spread(cents: int, over: Sequence[int]) -> list[int]:
    """Return ``cents`` shared out in proportion to ``over``; what rounding leaves goes to the last."""
    total = sum(over) or 1
    shares = [cents * part // total for part in over]
    shares[-1] += cents - sum(shares)
    return shares


def _tax_line(tax: Tax, base_cents: int | None, currency: str, cents: int | None = None) -> Body:
    if cents is None:
        cents = int((Decimal(base_cents or 0) * tax.rate).quantize(Decimal(1), ROUND_HALF_UP))
    return {
        "title": tax.title,
        "rate": float(tax.rate),
        "price": decimal_text(cents, currency),
        "price_set": money_set(cents, currency),
        "channel_liable": False,
    }


def _shipping_line(rng: random.Random, cents: int, taxes: Sequence[Tax], currency: str) -> Body:
    price, price_set = decimal_text(cents, currency), money_set(cents, currency)
    return {
        "id": big_id(rng),
        "code": "Standard",
        "title": "Standard",
        "source": "shopify",
        "price": price,
        "price_set": price_set,
        "discounted_price": price,
        "discounted_price_set": price_set,
        "is_removed": False,
        "tax_lines": [_tax_line(tax, cents, currency) for tax in taxes],
        "discount_allocations": [],
    }


def _allocation(cents: int, currency: str) -> Body:
    amount = decimal_text(cents, currency)
    return {"amount": amount, "amount_set": money_set(cents, currency), "discount_application_index": 0}


def _codes(cents: int, currency: str) -> list[Body]:
    code = {"code": "WELCOME", "amount": decimal_text(cents, currency), "type": "fixed_amount"}
    return [code] if cents else []


def _applications(cents: int, currency: str) -> list[Body]:
    how = {"allocation_method": "across", "target_selection": "all", "target_type": "line_item"}
    what = {"type": "discount_code", "code": "WELCOME", "value_type": "fixed_amount"}
    return [how | what | {"value": decimal_text(cents, currency)}] if cents else []


def _amount(name: str, cents: int, currency: str) -> Body:
    return {name: decimal_text(cents, currency), f"{name}_set": money_set(cents, currency)}


def _address(customer: Body, province_code: str, country_code: str) -> Body:
    first, last = customer["first_name"], customer["last_name"]
    return {
        "first_name": first,
        "last_name": last,
        "name": f"{first} {last}",
        "company": None,
        "address1": "123 Example Street",
        "address2": None,
        "city": "Example",
        "zip": "V5K 0A1",
        "phone": "+1 604 555 0100",
        "province": province_code,
        "country": country_code,
        "latitude": None,
        "longitude": None,
        "country_code": country_code,
        "province_code": province_code,
    }
