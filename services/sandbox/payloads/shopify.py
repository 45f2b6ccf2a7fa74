"""Bodies of Shopify webhooks about orders and refunds, made up. Pure."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from services.sandbox.payloads.common import big_id, decimal_text, local_text, money_set, token
from services.sandbox.shopify.catalogue import Item

_PEOPLE = (
    ("Ada", "Ferreira"),
    ("Ben", "Okafor"),
    ("Cid", "Lindqvist"),
    ("Dagny", "Ó Súilleabháin"),
    ("恵", "佐藤"),
)


def make_order(
    rng: random.Random,
    items: Sequence[Item],
    *,
    placed_at: datetime,
    currency: str = "USD",
    zone: tzinfo = UTC,
    number: int = 1001,
) -> dict[str, Any]:
    """Return the body of ``orders/create``: one to four lines, paid, 2 to 6 KB."""
    order_id = big_id(rng)
    chosen = rng.sample(list(items), k=min(len(items), rng.randint(1, 4)))
    lines = [make_line(rng, item, quantity=rng.randint(1, 3), currency=currency) for item in chosen]
    subtotal = sum(item.price_cents * line["quantity"] for item, line in zip(chosen, lines, strict=True))
    shipping = rng.choice((0, 5, 12)) * 100
    first, last = rng.choice(_PEOPLE)
    at = local_text(placed_at, zone)

    return {
        "id": order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{order_id}",
        "app_id": 580111,
        "browser_ip": f"203.0.113.{rng.randrange(1, 255)}",
        "buyer_accepts_marketing": rng.random() < 0.5,
        "cancel_reason": None,
        "cancelled_at": None,
        "cart_token": token(rng, "", 32),
        "checkout_token": token(rng, "", 32),
        "closed_at": None,
        "confirmation_number": token(rng, "", 9).upper(),
        "confirmed": True,
        "contact_email": f"customer{number}@example.com",
        "created_at": at,
        "currency": currency,
        "current_subtotal_price": decimal_text(subtotal, currency),
        "current_total_price": decimal_text(subtotal + shipping, currency),
        "current_total_price_set": money_set(subtotal + shipping, currency),
        "customer_locale": "en",
        "discount_applications": [],
        "discount_codes": [],
        "email": f"customer{number}@example.com",
        "estimated_taxes": False,
        "financial_status": "paid",
        "fulfillment_status": None,
        "name": f"#{number}",
        "note": rng.choice((None, "Please leave at the door", "Gift – no prices, please")),
        "note_attributes": [],
        "number": number - 1000,
        "order_number": number,
        "payment_gateway_names": ["shopify_payments"],
        "phone": None,
        "presentment_currency": currency,
        "processed_at": at,
        "source_name": "web",
        "subtotal_price": decimal_text(subtotal, currency),
        "tags": "",
        "tax_exempt": False,
        "tax_lines": [],
        "taxes_included": False,
        "test": False,
        "token": token(rng, "", 32),
        "total_discounts": decimal_text(0, currency),
        "total_line_items_price": decimal_text(subtotal, currency),
        "total_outstanding": decimal_text(0, currency),
        "total_price": decimal_text(subtotal + shipping, currency),
        "total_price_set": money_set(subtotal + shipping, currency),
        "total_shipping_price_set": money_set(shipping, currency),
        "total_tax": decimal_text(0, currency),
        "total_weight": 100 * len(lines),
        "updated_at": at,
        "user_id": None,
        "customer": _make_customer(rng, first, last, number, at, currency),
        "line_items": lines,
        "refunds": [],
        "fulfillments": [],
        "shipping_lines": [],
    }


def make_line(rng: random.Random, item: Item, *, quantity: int, currency: str) -> dict[str, Any]:
    """Return one entry of ``line_items``."""
    line_id = big_id(rng)
    return {
        "id": line_id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line_id}",
        "current_quantity": quantity,
        "fulfillable_quantity": quantity,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "gift_card": False,
        "grams": 100,
        "name": item.title,
        "price": decimal_text(item.price_cents, currency),
        "price_set": money_set(item.price_cents, currency),
        "product_exists": True,
        "product_id": item.product_id,
        "properties": [],
        "quantity": quantity,
        "requires_shipping": True,
        "sku": item.sku,
        "taxable": True,
        "title": item.title,
        "total_discount": decimal_text(0, currency),
        "variant_id": item.variant_id,
        "variant_inventory_management": "shopify",
        "variant_title": None,
        "vendor": None,
        "tax_lines": [],
        "duties": [],
        "discount_allocations": [],
    }


def make_order_update(
    order: dict[str, Any], *, updated_at: datetime, cancelled: bool = False, **changed: Any
) -> dict[str, Any]:
    """Return the body of ``orders/updated``, or of ``orders/cancelled``; the order itself stays as it was."""
    zone = datetime.fromisoformat(order["updated_at"]).tzinfo or UTC
    at = local_text(updated_at, zone)
    if cancelled:
        changed = {"cancelled_at": at, "cancel_reason": "customer", "financial_status": "voided"} | changed
    return order | {"updated_at": at} | changed


def make_refund(
    rng: random.Random,
    order: dict[str, Any],
    *,
    refunded_at: datetime,
    restock: bool = True,
    location_id: int = 65_536_001,
    user_id: int = 548_380_009,
) -> dict[str, Any]:
    """Return the body of ``refunds/create``: one unit of the order's first line, given back in full."""
    refund_id, line, currency = big_id(rng), order["line_items"][0], order["currency"]
    zone = datetime.fromisoformat(order["updated_at"]).tzinfo or UTC
    at, price = local_text(refunded_at, zone), line["price"]
    transaction_id = big_id(rng)
    transaction = {
        "id": transaction_id,
        "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{transaction_id}",
        "order_id": order["id"],
        "kind": "refund",
        "gateway": "shopify_payments",
        "status": "success",
        "message": None,
        "created_at": at,
        "processed_at": at,
        "test": False,
        "amount": price,
        "currency": currency,
        "parent_id": big_id(rng),
        "source_name": "web",
    }
    refunded_line = {
        "id": big_id(rng),
        "line_item_id": line["id"],
        "location_id": location_id if restock else None,
        "quantity": 1,
        "restock_type": "return" if restock else "no_restock",
        "subtotal": float(price),
        "subtotal_set": line["price_set"],
        "total_tax": 0.0,
        "line_item": {name: value for name, value in line.items() if name != "current_quantity"},
    }
    return {
        "id": refund_id,
        "admin_graphql_api_id": f"gid://shopify/Refund/{refund_id}",
        "order_id": order["id"],
        "created_at": at,
        "processed_at": at,
        "note": "Arrived broken",
        "restock": restock,
        "user_id": user_id,
        "duties": [],
        "order_adjustments": [],
        "refund_line_items": [refunded_line],
        "transactions": [transaction],
    }


def _make_customer(
    rng: random.Random, first: str, last: str, number: int, at: str, currency: str
) -> dict[str, Any]:
    customer_id = big_id(rng)
    return {
        "id": customer_id,
        "admin_graphql_api_id": f"gid://shopify/Customer/{customer_id}",
        "created_at": at,
        "updated_at": at,
        "first_name": first,
        "last_name": last,
        "email": f"customer{number}@example.com",
        "phone": None,
        "currency": currency,
        "state": "disabled",
        "tax_exempt": False,
        "verified_email": True,
    }
