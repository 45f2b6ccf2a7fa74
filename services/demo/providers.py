"""What the demo's Shopify and Stripe hold: whatever they told, whether it arrived or not."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.core.db import transaction
from services.demo.delivery import DayPlan, Delivery
from services.demo.expected import Key
from services.demo.orders import STOCK_AT_OPENING
from services.demo.shops import LOCATION_ID, POOL, DemoShop, find_owning
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.admin import open_admin
from services.shopify.stock.count_store import record_counts
from services.shopify.stock.counts import Count, plan_counts
from services.shopify.stock.pool_checks import find_members, find_skus, plan_links, plan_wanted_links
from services.shopify.stock.pool_links import plan_figures, record_links
from services.shops.shops import get_shop

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


def count_shelves(shops: Sequence[DemoShop], now: datetime) -> None:
    """The shops that own their stock figures have counted every shelf when their day began."""
    for shop in shops:
        if shop.slug not in find_owning(shops):
            continue
        counts = [Count(item.inventory_item_id, LOCATION_ID, STOCK_AT_OPENING) for item in shop.items]
        with transaction() as tx:
            shop_id = get_shop(tx, shop.slug).id
        held = open_admin(shop_id).get_levels([ShopLevelKey(*one[:2]) for one in counts])
        with transaction() as tx:
            changes = plan_counts(tx, shop_id, counts, held)
            begun = shop.yesterday(now)[1]
            record_counts(tx, shop_id, changes, held, begun, now, by="demo", request_id="")


def fill_pool(shops: Sequence[DemoShop], now: datetime) -> None:
    """The shops of the pool have sold from one shelf since their day began."""
    with transaction() as tx:
        members = find_members(tx, POOL)
        links = plan_links(tx, plan_wanted_links(members, find_skus(tx, members[0]), {}))
    begun = {shop.slug: shop.yesterday(now)[1] for shop in shops}
    held = {}
    for shop in members:
        places = [link.shop_key for link in links if link.shop.id == shop.id]
        found = open_admin(shop.id).get_levels(places)
        held[shop.id] = {place: level._replace(updated_at=begun[shop.slug]) for place, level in found.items()}
    with transaction() as tx:
        record_links(tx, POOL, links, plan_figures(links, held, ()), held, now, by="demo", request_id="")


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
