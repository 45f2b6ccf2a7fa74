"""What the demo's Shopify and Stripe hold: whatever they told, whether it arrived or not."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.fleet.demo.delivery import DayPlan, Delivery
from services.fleet.demo.shops import LOCATION_ID, DemoShop
from services.fleet.demo.truth import Key

AT_ONCE = 100
_STOCK = ("inventory_levels/", "products/")

Control = Callable[[dict[str, Any]], None]
"""Tells the sandbox something."""


def tell_providers(shops: Sequence[DemoShop], told: Sequence[Delivery], control: Control) -> None:
    """Shopify and Stripe list what ``told`` tells of. Stock is left out: pushes and counts change it."""
    for shop in shops:
        mine = [one for one in told if one.shop == shop.slug and one.is_told]
        webhooks = [
            {"topic": one.topic, "body": json.loads(one.body)}
            for one in mine
            if one.provider == "shopify" and not one.topic.startswith(_STOCK)
        ]
        events = [json.loads(one.body) for one in mine if one.provider == "stripe"]
        for start in range(0, len(webhooks), AT_ONCE):
            control({"shop": shop.domain, "webhooks": webhooks[start : start + AT_ONCE]})
        for start in range(0, len(events), AT_ONCE):
            control({"stripe_key": shop.secrets["stripe-key"], "events": events[start : start + AT_ONCE]})


def settle_shelves(
    shops: Sequence[DemoShop], truth: Mapping[Key, int], held: Mapping[Key, int], control: Control
) -> None:
    """Shopify holds ``truth``: its own sales took from its shelves, whether we heard of them or not."""
    for shop in shops:
        levels = [
            {"inventory_item_id": int(item), "location_id": LOCATION_ID, "available": available}
            for (slug, item), available in sorted(truth.items())
            if slug == shop.slug and held.get((slug, item)) != available
        ]
        if levels:
            control({"shop": shop.domain, "levels": levels})


def alter_stripe(shops: Sequence[DemoShop], plan: DayPlan, control: Control) -> None:
    """Stripe holds what was planted: a payment nobody heard of, another amount, and one less."""
    tell_providers(shops, plan.unheard, control)
    for shop in shops:
        if shop.slug in plan.altered:
            control({"stripe_key": shop.secrets["stripe-key"], **plan.altered[shop.slug]})
