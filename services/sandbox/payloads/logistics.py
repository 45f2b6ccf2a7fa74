"""Bodies of Shopify webhooks beside orders and stock: parcels, transfers, returns, disputes, notices. Pure.

In the shapes of Shopify's own samples of 2026-07: ids global in some and plain in others, few with a time.
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from services.sandbox.payloads.common import big_id, decimal_text, local_text, token
from services.sandbox.shopify.catalogue import Item

Body = dict[str, Any]


def gid(kind: str, number: int) -> str:
    """Return an id as GraphQL writes it."""
    return f"gid://shopify/{kind}/{number}"


def make_fulfillment_order(rng: random.Random, status: str, **more: Any) -> Body:
    """Return the body of most of ``fulfillment_orders/*``: one of them, with what ``more`` says of it."""
    return {"fulfillment_order": {"id": gid("FulfillmentOrder", big_id(rng)), "status": status, **more}}


def make_fulfillment_order_hold(rng: random.Random, *, reason: str = "other") -> Body:
    """Return the body of ``fulfillment_orders/placed_on_hold``: all of an order's pieces are held."""
    hold = make_fulfillment_hold(rng, reason=reason)["fulfillment_hold"]
    held = make_fulfillment_order(rng, "on_hold", fulfillment_holds=[hold])
    line = {"id": gid("FulfillmentOrderLineItem", big_id(rng)), "quantity": 1}
    return {**held, "held_fulfillment_order_line_items": [line], "created_fulfillment_hold": hold}


def make_fulfillment_order_move(rng: random.Random, *, source_id: int, destination_id: int) -> Body:
    """Return the body of ``fulfillment_orders/moved``: all of it goes from one location to another."""
    there, here = gid("Location", destination_id), gid("Location", source_id)
    closed = make_fulfillment_order(rng, "closed", assigned_location_id=here)["fulfillment_order"]
    moved = make_fulfillment_order(rng, "open", assigned_location_id=there)["fulfillment_order"]
    return {
        "original_fulfillment_order": closed,
        "moved_fulfillment_order": moved,
        "destination_location_id": there,
        "fulfillment_order_line_items_requested": [],
        "source_location": {"id": here},
    }


def make_fulfillment_hold(rng: random.Random, *, reason: str = "other") -> Body:
    """Return the body of ``fulfillment_holds/added`` and ``released``."""
    number = big_id(rng)
    return {
        "fulfillment_order": {"id": gid("FulfillmentOrder", big_id(rng))},
        "fulfillment_hold": {
            "id": gid("FulfillmentHold", number),
            "reason": reason,
            "reason_notes": "A note of the staff",
            "held_by_requesting_app": False,
            "handle": f"hold-{number}",
            "held_by_app": {"id": gid("App", 12345)},
        },
    }


def make_fulfillment_event(
    rng: random.Random, order: Body, *, happened_at: datetime, status: str = "in_transit", zone: tzinfo = UTC
) -> Body:
    """Return the body of ``fulfillment_events/create`` and ``delete``: a parcel of ``order`` was seen."""
    number, at = big_id(rng), local_text(happened_at, zone)
    return {
        "id": number,
        "fulfillment_id": big_id(rng),
        "status": status,
        "message": None,
        "happened_at": at,
        "city": "Example",
        "province": "BC",
        "country": "CA",
        "zip": None,
        "address1": None,
        "latitude": None,
        "longitude": None,
        "shop_id": 548380009,
        "created_at": at,
        "updated_at": at,
        "estimated_delivery_at": local_text(happened_at + timedelta(days=2), zone),
        "order_id": order["id"],
        "admin_graphql_api_id": gid("FulfillmentEvent", number),
    }


def make_transfer(
    rng: random.Random, *, happened_at: datetime, origin_id: int, destination_id: int, **more: Any
) -> Body:
    """Return the body of ``inventory_transfers/updated``, or with ``more`` that of its other topics."""
    return {
        "id": gid("InventoryTransfer", big_id(rng)),
        "happened_at": local_text(happened_at),
        "origin": {"id": gid("Location", origin_id)},
        "destination": {"id": gid("Location", destination_id)},
        **more,
    }


def make_shipment(rng: random.Random, *, happened_at: datetime, **more: Any) -> Body:
    """Return the body of ``inventory_shipments/delete``, or with ``more`` that of its other topics."""
    return {
        "id": gid("InventoryShipment", big_id(rng)),
        "happened_at": local_text(happened_at),
        **more,
    }


def make_lines(rng: random.Random, kind: str, quantities: Sequence[int]) -> list[Body]:
    """Return a transfer's or a shipment's lines, by their own ids."""
    return [{"id": gid(kind, big_id(rng)), "quantity": quantity} for quantity in quantities]


def make_tracking(arrives_at: datetime) -> Body:
    """Return a shipment's tracking."""
    return {
        "tracking_number": "8375692728",
        "tracking_url": None,
        "company": "Canada Post",
        "arrives_at": local_text(arrives_at),
    }


def make_variant(item: Item, *, updated_at: datetime, currency: str, is_in_stock: bool) -> Body:
    """Return the body of ``variants/in_stock`` and ``out_of_stock``: without product title and item."""
    return {
        "id": item.variant_id,
        "product_id": item.product_id,
        "title": item.title,
        "price": decimal_text(item.price_cents, currency),
        "created_at": local_text(updated_at),
        "updated_at": local_text(updated_at),
        "taxable": True,
        "sku": item.sku,
        "inventory_quantity": 75 if is_in_stock else 0,
        "admin_graphql_api_id": gid("ProductVariant", item.variant_id),
    }


def make_risk(order: Body, *, created_at: datetime, level: str = "medium") -> Body:
    """Return the body of ``orders/risk_assessment_changed``, of Shopify's own assessment."""
    return {
        "provider_id": None,
        "provider_title": None,
        "risk_level": level,
        "created_at": local_text(created_at),
        "order_id": order["id"],
        "admin_graphql_api_order_id": order["admin_graphql_api_id"],
    }


def make_protect(order: Body, *, status: str = "active", eligibility: str = "eligible") -> Body:
    """Return the body of ``orders/shopify_protect_eligibility_changed``."""
    return {"order_id": order["id"], "status": status, "eligibility": {"status": eligibility}}


def make_return(rng: random.Random, order: Body, status: str) -> Body:
    """Return the body of ``returns/request``, ``approve`` and ``decline``: they tell the return whole."""
    number = big_id(rng)
    body = {
        "id": number,
        "admin_graphql_api_id": gid("Return", number),
        "status": status,
        "order": {"id": order["id"], "admin_graphql_api_id": order["admin_graphql_api_id"]},
    }
    if status == "declined":
        return body | {"decline": {"reason": "return_period_ended", "note": "As discussed on the phone"}}
    return body | {
        "total_return_line_items": 1,
        "name": f"{order['name']}-R1",
        "return_line_items": [],
        "return_shipping_fees": [],
        "exchange_line_items": [],
        "total_exchange_line_items": 0,
    }


def make_return_step(rng: random.Random, order: Body, status: str) -> Body:
    """Return the body of ``returns/cancel``, ``close`` and ``reopen``: where the return stands now."""
    number = big_id(rng)
    return {
        "id": number,
        "admin_graphql_api_id": gid("Return", number),
        "order_id": order["id"],
        "status": status,
    }


def make_reverse_delivery(rng: random.Random) -> Body:
    """Return the body of ``reverse_deliveries/attach_deliverable``: a return has a label for the way back."""
    number, return_id = big_id(rng), big_id(rng)
    tracking = {"carrier_name": "Canada Post", "tracking_number": token(rng, "", 9), "tracking_url": None}
    return {
        "id": number,
        "admin_graphql_api_id": gid("ReverseDelivery", number),
        "return": {"id": return_id, "admin_graphql_api_id": gid("Return", return_id)},
        "shipping_deliverable": {
            "tracking": tracking,
            "label": {"public_file_url": None, "created_at": None},
        },
    }


def make_disposition(rng: random.Random, *, location_id: int, kind: str = "restocked") -> Body:
    """Return the body of ``reverse_fulfillment_orders/dispose``: one piece came back, and what of it."""
    number, line_id = big_id(rng), big_id(rng)
    return {
        "id": number,
        "admin_graphql_api_id": gid("ReverseFulfillmentOrder", number),
        "dispositions": [
            {
                "reverse_fulfillment_order_line_item": {
                    "id": line_id,
                    "admin_graphql_api_id": gid("ReverseFulfillmentOrderLineItem", line_id),
                },
                "reverse_delivery_line_item": None,
                "type": kind,
                "location": {"id": location_id, "admin_graphql_api_id": gid("Location", location_id)},
                "quantity": 1,
            }
        ],
        "total_dispositions": 1,
    }


def make_shopify_dispute(
    rng: random.Random, order: Body, *, initiated_at: datetime, currency: str, status: str = "needs_response"
) -> Body:
    """Return the body of ``disputes/create`` and ``update``: of all that ``order`` came to."""
    return {
        "id": big_id(rng),
        "order_id": order["id"],
        "type": "chargeback",
        "amount": order["total_price"],
        "currency": currency,
        "reason": "fraudulent",
        "network_reason_code": "4837",
        "status": status,
        "evidence_due_by": local_text(initiated_at + timedelta(days=10)),
        "evidence_sent_on": None,
        "finalized_on": None,
        "initiated_at": local_text(initiated_at),
    }


def make_tender_transaction(
    rng: random.Random, order: Body, *, processed_at: datetime, currency: str, method: str = "cash"
) -> Body:
    """Return the body of ``tender_transactions/create``: all that ``order`` came to was paid."""
    return {
        "id": big_id(rng),
        "order_id": order["id"],
        "amount": order["total_price"],
        "currency": currency,
        "user_id": None,
        "test": False,
        "processed_at": local_text(processed_at),
        "remote_reference": None,
        "payment_details": None,
        "payment_method": method,
    }
