"""Inventory transfers between two locations of a shop, and the shipments of a transfer.

A payload has the ids of the transfer or the shipment and of its changed lines, without the items of the lines
and without the transfer of a shipment. Neither moves stock: Shopify sends the levels in
``inventory_levels/update``. Source: the sample payloads of version 2026-07.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.core.fields import find_instant, find_list, find_object, find_text, read_count
from services.ledger.work import WorkItem
from services.shopify.entities import EntityHandler, EntityUpdate, rank_values
from services.shopify.logistics.tables import inventory_shipments, inventory_transfers
from services.shopify.partial_updates import FieldVersions, PartialEntitySpec
from services.shopify.payload import find_gid, read_event, read_gid


class InventoryTransfer(FieldVersions):
    """A transfer. The quantity of each line is a field of its own, by the line's id."""

    ranks = rank_values("other", "draft", "ready_to_ship", "in_progress", "transferred", "canceled")

    def columns(self) -> dict[str, Any]:
        """Return the status, the two locations, and the quantity of all known lines (None: no line known)."""
        return {
            "status": self.text("status"),
            "origin_id": self.number("origin"),
            "destination_id": self.number("destination"),
            "quantity": self.total("line:"),
        }


class InventoryShipment(FieldVersions):
    """A shipment of a transfer. Each quantity of each line is a field of its own, by the line's id."""

    ranks = rank_values("other", "draft", "in_transit", "partially_received", "received")

    def columns(self) -> dict[str, Any]:
        """Return the status, the carrier's estimate, and the quantities sent, accepted and rejected."""
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
    """Return the new quantity of each line in a payload, 0 of a removed line, as fields.

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
