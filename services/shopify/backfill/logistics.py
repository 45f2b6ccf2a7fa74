"""Lists of fulfilment orders and returns, and their webhook payloads."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from services.core.db import transaction
from services.core.fields import find_object
from services.core.pg_arrays import find_by_key
from services.providers import shopify_documents as documents
from services.shopify.backfill.pager import Pager, PulledList, Stored, find_missing_nodes, is_newer
from services.shopify.backfill.webhook_payload import (
    Node,
    PulledEvent,
    id_of,
    ids_of,
    make_pulled_event,
    number_of,
)
from services.shopify.logistics.tables import fulfillment_orders, order_returns

RETURN_LAG = timedelta(minutes=1)
"""A return that a webhook changed within this time is not compared: the webhook may be newer."""

_RETURN_TOPICS = {
    "REQUESTED": "returns/request",
    "OPEN": "returns/approve",
    "DECLINED": "returns/decline",
    "CANCELED": "returns/cancel",
    "CLOSED": "returns/close",
}
"""The webhook topic of each status of a return."""


def _is_missing_fulfillment_order(node: Node, known: Stored | None) -> bool:
    """Return whether a fulfillment order is unknown, has no order here, or is older and different here.

    Shopify's time is that of the change, ours is that of its webhook, a moment later. So if the listed one
    differs and is not newer, a webhook has replaced it since.
    """
    if known is None or not known["order_gid"]:
        return True
    status = node["status"].lower()
    listed = {
        "status": status,
        "request_status": node["requestStatus"].lower(),
        "location_id": _location_of(node),
        "is_on_hold": status == "on_hold",
    }
    if all(known[name] == value for name, value in listed.items()):
        return False
    return is_newer(node, known)


def fulfillment_order_event(node: Node) -> PulledEvent:
    """Return ``fulfillment_orders/order_routing_complete``, the topic with only the state."""
    body = {
        "fulfillment_order": {
            "id": node["id"],
            "order_id": number_of(node["orderId"]),
            "status": node["status"].lower(),
            "request_status": node["requestStatus"].lower(),
            "assigned_location_id": _location_of(node),
            "fulfill_at": node["fulfillAt"],
            "fulfillment_holds": [
                {"id": hold["id"], "reason": hold["reason"].lower()} for hold in node["fulfillmentHolds"]
            ],
            "updated_at": node["updatedAt"],
        }
    }
    return make_pulled_event("fulfillment_orders/order_routing_complete", node, body)


def _location_of(node: Node) -> int | None:
    return id_of(find_object(node, "assignedLocation"), "location")


def _find_missing_returns(
    _pager: Pager, shop_id: int, page: Sequence[Node], now: datetime
) -> list[PulledEvent]:
    """Return the returns of the orders in ``page`` that are unknown, without a name, or differ in status.

    A return has no time: its state counts as of ``now``, less ``RETURN_LAG``.
    """
    returns = [
        ((shop_id, number_of(node["id"])), node, order)
        for order in page
        for node in order["returns"]["nodes"]
    ]
    with transaction() as tx:
        known = find_by_key(tx, order_returns, [key for key, _, _ in returns])
    at = now - RETURN_LAG
    return [
        return_event(node, order, known.get(key), at)
        for key, node, order in returns
        if _is_missing_return(node, known.get(key), at)
    ]


def _is_missing_return(node: Node, known: Stored | None, at: datetime) -> bool:
    if known is None or not (known["order_gid"] and known["name"]):
        return True
    return node["status"].lower() != known["status"] and bool(known["updated_at"] < at)


def return_event(node: Node, order: Node, known: Stored | None, at: datetime) -> PulledEvent:
    """Return a return of ``order`` as the webhook of its status at ``at``.

    ``corrects`` is not a field of Shopify: with it, corrections of different states are different events.
    """
    body = {
        **ids_of(node),
        "status": node["status"].lower(),
        "name": node["name"],
        "order": ids_of(order),
        "decline": {"reason": str(find_object(node, "decline").get("reason") or "").lower()},
        "corrects": known["updated_at"].isoformat() if known else None,
    }
    return PulledEvent(_RETURN_TOPICS[node["status"]], node["id"], body, at)


FULFILLMENT_ORDERS = PulledList(
    name="fulfillment_orders",
    document=documents.LIST_FULFILLMENT_ORDERS,
    path=("fulfillmentOrders",),
    find_missing=partial(
        find_missing_nodes,
        fulfillment_orders,
        fulfillment_order_event,
        is_missing=_is_missing_fulfillment_order,
    ),
    is_sorted=True,
    has_own_scope=True,
)
RETURNS = PulledList(
    name="returns",
    document=documents.LIST_RETURNS,
    path=("orders",),
    find_missing=_find_missing_returns,
    nested=("returns", documents.READ_ORDER_RETURNS, "order"),
    is_sorted=True,
    has_own_scope=True,
)
"""Shopify lists returns only with their orders."""
