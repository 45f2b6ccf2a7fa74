"""Lists of products, inventory items, locations and stock levels, and their webhook payloads."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from services.core.db import transaction
from services.core.fields import find_object
from services.core.pg_arrays import find_by_key
from services.providers import shopify_documents as documents
from services.shopify.backfill.pager import Pager, PulledList, find_missing_nodes, is_newer
from services.shopify.backfill.webhook_payload import (
    Node,
    PulledEvent,
    id_of,
    make_pulled_event,
    number_of,
    to_rest,
)
from services.shopify.tables import inventory_items, inventory_levels, locations, products, variants


def product_event(product: Node) -> PulledEvent:
    """Return ``products/update`` for a product with all its variants."""
    body = to_rest(product)
    body["tags"] = ", ".join(body["tags"])
    for variant in body["variants"]:
        variant["product_id"] = body["id"]
    return make_pulled_event("products/update", product, body)


def item_event(item: Node) -> PulledEvent:
    """Return ``inventory_items/update`` for an inventory item. The cost is in the shop's currency."""
    body = {**to_rest(item), "cost": find_object(item, "unitCost").get("amount")}
    return make_pulled_event("inventory_items/update", item, body)


def location_event(location: Node) -> PulledEvent:
    address = find_object(location, "address")
    codes = {"country_code": address.get("countryCode"), "province_code": address.get("provinceCode")}
    return make_pulled_event("locations/update", location, {**to_rest(location), **codes})


def level_event(level: Node, location_id: int) -> PulledEvent:
    body = {
        "inventory_item_id": id_of(level, "item"),
        "location_id": location_id,
        "available": _find_available(level),
        "updated_at": level["updatedAt"],
        "admin_graphql_api_id": level["id"],
    }
    return make_pulled_event("inventory_levels/update", level, body)


def _find_available(level: Node) -> int | None:
    """Return the pieces of a level that are for sale; None if Shopify does not track them."""
    quantities = {entry["name"]: entry["quantity"] for entry in level["quantities"]}
    return int(quantities["available"]) if "available" in quantities else None


def _find_missing_products(
    pager: Pager, shop_id: int, page: Sequence[Node], now: datetime
) -> list[PulledEvent]:
    """Return the products that are unknown or older here, or have such a variant."""
    items = {
        (shop_id, item): variant
        for product in page
        for variant in product["variants"]["nodes"]
        if (item := id_of(variant, "inventoryItem"))
    }
    with transaction() as tx:
        known = find_by_key(tx, variants, items.keys())
    newer = {variant["id"] for key, variant in items.items() if is_newer(variant, known.get(key))}
    outdated = {event.gid for event in find_missing_nodes(products, product_event, pager, shop_id, page, now)}
    return [
        product_event(product)
        for product in page
        if product["id"] in outdated or any(one["id"] in newer for one in product["variants"]["nodes"])
    ]


def _find_missing_levels(
    location_id: int, _pager: Pager, shop_id: int, page: Sequence[Node], _now: datetime
) -> list[PulledEvent]:
    """Return the levels that are unknown, or were observed before Shopify changed them.

    Includes levels with our own figure: the time of the observation decides whether a late sale counts.
    """
    keys = [(shop_id, id_of(level, "item"), location_id) for level in page]
    with transaction() as tx:
        known = find_by_key(tx, inventory_levels, keys)
    return [
        level_event(level, location_id)
        for level, key in zip(page, keys, strict=True)
        if _find_available(level) is not None and is_newer(level, known.get(key), "observed_at")
    ]


LOCATIONS = PulledList(
    name="locations",
    document=documents.LIST_LOCATIONS,
    path=("locations",),
    find_missing=partial(find_missing_nodes, locations, location_event),
    is_searchable=False,
)
PRODUCTS = PulledList(
    name="products",
    document=documents.LIST_PRODUCTS,
    path=("products",),
    find_missing=_find_missing_products,
    nested=("variants", documents.READ_PRODUCT_VARIANTS, "product"),
    is_sorted=True,
)
ITEMS = PulledList(
    name="inventory_items",
    document=documents.LIST_ITEMS,
    path=("inventoryItems",),
    find_missing=partial(find_missing_nodes, inventory_items, item_event),
)


def levels_of(location_gid: str) -> PulledList:
    """Return the unsorted list of a location's levels."""
    location_id = number_of(location_gid)
    return PulledList(
        name=f"levels:{location_id}",
        document=documents.LIST_LEVELS,
        path=("location", "inventoryLevels"),
        variables={"location": location_gid},
        find_missing=partial(_find_missing_levels, location_id),
    )
