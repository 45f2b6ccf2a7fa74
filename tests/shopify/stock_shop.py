"""A shop with a counted level, and events that give its movements a location or a SKU."""

from services.ledger.work import WorkItem
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    at,
    item,
)

LEVELS = """
select location_id, sku, available, shopify_available from inventory_levels order by 1, inventory_item_id
"""
PUSHES = "select key, status, payload from work_queue where topic = 'inventory_push' order by id"
KEY = f"{ITEM}:{LOCATION}"


def routed(location: int, number: int = 1, order_id: int = ORDER) -> WorkItem:
    """Return a fulfilment order of the order, assigned to ``location``."""
    one = {
        "id": f"gid://shopify/FulfillmentOrder/{number}", "order_id": order_id, "status": "open",
        "assigned_location_id": location,
    }  # fmt: skip
    topic = "fulfillment_orders/order_routing_complete"
    return item("fulfillment_order_ingest", {"fulfillment_order": one}, event_topic=topic)


def stock_item(sku: str, minutes: float) -> WorkItem:
    body = {"id": ITEM, "sku": sku, "tracked": True, "cost": None, "updated_at": at(minutes)}
    return item("inventory_item_ingest", body, event_topic="inventory_items/update")
