"""Bodies of webhooks about goods and stock, made of what Shopify's GraphQL says of them. Pure."""

from services.providers.delivery import find_dict, find_instant
from services.shopify.backfill.node_fields import Node, number_of
from services.shopify.backfill.to_webhook import PulledEvent


def product_event(product: Node) -> PulledEvent:
    """Return ``products/update`` for a product as ``LIST_PRODUCTS`` found it, with all its variants."""
    product_id = int(product["legacyResourceId"])
    body = {
        "id": product_id,
        "admin_graphql_api_id": product["id"],
        "title": product["title"],
        "status": product["status"].lower(),
        "product_type": product["productType"],
        "tags": ", ".join(product["tags"]),
        "updated_at": product["updatedAt"],
        "variants": [
            {
                "id": number_of(variant["id"]),
                "admin_graphql_api_id": variant["id"],
                "product_id": product_id,
                "title": variant["title"],
                "sku": variant["sku"],
                "updated_at": variant["updatedAt"],
                "inventory_item_id": number_of(find_dict(variant, "inventoryItem").get("id")) or None,
            }
            for variant in product["variants"]["nodes"]
        ],
    }
    return PulledEvent("products/update", product["id"], body, find_instant(product["updatedAt"]))


def item_event(item: Node) -> PulledEvent:
    """Return ``inventory_items/update`` for an inventory item. The cost is in the shop's currency."""
    body = {
        "id": int(item["legacyResourceId"]),
        "admin_graphql_api_id": item["id"],
        "sku": item["sku"],
        "tracked": item["tracked"],
        "cost": find_dict(item, "unitCost").get("amount"),
        "created_at": item["createdAt"],
        "updated_at": item["updatedAt"],
    }
    return PulledEvent("inventory_items/update", item["id"], body, find_instant(item["updatedAt"]))


def location_event(location: Node) -> PulledEvent:
    """Return ``locations/update`` for a location."""
    address = find_dict(location, "address")
    body = {
        "id": int(location["legacyResourceId"]),
        "admin_graphql_api_id": location["id"],
        "name": location["name"],
        "country_code": address.get("countryCode"),
        "province_code": address.get("provinceCode"),
        "active": location["isActive"],
        "created_at": location["createdAt"],
        "updated_at": location["updatedAt"],
    }
    return PulledEvent("locations/update", location["id"], body, find_instant(location["updatedAt"]))


def level_event(level: Node, location_gid: str) -> PulledEvent:
    """Return ``inventory_levels/update`` for a level of the location ``location_gid``."""
    body = {
        "inventory_item_id": number_of(level["item"]["id"]),
        "location_id": number_of(location_gid),
        "available": find_available(level),
        "updated_at": level["updatedAt"],
        "admin_graphql_api_id": level["id"],
    }
    return PulledEvent("inventory_levels/update", level["id"], body, find_instant(level["updatedAt"]))


def find_available(level: Node) -> int | None:
    """Return how many pieces a level has for sale; None where Shopify does not count them."""
    for entry in level["quantities"]:
        if entry["name"] == "available":
            return int(entry["quantity"])
    return None
