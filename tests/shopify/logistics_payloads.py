"""Events of logistics, returns, notices and disputes, with only the fields that are read."""

from datetime import timedelta
from typing import Any

from services.ledger.work import WorkItem
from tests.shopify.sample_payloads import LOCATION, NOON, ORDER, at, item

BIG = 2**53 + 7


def gid(kind: str, number: int = BIG) -> str:
    return f"gid://shopify/{kind}/{number}"


def delivery(topic: str, body: dict[str, Any], minutes: float = 0) -> WorkItem:
    """Return an event sent ``minutes`` after noon."""
    made = item("delivery", body, event_topic=topic)
    return made._replace(occurred_at=NOON + timedelta(minutes=minutes))


def fulfillment_order(
    minutes: float = 0, topic: str = "placed_on_hold", number: int = BIG, **fields: Any
) -> WorkItem:
    fields = fields or {"status": "on_hold", "fulfillment_holds": [{"id": gid("Hold", 1), "reason": "other"}]}
    body = {"fulfillment_order": {"id": gid("FulfillmentOrder", number), **fields}}
    return delivery(f"fulfillment_orders/{topic}", body, minutes)


def scan(minutes: float = 0, topic: str = "create", **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "fulfillment_id": BIG + 1, "order_id": ORDER, "status": "in_transit",
        "city": "Zerlinaville",
        "happened_at": at(0), "updated_at": at(minutes), "estimated_delivery_at": at(60),
    }  # fmt: skip
    return delivery(f"fulfillment_events/{topic}", body | fields, minutes)


def transfer(minutes: float = 0, topic: str = "ready_to_ship", **fields: Any) -> WorkItem:
    fields = fields or {"status": "READY_TO_SHIP", "line_items": lines(10, 8)}
    body = {
        "id": gid("InventoryTransfer"), "happened_at": at(minutes),
        "origin": {"id": gid("Location", LOCATION)},
        "destination": {"id": gid("Location", LOCATION + 1)},
    }  # fmt: skip
    return delivery(f"inventory_transfers/{topic}", body | fields, minutes)


def shipment(minutes: float = 0, topic: str = "create", **fields: Any) -> WorkItem:
    fields = fields or {"status": "DRAFT", "line_items": lines(10, 8), "tracking": {"arrives_at": at(90)}}
    body = {"id": gid("InventoryShipment"), "happened_at": at(minutes)}
    return delivery(f"inventory_shipments/{topic}", body | fields, minutes)


def lines(*quantities: int) -> list[dict[str, Any]]:
    """Return lines 1, 2... of a transfer or a shipment."""
    return [{"id": gid("Line", place), "quantity": one} for place, one in enumerate(quantities, start=1)]


def variant(minutes: float = 0, topic: str = "in_stock", **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "product_id": BIG + 1, "sku": None, "updated_at": at(-999),
        "inventory_quantity": 75 if topic == "in_stock" else 0,
    }  # fmt: skip
    return delivery(f"variants/{topic}", body | fields, minutes)


def risk(minutes: float = 0, level: str = "medium", **fields: Any) -> WorkItem:
    body = {"provider_id": None, "risk_level": level, "created_at": None, "order_id": ORDER}
    return delivery("orders/risk_assessment_changed", body | fields, minutes)


def order_return(minutes: float = 0, topic: str = "approve", **fields: Any) -> WorkItem:
    fields = fields or {
        "status": "open", "order": {"id": ORDER}, "total_return_line_items": 2, "name": "#1001-R1",
        "return_line_items": [],
    }  # fmt: skip
    return delivery(f"returns/{topic}", {"id": BIG, "admin_graphql_api_id": gid("Return")} | fields, minutes)


def disposition(minutes: float = 0, kind: str = "restocked", quantity: int = 1, **fields: Any) -> WorkItem:
    made = {
        "reverse_fulfillment_order_line_item": {"id": 22}, "type": kind, "quantity": quantity,
        "location": {"id": LOCATION},
    }  # fmt: skip
    body = {"id": BIG, "dispositions": [made], "total_dispositions": 1}
    return delivery("reverse_fulfillment_orders/dispose", body | fields, minutes)


def dispute(minutes: float = 0, status: str = "needs_response", **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "order_id": ORDER, "type": "chargeback", "amount": "11.50", "currency": "CAD",
        "reason": "fraudulent", "network_reason_code": "4837", "status": status, "evidence_due_by": at(900),
        "initiated_at": at(0),
    }  # fmt: skip
    return delivery("disputes/update", body | fields, minutes)


def tender(minutes: float = 0, **fields: Any) -> WorkItem:
    body = {
        "id": BIG, "order_id": ORDER, "amount": "419.95", "currency": "CAD", "test": False,
        "processed_at": at(0), "remote_reference": "1001", "payment_method": "credit_card",
        "payment_details": {"credit_card_number": "1 4242", "credit_card_company": "Visa"},
    }  # fmt: skip
    return delivery("tender_transactions/create", body | fields, minutes)
