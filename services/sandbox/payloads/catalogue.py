"""A made-up shop and its goods, and the bodies of Shopify webhooks about them. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.sandbox.payloads.templates import Body, big_id, make

_GOODS = ("Candle", "Soap bar", "Tea tin", "Linen apron", "Ceramic mug", "Beeswax wrap", "Notebook", "Balm")
_SHADES = ("Amber", "Cedar", "Fog", "Juniper", "Moss", "Rose", "Salt", "Tide")
_NOT_RANDOM = random.Random(0)  # noqa: S311 - the templates below have nothing random


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


def make_shop(shop_id: int, domain: str, *, updated_at: datetime, **more: Any) -> Body:
    """Return the body of ``shop/update`` and ``app/uninstalled``; ``more``: name, currency..."""
    return make("shopify", "shop/update", _NOT_RANDOM, shop_id=shop_id, domain=domain, at=updated_at, **more)


def make_inventory_level(
    inventory_item_id: int, location_id: int, *, available: int, updated_at: datetime, **more: Any
) -> Body:
    """Return the body of ``inventory_levels/update``; ``more``: zone."""
    return make(
        "shopify", "inventory_levels/update", _NOT_RANDOM, at=updated_at, available=available,
        inventory_item_id=inventory_item_id, location_id=location_id, **more,
    )  # fmt: skip


def make_inventory_item(
    item: Item, *, updated_at: datetime, cost_cents: int | None = None, **more: Any
) -> Body:
    """Return the body of ``inventory_items/update``; ``more``: currency, zone, is_tracked."""
    values = {"item": item, "cost_cents": cost_cents, "at": updated_at}
    return make("shopify", "inventory_items/update", _NOT_RANDOM, **values, **more)


def make_location(location_id: int, *, updated_at: datetime, **more: Any) -> Body:
    """Return the body of ``locations/update``; ``more``: location_name, province_code, is_active, zone..."""
    return make("shopify", "locations/update", _NOT_RANDOM, location_id=location_id, at=updated_at, **more)


def make_product(items: Sequence[Item], *, updated_at: datetime, **more: Any) -> Body:
    """Return the body of ``products/update``: every item is a variant; ``more``: currency, zone."""
    first = items[0]
    values = {"at": updated_at, "product_id": first.product_id} | more
    variants = [
        make("shopify", "_variant", _NOT_RANDOM, item=item, position=position, **values)
        for position, item in enumerate(items, start=1)
    ]
    handle = first.title.lower().replace(" ", "-")
    return make(
        "shopify", "products/update", _NOT_RANDOM, item=first, handle=handle, variants=variants, **values
    )
