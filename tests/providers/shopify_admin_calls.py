"""Calls of the Admin API for one item at one location."""

from services.providers.shopify_admin import (
    LevelQuantity,
    ShopLevelKey,
)

SHOP = "ada.myshopify.com"
ITEM, PLACE = 2**60 + 1, 65_536_001


def push(admin, quantity=5, change_from=3, key="work-1", item=ITEM):
    return push_all(admin, [LevelQuantity(ShopLevelKey(item, PLACE), quantity, change_from)], key)


def push_all(admin, quantities, key="work-1"):
    return admin.set_available(quantities, reference="gid://shopfleet/Work/1", idempotency_key=key)


def available(admin, item=ITEM):
    return admin.fetch_levels([ShopLevelKey(item, PLACE)])[ShopLevelKey(item, PLACE)].available
