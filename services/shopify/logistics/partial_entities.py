"""Transfers, their shipments, returns and reverse fulfillment orders: webhooks with only the changed fields.

None changes stock or money: Shopify sends those in ``inventory_levels/update`` and ``refunds/create``.
A payload of a transfer or a shipment has its id and its changed lines, but neither the items of the lines nor
the transfer of a shipment. Of the payloads of a return, four have the order as an object and three as
``order_id``; ``returns/update`` has no order and only the removed lines; ``returns/process`` has no sample,
so only its id and status are read. The payload of a reverse fulfillment order does not contain its return.
Returns have no time. Source: the sample payloads of version 2026-07.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.core.fields import (
    Unreadable,
    find_instant,
    find_list,
    find_object,
    find_text,
    read_count,
    read_list,
    read_text,
)
from services.ledger.work import WorkItem
from services.shopify.entities import EntityHandler, EntityUpdate, rank_values
from services.shopify.logistics.tables import (
    inventory_shipments,
    inventory_transfers,
    order_returns,
    reverse_fulfillment_orders,
)
from services.shopify.partial_updates import FieldVersions, PartialEntitySpec
from services.shopify.payload import find_gid, order_gid, read_event, read_gid

_SHIPPED = "reverse_deliveries/attach_deliverable"


class InventoryTransfer(FieldVersions):
    """A transfer. The quantity of each line is a separate field, by the line's id."""

    ranks = rank_values("other", "draft", "ready_to_ship", "in_progress", "transferred", "canceled")

    def columns(self) -> dict[str, Any]:
        """Return the columns; ``quantity`` is that of all known lines, None without any."""
        return {
            "status": self.text("status"),
            "origin_id": self.number("origin"),
            "destination_id": self.number("destination"),
            "quantity": self.total("line:"),
        }


class InventoryShipment(FieldVersions):
    """A shipment of a transfer. Each quantity of each line is a separate field, by the line's id."""

    ranks = rank_values("other", "draft", "in_transit", "partially_received", "received")

    def columns(self) -> dict[str, Any]:
        """Return the columns; ``arrives_at`` is the carrier's estimate."""
        return {
            "status": self.text("status"),
            "arrives_at": self.time("arrives_at"),
            "quantity": self.total("line:"),
            "accepted_quantity": self.total("accepted:") or 0,
            "rejected_quantity": self.total("rejected:") or 0,
        }


def _parse_transfer(item: WorkItem, now: datetime) -> list[EntityUpdate[InventoryTransfer]]:
    source = read_event(item)
    values = {
        "changed": 1,
        "status": find_text(source, "status").lower(),
        "origin": find_gid(find_object(source, "origin"), "id"),
        "destination": find_gid(find_object(source, "destination"), "id"),
        **_read_lines(source, "line_item_id"),
    }
    at = find_instant(source, "happened_at") or item.event_time(now)
    key = (item.shop_id, read_gid(source, "id"))
    return [EntityUpdate(key, InventoryTransfer.from_event(at, values))]


def _parse_shipment(item: WorkItem, now: datetime) -> list[EntityUpdate[InventoryShipment]]:
    source = read_event(item)
    at = find_instant(source, "happened_at") or item.event_time(now)
    # ``update_tracking`` has other names for the id and the tracking.
    key = (item.shop_id, read_gid(source, "shipment_id" if source.get("shipment_id") is not None else "id"))
    if item.event_topic == "inventory_shipments/delete":
        return [EntityUpdate(key, deleted_at=at)]
    tracking = find_object(source, "tracking") or find_object(source, "updated_tracking")
    arrives_at = find_instant(tracking, "arrives_at")
    values = {
        "changed": 1,
        "status": find_text(source, "status").lower(),
        "arrives_at": arrives_at.isoformat() if arrives_at else None,
        **_read_lines(source, "id"),
    }
    for line in find_list(source, "items_received"):
        number = read_gid(line, "id")
        values[f"accepted:{number}"] = read_count(line, "new_accepted_quantity")
        values[f"rejected:{number}"] = read_count(line, "new_rejected_quantity")
    return [EntityUpdate(key, InventoryShipment.from_event(at, values))]


def _read_lines(source: Mapping[str, Any], id_name: str) -> dict[str, int]:
    """Return the new quantity of each line in a payload (0 if it was removed) as fields.

    ``id_name`` is the name of a line's id in ``items_...``; in ``line_items`` it is ``id``.
    """
    lines = dict[str, int]()
    for name, id_of, quantity in (
        ("line_items", "id", "quantity"),
        ("items_added", id_name, "quantity"),
        ("items_updated", id_name, "new_quantity"),
        ("items_removed", id_name, ""),
    ):
        for line in find_list(source, name):
            lines[f"line:{read_gid(line, id_of)}"] = read_count(line, quantity) if quantity else 0
    return lines


