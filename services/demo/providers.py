"""The contents of the demo's Shopify and Stripe, including the objects of lost webhooks."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.core.db import transaction
from services.demo.delivery import DayPlan, Delivery
from services.demo.expected import Key
from services.demo.orders import STOCK_AT_OPENING
from services.demo.shops import LOCATION_ID, POOL, DemoShop
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.shop_access import open_admin
from services.shopify.stock.count_store import record_counts
from services.shopify.stock.counts import LevelCount, plan_counts
from services.shopify.stock.pool_checks import list_members, list_shop_skus, plan_links, plan_wanted_links
from services.shopify.stock.pool_links import plan_figures, record_links
from services.shops.shops import get_shop

_BATCH = 100
NOTION_REQUESTS = 6_000
_STOCK = ("inventory_levels/", "products/")

Control = Callable[[dict[str, Any]], None]


def load_providers(shops: Sequence[DemoShop], deliveries: Sequence[Delivery], control: Control) -> None:
    """Store the objects of ``deliveries`` in the sandbox, except stock, which pushes and counts change."""
    for shop in shops:
        own = [one for one in deliveries if one.shop == shop.slug and not one.fault]
        webhooks = [
            {"topic": one.topic, "body": json.loads(one.body)}
            for one in own
            if one.provider == "shopify" and not one.topic.startswith(_STOCK)
        ]
        events = [json.loads(one.body) for one in own if one.provider == "stripe"]
        for start in range(0, len(webhooks), _BATCH):
            control({"shop": shop.domain, "webhooks": webhooks[start : start + _BATCH]})
        for start in range(0, len(events), _BATCH):
            control({"stripe_key": shop.secrets["stripe-key"], "events": events[start : start + _BATCH]})


def open_workspaces(shops: Sequence[DemoShop], control: Control) -> None:
    """Open each shop's workspace at Notion. Its budget fits a day that is played in a minute."""
    for shop in shops:
        limit = {"requests": NOTION_REQUESTS, "seconds": 60}
        control({"notion_key": shop.secrets["notion-key"], "limit": limit})


def count_stock_levels(shops: Sequence[DemoShop], now: datetime) -> None:
    """Record a count of every level at the start of the day, for shops that own their stock figures."""
    for shop in (shop for shop in shops if shop.stock_owner == "shopfleet"):
        keys = [ShopLevelKey(item.inventory_item_id, LOCATION_ID) for item in shop.items]
        with transaction() as tx:
            shop_id = get_shop(tx, shop.slug).id
        known = open_admin(shop_id).fetch_levels(keys)
        with transaction() as tx:
            changes = plan_counts(tx, shop_id, [LevelCount(key, STOCK_AT_OPENING) for key in keys], known)
            begun = shop.yesterday(now)[1]
            record_counts(tx, shop_id, changes, known, begun, now, by="demo", request_id="")


def fill_pool(shops: Sequence[DemoShop], now: datetime) -> None:
    """Link the stock of the pool's shops since the start of their day."""
    with transaction() as tx:
        members = list_members(tx, POOL)
        links = plan_links(tx, plan_wanted_links(members, list_shop_skus(tx, members[0]), {}))
    begun = {shop.slug: shop.yesterday(now)[1] for shop in shops}
    known = {}
    for shop in members:
        places = [link.shop_key for link in links if link.shop.id == shop.id]
        found = open_admin(shop.id).fetch_levels(places)
        known[shop.id] = {
            place: level._replace(updated_at=begun[shop.slug]) for place, level in found.items()
        }
    with transaction() as tx:
        record_links(tx, POOL, links, plan_figures(links, known, ()), known, now, by="demo", request_id="")


def set_shopify_levels(
    shops: Sequence[DemoShop], expected: Mapping[Key, int], known: Mapping[Key, int], control: Control
) -> None:
    """Set Shopify's levels to ``expected``: they include sales whose webhook was lost."""
    for shop in shops:
        levels = [
            {"inventory_item_id": int(item), "location_id": LOCATION_ID, "available": available}
            for (slug, item), available in sorted(expected.items())
            if slug == shop.slug and known.get((slug, item)) != available
        ]
        if levels:
            control({"shop": shop.domain, "levels": levels})


def alter_stripe(shops: Sequence[DemoShop], plan: DayPlan, control: Control) -> None:
    """Plant the breaks at Stripe: an unknown payment, another amount, and a missing payment."""
    load_providers(shops, plan.lost_until_night, control)
    keys = {shop.slug: shop.secrets["stripe-key"] for shop in shops}
    for slug, charge_id in plan.removed:
        control({"stripe_key": keys[slug], "remove": [charge_id]})
