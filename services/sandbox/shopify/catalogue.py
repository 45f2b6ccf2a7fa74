"""What a made-up shop sells, and the bodies of Shopify webhooks about it: stock levels and products. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from services.sandbox.payloads.common import big_id, decimal_text, local_text

_GOODS = ("Candle", "Soap bar", "Tea tin", "Linen apron", "Ceramic mug", "Beeswax wrap", "Notebook", "Balm")
_SHADES = ("Amber", "Cedar", "Fog", "Juniper", "Moss", "Rose", "Salt", "Tide")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One variant that a shop sells. ``price_cents`` is in minor units of the shop's currency."""

    sku: str
    title: str
    product_id: int
    variant_id: int
    inventory_item_id: int
    price_cents: int


def make_items(rng: random.Random, count: int, *, minor_units: int = 100) -> list[Item]:
    """Return ``count`` variants with distinct SKUs. ``minor_units`` in one unit of currency: 1 for JPY."""
    return [
        Item(
            sku=f"{rng.choice(_GOODS)[:3].upper()}-{number:04d}",
            title=f"{rng.choice(_SHADES)} {rng.choice(_GOODS).lower()}",
            product_id=big_id(rng),
            variant_id=big_id(rng),
            inventory_item_id=big_id(rng),
            price_cents=rng.randrange(4 * minor_units, 120 * minor_units),
        )
        for number in range(1, count + 1)
    ]


def make_inventory_level(
    inventory_item_id: int, location_id: int, *, available: int, updated_at: datetime, zone: tzinfo = UTC
) -> dict[str, Any]:
    """Return the body of ``inventory_levels/update``."""
    gid = f"gid://shopify/InventoryLevel/{location_id}?inventory_item_id={inventory_item_id}"
    return {
        "inventory_item_id": inventory_item_id,
        "location_id": location_id,
        "available": available,
        "updated_at": local_text(updated_at, zone),
        "admin_graphql_api_id": gid,
    }


def make_inventory_item(
    item: Item,
    *,
    updated_at: datetime,
    cost_cents: int | None = None,
    currency: str = "USD",
    zone: tzinfo = UTC,
    tracked: bool = True,
) -> dict[str, Any]:
    """Return the body of ``inventory_items/update``; ``cost_cents`` is what one piece costs the shop."""
    at = local_text(updated_at, zone)
    return {
        "id": item.inventory_item_id,
        "admin_graphql_api_id": f"gid://shopify/InventoryItem/{item.inventory_item_id}",
        "sku": item.sku,
        "created_at": local_text(updated_at - timedelta(days=30), zone),
        "updated_at": at,
        "requires_shipping": True,
        "cost": None if cost_cents is None else decimal_text(cost_cents, currency),
        "country_code_of_origin": None,
        "province_code_of_origin": None,
        "harmonized_system_code": None,
        "tracked": tracked,
        "country_harmonized_system_codes": [],
    }


def make_location(
    location_id: int,
    *,
    updated_at: datetime,
    name: str = "Main",
    province_code: str = "BC",
    country_code: str = "CA",
    active: bool = True,
    zone: tzinfo = UTC,
) -> dict[str, Any]:
    """Return the body of ``locations/create``, ``update``, ``activate`` or ``deactivate``."""
    return {
        "id": location_id,
        "admin_graphql_api_id": f"gid://shopify/Location/{location_id}",
        "name": name,
        "address1": "34 Example Street",
        "address2": "",
        "city": "Example",
        "zip": "V5K 0A1",
        "province": province_code,
        "country": country_code,
        "phone": "",
        "created_at": local_text(updated_at - timedelta(days=300), zone),
        "updated_at": local_text(updated_at, zone),
        "country_code": country_code,
        "country_name": country_code,
        "province_code": province_code,
        "legacy": False,
        "active": active,
    }


def make_product(
    items: Sequence[Item], *, updated_at: datetime, currency: str = "USD", zone: tzinfo = UTC
) -> dict[str, Any]:
    """Return the body of ``products/update``: one product with every item as a variant."""
    first, at = items[0], local_text(updated_at, zone)
    variants = [
        {
            "id": item.variant_id,
            "admin_graphql_api_id": f"gid://shopify/ProductVariant/{item.variant_id}",
            "barcode": None,
            "created_at": local_text(updated_at - timedelta(days=30), zone),
            "inventory_item_id": item.inventory_item_id,
            "inventory_policy": "deny",
            "inventory_quantity": 10,
            "position": position,
            "price": decimal_text(item.price_cents, currency),
            "product_id": first.product_id,
            "sku": item.sku,
            "taxable": True,
            "title": item.title,
            "updated_at": at,
        }
        for position, item in enumerate(items, start=1)
    ]
    return {
        "id": first.product_id,
        "admin_graphql_api_id": f"gid://shopify/Product/{first.product_id}",
        "body_html": f"<p>{first.title}</p>",
        "created_at": local_text(updated_at - timedelta(days=30), zone),
        "handle": first.title.lower().replace(" ", "-"),
        "product_type": "Household",
        "published_at": at,
        "status": "active",
        "tags": "",
        "title": first.title,
        "updated_at": at,
        "vendor": "Sandbox",
        "variants": variants,
        "options": [],
        "images": [],
    }
