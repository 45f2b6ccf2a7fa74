"""Hypothesis strategies for events of logistics, returns, notices and disputes."""

from typing import Any

from hypothesis import strategies as st

from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.logistics.fulfillments import ingest_fulfillment_events
from services.shopify.logistics.partial_entities import (
    ingest_inventory_shipments,
    ingest_inventory_transfers,
    ingest_returns,
    ingest_reverse_fulfillment_orders,
)
from services.shopify.orders.notices import ingest_order_notices
from services.shopify.orders.transactions import ingest_shopify_disputes, ingest_tender_transactions
from services.shopify.products.inventory_items import ingest_variant_stock
from tests.shopify.event_strategies import Event, cents, draws, minutes, orders_of_shop, texts
from tests.shopify.sample_payloads import ORDER, at

few = st.integers(1, 2)
"""Ids, used as numbers or in global ids."""


def _gid(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{2**53 + number}"


@draws
def fulfillment_order_events(draw: st.DrawFn) -> Event:
    """Draw fields of one or two fulfilment orders, under any name that payloads use."""

    def one() -> dict[str, Any]:
        statuses = st.sampled_from(["open", "on_hold", "in_progress", "closed", "scheduled"])
        held = [{"id": _gid("FulfillmentHold", draw(few)), "reason": draw(st.sampled_from(["other", "x"]))}]
        values = {
            "status": draw(statuses),
            "request_status": draw(st.sampled_from(["unsubmitted", "submitted", "accepted"])),
            "assigned_location_id": _gid("Location", draw(few)),
            "fulfill_at": at(draw(minutes)),
            "fulfillment_holds": held,
            "order_id": ORDER,
        }
        names = draw(st.sets(st.sampled_from(sorted(values))))
        return {"id": _gid("FulfillmentOrder", draw(few))} | {name: values[name] for name in names}

    topic = draw(st.sampled_from(["moved", "hold_released", "line_items_prepared_for_pickup"]))
    names = ("fulfillment_order", "original_fulfillment_order", "moved_fulfillment_order")
    body = {name: one() for name in draw(st.sets(st.sampled_from(names), min_size=1, max_size=2))}
    if topic == "line_items_prepared_for_pickup":
        body["fulfillment_order"] = one() | {"delivery_method": {"method_type": "pickup"}}
    return Event(ingest_fulfillment_orders, f"fulfillment_orders/{topic}", body, draw(minutes))


@draws
def scan_events(draw: st.DrawFn) -> Event:
    """Draw a scan of a parcel, or its deletion."""
    minute = draw(minutes)
    body = {
        "id": draw(few), "fulfillment_id": draw(few), "order_id": draw(st.sampled_from([None, 7])),
        "happened_at": at(draw(minutes)), "updated_at": at(minute),
        "status": draw(st.sampled_from(["in_transit", "delivered"])),
    }  # fmt: skip
    topic = draw(st.sampled_from(["create", "create", "delete"]))
    return Event(ingest_fulfillment_events, f"fulfillment_events/{topic}", body, minute)


@draws
def transit_events(draw: st.DrawFn) -> Event:
    """Draw a transfer or a shipment: state, and lines added, changed and removed."""
    minute, is_shipment = draw(minutes), draw(st.booleans())
    id_name = "id" if is_shipment else "line_item_id"
    topic = "inventory_transfers/updated"
    if is_shipment:
        topic = f"inventory_shipments/{draw(st.sampled_from(['create', 'receive_items', 'delete']))}"
    quantities = {
        "line_items": ["quantity"], "items_added": ["quantity"], "items_updated": ["new_quantity"],
        "items_removed": [], "items_received": ["new_accepted_quantity", "new_rejected_quantity"],
    }  # fmt: skip
    kind = "InventoryShipment" if is_shipment else "InventoryTransfer"
    body: dict[str, Any] = {"id": _gid(kind, draw(few)), "happened_at": at(minute)}
    if topic == "inventory_shipments/delete":
        return Event(ingest_inventory_shipments, topic, body, minute)
    body["line_items"] = []
    for name in draw(st.sets(st.sampled_from(sorted(quantities)), max_size=2)):
        key = "id" if name in ("line_items", "items_received") else id_name
        counted = {quantity: draw(st.integers(0, 3)) for quantity in quantities[name]}
        body[name] = [{key: _gid("Line", draw(few))} | counted]
    if draw(st.booleans()):
        body["status"] = draw(st.sampled_from(["DRAFT", "IN_TRANSIT", "READY_TO_SHIP"]))
        body["origin"], body["tracking"] = (
            {"id": _gid("Location", draw(few))},
            {"arrives_at": at(draw(minutes))},
        )
    effect = ingest_inventory_shipments if is_shipment else ingest_inventory_transfers
    return Event(effect, topic, body, minute)


@draws
def return_events(draw: st.DrawFn) -> Event:
    """Draw a return of any topic, or a disposition of returned goods."""
    minute, number = draw(minutes), draw(few)
    topic = draw(
        st.sampled_from(["approve", "cancel", "close", "decline", "process", "reopen", "request", "update"])
    )
    if draw(st.integers(0, 3)) == 0:
        made = {"reverse_fulfillment_order_line_item": {"id": draw(few)}, "location": {"id": draw(few)},
                "type": draw(st.sampled_from(["restocked", "missing"])), "quantity": draw(few)}  # fmt: skip
        body: dict[str, Any] = {"id": number, "dispositions": [made] * draw(st.integers(0, 2))}
        return Event(ingest_reverse_fulfillment_orders, "reverse_fulfillment_orders/dispose", body, minute)
    if draw(st.integers(0, 3)) == 0:
        body = {"id": 1, "return": {"id": number}}
        return Event(ingest_returns, "reverse_deliveries/attach_deliverable", body, minute)
    values = {
        "status": draw(st.sampled_from(["requested", "open", "closed", "canceled"])),
        "order": {"id": ORDER}, "total_return_line_items": draw(few), "name": draw(texts),
        "return_line_items": [{"quantity": 2}], "decline": {"reason": draw(texts)},
    }  # fmt: skip
    names = draw(st.sets(st.sampled_from(sorted(values))))
    body = {"admin_graphql_api_id": f"gid://shopify/Return/{number}"} | {name: values[name] for name in names}
    return Event(ingest_returns, f"returns/{topic}", body, minute)


@draws
def notice_events(draw: st.DrawFn) -> Event:
    """Draw a notice of an order, or the availability of a variant."""
    minute, number = draw(minutes), draw(orders_of_shop)
    levels = st.sampled_from(["high", "medium", "low", "none", "pending"])
    risk = {"order_id": number, "provider_id": draw(st.sampled_from([None, 5])), "risk_level": draw(levels),
            "created_at": draw(st.sampled_from([None, at(minute)]))}  # fmt: skip
    protect = {"order_id": number, "status": draw(st.sampled_from(["active", "pending"])),
               "eligibility": {"status": draw(st.sampled_from(["eligible", "pending"]))}}  # fmt: skip
    stock = {
        "id": draw(few),
        "product_id": draw(st.none() | few),
        "inventory_quantity": draw(st.integers(0, 1)),
    }
    event: Event = draw(
        st.sampled_from(
            [
                Event(ingest_order_notices, "orders/risk_assessment_changed", risk, minute),
                Event(ingest_order_notices, "orders/shopify_protect_eligibility_changed", protect, minute),
                Event(ingest_variant_stock, "variants/in_stock", stock, minute),
                Event(ingest_variant_stock, "variants/out_of_stock", stock, minute),
            ]
        )
    )
    return event


@draws
def claim_events(draw: st.DrawFn) -> Event:
    """Draw a dispute of Shopify Payments, or a tender transaction."""
    minute = draw(minutes)
    body = {
        "id": draw(few), "order_id": draw(st.none() | orders_of_shop), "amount": draw(cents),
        "status": draw(st.sampled_from(["needs_response", "under_review", "won", "lost"])),
        "currency": "CAD", "reason": draw(texts),
        "evidence_due_by": draw(st.sampled_from([None, at(9)])), "payment_method": draw(texts),
        "processed_at": draw(st.sampled_from([None, at(minute)])),
    }  # fmt: skip
    if draw(st.booleans()):
        return Event(ingest_shopify_disputes, "disputes/update", body, minute)
    return Event(ingest_tender_transactions, "tender_transactions/create", body, minute)
