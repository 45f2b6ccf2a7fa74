"""The items of a sample shop, and the bodies of Shopify webhooks about them. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.sandbox.payloads.templates import Body, big_id, make, minor_digits

_NAMES = ("Candle", "Soap bar", "Tea tin", "Linen apron", "Ceramic mug", "Beeswax wrap", "Notebook", "Balm")
_SHADES = ("Amber", "Cedar", "Fog", "Juniper", "Moss", "Rose", "Salt", "Tide")
_NOT_RANDOM = random.Random(0)  # noqa: S311 - these templates use no random value


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
    """Return ``count`` variants with distinct SKUs. ``minor_units`` per unit of the currency: 1 for JPY."""
    return [
        Item(
            sku=f"{rng.choice(_NAMES)[:3].upper()}-{number:04d}",
            title=f"{rng.choice(_SHADES)} {rng.choice(_NAMES).lower()}",
            product_id=big_id(rng),
            variant_id=big_id(rng),
            inventory_item_id=big_id(rng),
            price_cents=rng.randrange(4 * minor_units, 120 * minor_units),
        )
        for number in range(1, count + 1)
    ]


def make_sample_items(currency: str) -> list[Item]:
    """Return the items of the sample shop, always the same, so that orders, levels and products match."""
    return make_items(random.Random(1), 8, minor_units=10 ** minor_digits(currency))  # noqa: S311


def make_shopify_body(topic: str, **values: Any) -> Body:
    """Return the body of a Shopify webhook whose template uses no random value."""
    return make("shopify", topic, _NOT_RANDOM, **values)


def make_product(items: Sequence[Item], *, updated_at: datetime, **more: Any) -> Body:
    """Return the body of ``products/update``: a variant per item; ``more``: currency, zone."""
    first = items[0]
    values = {"at": updated_at, "product_id": first.product_id} | more
    variants = [
        make_shopify_body("_variant", item=item, position=position, **values)
        for position, item in enumerate(items, start=1)
    ]
    handle = first.title.lower().replace(" ", "-")
    return make_shopify_body("products/update", item=first, handle=handle, variants=variants, **values)
