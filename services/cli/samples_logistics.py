"""Sample webhooks of Shopify's beside orders and stock, for ``fleet send``. Pure but for its randomness."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from services.sandbox.payloads import logistics as told
from services.sandbox.shopify.catalogue import Item

Body = dict[str, Any]
Beside = Callable[[random.Random, Body, datetime], Body]
"""Makes a body for a made-up order."""


def _lines(rng: random.Random, kind: str) -> list[Body]:
    return told.make_lines(rng, kind, [rng.randint(1, 20), rng.randint(1, 20)])


def _received(rng: random.Random, now: datetime) -> Body:
    line = {
        "id": told.gid("InventoryShipmentLineItem", rng.randrange(1, 2**53)),
        "old_accepted_quantity": 0,
        "old_rejected_quantity": 0,
        "new_accepted_quantity": 9,
        "new_rejected_quantity": 1,
        "remaining_quantity_to_receive": 2,
    }
    return told.make_shipment(rng, happened_at=now, status="PARTIALLY_RECEIVED", items_received=[line])


def make_beside(location_id: int, currency: str, items: Sequence[Item]) -> MappingProxyType[str, Beside]:
    """Return what makes the samples of a shop that sells ``items`` from ``location_id``, by topic."""
    other_id = location_id + 1

    def transfer(rng: random.Random, now: datetime, **more: Any) -> Body:
        return told.make_transfer(
            rng, happened_at=now, origin_id=location_id, destination_id=other_id, **more
        )

    def variant(rng: random.Random, now: datetime, is_in_stock: bool) -> Body:
        item = rng.choice(items)
        return told.make_variant(item, updated_at=now, currency=currency, is_in_stock=is_in_stock)

    return MappingProxyType(
        {
            "fulfillment_orders/order_routing_complete": lambda r, _o, _n: told.make_fulfillment_order(
                r, "open"
            ),
            "fulfillment_orders/placed_on_hold": lambda r, _o, _n: told.make_fulfillment_order_hold(r),
            "fulfillment_orders/moved": lambda r, _o, _n: told.make_fulfillment_order_move(
                r, source_id=location_id, destination_id=other_id
            ),
            "fulfillment_events/create": lambda r, o, n: told.make_fulfillment_event(r, o, happened_at=n),
            "returns/request": lambda r, o, _n: told.make_return(r, o, "requested"),
            "returns/approve": lambda r, o, _n: told.make_return(r, o, "open"),
            "returns/decline": lambda r, o, _n: told.make_return(r, o, "declined"),
            "returns/close": lambda r, o, _n: told.make_return_step(r, o, "closed"),
            "reverse_deliveries/attach_deliverable": lambda r, _o, _n: told.make_reverse_delivery(r),
            "reverse_fulfillment_orders/dispose": lambda r, _o, _n: told.make_disposition(
                r, location_id=location_id
            ),
            "orders/risk_assessment_changed": lambda _r, o, n: told.make_risk(o, created_at=n),
            "orders/shopify_protect_eligibility_changed": lambda _r, o, _n: told.make_protect(o),
            "disputes/create": lambda r, o, n: told.make_shopify_dispute(
                r, o, initiated_at=n, currency=currency
            ),
            "tender_transactions/create": lambda r, o, n: told.make_tender_transaction(
                r, o, processed_at=n, currency=currency
            ),
            "variants/in_stock": lambda r, _o, n: variant(r, n, True),
            "variants/out_of_stock": lambda r, _o, n: variant(r, n, False),
            "inventory_transfers/ready_to_ship": lambda r, _o, n: transfer(
                r, n, status="READY_TO_SHIP", line_items=_lines(r, "InventoryTransferLineItem")
            ),
            "inventory_transfers/complete": lambda r, _o, n: transfer(r, n, status="TRANSFERRED"),
            "inventory_shipments/create": lambda r, _o, n: told.make_shipment(
                r,
                happened_at=n,
                status="DRAFT",
                tracking=told.make_tracking(n + timedelta(days=3)),
                line_items=_lines(r, "InventoryShipmentLineItem"),
            ),
            "inventory_shipments/receive_items": lambda r, _o, n: _received(r, n),
            "inventory_shipments/delete": lambda r, _o, n: told.make_shipment(r, happened_at=n),
        }
    )
