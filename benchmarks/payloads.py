"""Generated Shopify orders of 2 to 5 KB, equal for equal seeds, and their signatures.

Shapes follow Shopify's ``orders/create`` (API 2026-07): 64-bit ids beyond 2**53, money as decimal
strings, times with an offset.
"""

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

SECRET = "benchmark-webhook-secret"
"""Signs the benchmark's requests; protects nothing."""
SKUS = 20_000
"""So many that nearly every line changes a level without a waiting push: the worst case."""
FIRST_VARIANT_ID = 8_400_000_000_000_000
FIRST_ORDER_ID = 9_100_000_000_000_000
FIRST_PLACED = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)


def make_order(number: int) -> dict[str, Any]:
    """Return order ``number``: one to five lines, an address, a customer, prices that add up."""
    pick = random.Random(number)
    order_id = FIRST_ORDER_ID + number
    placed = (FIRST_PLACED + timedelta(seconds=number)).isoformat()
    lines = [_line(order_id * 10 + index, pick) for index in range(pick.choice((1, 1, 2, 2, 3, 4, 5)))]
    total = sum(int(line["price"].replace(".", "")) * line["quantity"] for line in lines)
    address = _address(pick)
    return {
        "id": order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{order_id}",
        "name": f"#{1000 + number}",
        "order_number": 1000 + number,
        "number": number,
        "email": f"buyer{number}@example.com",
        "contact_email": f"buyer{number}@example.com",
        "created_at": placed,
        "processed_at": placed,
        "updated_at": placed,
        "cancelled_at": None,
        "closed_at": None,
        "currency": "CAD",
        "presentment_currency": "CAD",
        "confirmed": True,
        "test": False,
        "taxes_included": False,
        "financial_status": pick.choice(("paid", "paid", "pending", "authorized")),
        "fulfillment_status": None,
        "source_name": "web",
        "tags": "wholesale, repeat",
        "note": None,
        "subtotal_price": _money(total),
        "subtotal_price_set": _price_set(total),
        "total_price": _money(total),
        "total_price_set": _price_set(total),
        "current_total_price": _money(total),
        "total_discounts": "0.00",
        "total_tax": "0.00",
        "total_line_items_price": _money(total),
        "payment_gateway_names": ["shopify_payments"],
        "billing_address": address,
        "shipping_address": address,
        "customer": {
            "id": 7_200_000_000_000_000 + pick.randrange(10_000),
            "first_name": address["first_name"],
            "last_name": address["last_name"],
            "state": "enabled",
            "verified_email": True,
            "default_address": address,
        },
        "line_items": lines,
        "shipping_lines": [],
        "discount_codes": [],
        "tax_lines": [],
        "refunds": [],
        "fulfillments": [],
    }


def make_sku(number: int) -> str:
    """Return the sku of number 0 to ``SKUS - 1``."""
    return f"SKU-{number:05d}"


def make_body(number: int) -> bytes:
    """Return order ``number`` as the bytes Shopify would send."""
    return json.dumps(make_order(number), separators=(",", ":")).encode()


def sign(body: bytes, secret: str = SECRET) -> str:
    """Return the value of ``X-Shopify-Hmac-Sha256`` for ``body``."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def make_headers(body: bytes, delivery_id: str) -> dict[str, str]:
    """Return the headers Shopify sends with ``body``."""
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Shop-Domain": "bench.myshopify.com",
        "X-Shopify-API-Version": "2026-07",
        "X-Shopify-Webhook-Id": delivery_id,
        "X-Shopify-Hmac-Sha256": sign(body),
    }


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _price_set(cents: int) -> dict[str, dict[str, str]]:
    money = {"amount": _money(cents), "currency_code": "CAD"}
    return {"shop_money": money, "presentment_money": money}


def _line(line_id: int, pick: random.Random) -> dict[str, Any]:
    price, sku_number = pick.randrange(500, 20_000), pick.randrange(SKUS)
    sku = make_sku(sku_number)
    return {
        "id": line_id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line_id}",
        "title": f"Candle {sku}",
        "name": f"Candle {sku}",
        "sku": sku,
        "quantity": pick.randrange(1, 5),
        "current_quantity": 1,
        "price": _money(price),
        "price_set": _price_set(price),
        "product_id": 8_300_000_000_000_000 + pick.randrange(10_000),
        "variant_id": FIRST_VARIANT_ID + sku_number,
        "grams": pick.randrange(100, 900),
        "requires_shipping": True,
        "taxable": True,
        "gift_card": False,
        "fulfillment_service": "manual",
        "total_discount": "0.00",
        "properties": [],
        "tax_lines": [],
        "discount_allocations": [],
    }


def _address(pick: random.Random) -> dict[str, Any]:
    return {
        "first_name": pick.choice(("Ada", "Ben", "Cid", "Dora", "Emil", "Frida")),
        "last_name": pick.choice(("Lovelace", "Okafor", "Sato", "Tremblay", "Novak")),
        "address1": f"{pick.randrange(1, 999)} {pick.choice(('Main', 'Oak', 'Granville', 'Cambie'))} Street",
        "city": "Vancouver",
        "province": "British Columbia",
        "province_code": "BC",
        "country": "Canada",
        "country_code": "CA",
        "zip": f"V{pick.randrange(5, 7)}B {pick.randrange(1, 9)}A{pick.randrange(1, 9)}",
        "phone": f"+1604555{pick.randrange(1000, 9999)}",
    }