class OrderReturn(FieldVersions):
    """A return of an order."""

    ranks = rank_values("requested", "open", "declined", "canceled", "closed")

    def columns(self) -> dict[str, Any]:
        """Return the columns; ``quantity`` is None unless it is known of every line."""
        return {
            "order_gid": self.text("order_gid"),
            "name": self.text("name"),
            "status": self.text("status"),
            "decline_reason": self.text("decline_reason"),
            "line_count": self.number("line_count"),
            "quantity": self.number("quantity"),
            "shipping_attached_at": self.time("shipping_attached_at"),
        }


class ReverseFulfillmentOrder(FieldVersions):
    """The dispositions of returned items: each is a separate field, by type, line, location and time."""

    def columns(self) -> dict[str, Any]:
        """Return the quantities; the disposed one includes items that must be processed first."""
        return {
            "restocked_quantity": self.total("restocked:") or 0,
            "not_restocked_quantity": self.total("not_restocked:") or 0,
            "missing_quantity": self.total("missing:") or 0,
            "disposed_quantity": self.total("") or 0,
        }


def _parse_return(item: WorkItem, now: datetime) -> list[EntityUpdate[OrderReturn]]:
    source: Mapping[str, Any] = read_event(item)
    at = item.event_time(now)
    values: dict[str, str | int | None]
    if item.event_topic == _SHIPPED:
        source, values = find_object(source, "return"), {"shipping_attached_at": at.isoformat()}
    elif item.event_topic == "returns/process" and not find_gid(source, "admin_graphql_api_id"):
        return []
    else:
        order_id = find_gid(source, "order_id") or find_gid(find_object(source, "order"), "id")
        values = {
            "changed": 1,
            "status": find_text(source, "status").lower(),
            "order_gid": order_gid(order_id) if order_id else None,
            "name": find_text(source, "name"),
            "decline_reason": find_text(find_object(source, "decline"), "reason").lower(),
            **_count_lines(source),
        }
    number = find_gid(source, "id") or find_gid(source, "admin_graphql_api_id") or read_gid(source, "id")
    return [EntityUpdate((item.shop_id, number), OrderReturn.from_event(at, values))]


def _count_lines(source: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts in a full payload; in ``returns/update`` the field is an object of changes."""
    if source.get("total_return_line_items") is None:
        return {}
    counts = {"line_count": read_count(source, "total_return_line_items")}
    lines = find_list(source, "return_line_items")
    is_complete = len(lines) == counts["line_count"] > 0
    if is_complete and all(line.get("quantity") is not None for line in lines):
        counts["quantity"] = sum(read_count(line, "quantity") for line in lines)
    return counts


def _parse_reverse_order(item: WorkItem, now: datetime) -> list[EntityUpdate[ReverseFulfillmentOrder]]:
    source, at = read_event(item), item.event_time(now)
    quantities = Counter[str]()
    for index, disposition in enumerate(read_list(source, "dispositions")):
        try:
            line = read_gid(find_object(disposition, "reverse_fulfillment_order_line_item"), "id")
            location = find_gid(find_object(disposition, "location"), "id") or 0
            name = f"{read_text(disposition, 'type').lower()}:{line}:{location}:{at.isoformat()}"
            quantities[name] += read_count(disposition, "quantity")
        except Unreadable as fault:
            raise fault.within(f"dispositions[{index}]") from None
    key = (item.shop_id, read_gid(source, "id"))
    return [EntityUpdate(key, ReverseFulfillmentOrder.from_event(at, quantities))] if quantities else []


_TRANSFERS = PartialEntitySpec(
    name="inventory_transfer",
    table=inventory_transfers,
    make=InventoryTransfer.from_row,
    audited=("status", "origin_id", "destination_id", "quantity"),
)

_SHIPMENTS = PartialEntitySpec(
    name="inventory_shipment",
    table=inventory_shipments,
    make=InventoryShipment.from_row,
    audited=("status", "arrives_at", "quantity", "accepted_quantity", "rejected_quantity"),
    blank=InventoryShipment({}),
)

ingest_inventory_transfers = EntityHandler(_TRANSFERS, _parse_transfer)

ingest_inventory_shipments = EntityHandler(_SHIPMENTS, _parse_shipment)
"""A deletion is final."""

_RETURNS = PartialEntitySpec(
    name="return",
    table=order_returns,
    make=OrderReturn.from_row,
    audited=("status", "decline_reason", "line_count", "quantity", "shipping_attached_at", "order_gid"),
)

_REVERSE_ORDERS = PartialEntitySpec(
    name="reverse_fulfillment_order",
    table=reverse_fulfillment_orders,
    make=ReverseFulfillmentOrder.from_row,
    audited=("restocked_quantity", "not_restocked_quantity", "missing_quantity", "disposed_quantity"),
)

ingest_returns = EntityHandler(_RETURNS, _parse_return)
"""Does not store notes, labels and tracking numbers. ``returns/process`` without a return is ``ignored``."""

ingest_reverse_fulfillment_orders = EntityHandler(_REVERSE_ORDERS, _parse_reverse_order)
"""Each disposition is counted once, however often it is received."""
