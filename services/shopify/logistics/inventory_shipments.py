"""Shipments of transfers: how many pieces were sent off, and how many of them were received, or refused.

A body names the shipment and its lines by their own ids: neither the transfer nor the goods. Source: the
sample payloads of version 2026-07.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from services.core.fields import find_instant, find_text, read_count, read_list
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.logistics.inventory_transfers import read_lines
from services.shopify.merge import EntityState, EntityUpdate
from services.shopify.partial_updates import FieldVersions, upsert_field_updates
from services.shopify.payload_fields import find_object, read_gid
from services.shopify.upsert import EntitySpec

_FURTHER = ("other", "draft", "in_transit", "partially_received", "received")


class InventoryShipment(FieldVersions):
    """A shipment as the events told it. A line is a part of its own, by its id."""

    __slots__ = ()
    further = MappingProxyType({word: place for place, word in enumerate(_FURTHER, start=1)})

    @property
    def status(self) -> str:
        """Shopify's, in lower case: ``draft``, ``in_transit``, ``partially_received``, ``received``."""
        return self.text("status")

    @property
    def arrives_at(self) -> datetime | None:
        """When the carrier expects it to be there."""
        return self.moment("arrives_at")

    @property
    def quantity(self) -> int | None:
        """Its pieces, over all lines that were told of; None where none was."""
        return self.total("line:")

    @property
    def accepted_quantity(self) -> int:
        """The pieces that were received and kept."""
        return self.total("accepted:") or 0

    @property
    def rejected_quantity(self) -> int:
        """The pieces that were received and refused."""
        return self.total("rejected:") or 0


def ingest_inventory_shipments(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every shipment stands, field by field and line by line, as its newest event told it; an end is an end.

    Moves no stock: Shopify tells the levels themselves in ``inventory_levels/update``.
    """
    return upsert_field_updates(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[InventoryShipment]]:
    source = read_event(item)
    at = find_instant(source, "happened_at") or item.event_time(now)
    # ``update_tracking`` has other names for the same two things.
    key = (item.shop_id, read_gid(source, "shipment_id" if source.get("shipment_id") is not None else "id"))
    if item.event_topic == "inventory_shipments/delete":
        return [EntityUpdate(key, EntityState(None, at))]
    tracking = find_object(source, "tracking") or find_object(source, "updated_tracking")
    arrives_at = find_instant(tracking, "arrives_at")
    values: dict[str, str | int | None] = {
        "changed": 1,
        "status": find_text(source, "status").lower(),
        "arrives_at": arrives_at.isoformat() if arrives_at else None,
        **read_lines(source, "id"),
        **_received(source),
    }
    return [EntityUpdate(key, EntityState(InventoryShipment.tell(at, values)))]


def _received(source: Mapping[str, Any]) -> dict[str, str | int | None]:
    values = dict[str, str | int | None]()
    lines = read_list(source, "items_received") if source.get("items_received") is not None else []
    for line in lines:
        number = read_gid(line, "id")
        values[f"accepted:{number}"] = read_count(line, "new_accepted_quantity")
        values[f"rejected:{number}"] = read_count(line, "new_rejected_quantity")
    return values


_FIND = """
select t.shop_id, t.inventory_shipment_id, t.deleted_at, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join inventory_shipments t on t.shop_id = v.shop_id and t.inventory_shipment_id = v.id
"""

_WRITE = """
insert into inventory_shipments (shop_id, inventory_shipment_id, deleted_at, event_id, updated_at, told,
                                 status, arrives_at, quantity, accepted_quantity, rejected_quantity)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(deleted_at)s::timestamptz[],
                     %(event_id)s::bigint[], %(updated_at)s::timestamptz[], %(told)s::jsonb[],
                     %(status)s::text[], %(arrives_at)s::timestamptz[], %(quantity)s::bigint[],
                     %(accepted_quantity)s::bigint[], %(rejected_quantity)s::bigint[])
on conflict (shop_id, inventory_shipment_id) do update set
   deleted_at = excluded.deleted_at, event_id = excluded.event_id, updated_at = excluded.updated_at,
   told = excluded.told, status = excluded.status, arrives_at = excluded.arrives_at,
   quantity = excluded.quantity, accepted_quantity = excluded.accepted_quantity,
   rejected_quantity = excluded.rejected_quantity
"""

_KIND = EntitySpec(
    table="inventory_shipments",
    noun="shipment",
    code="shopify.unreadable_inventory_shipment",
    find=_FIND,
    make=InventoryShipment.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "status": "text", "arrives_at": "timestamptz",
        "quantity": "bigint", "accepted_quantity": "bigint", "rejected_quantity": "bigint",
    },
    blank=InventoryShipment({}),
    shown=("status", "arrives_at", "quantity", "accepted_quantity", "rejected_quantity"),
    lock=lambda number: f"inventory-shipment:{number}",
)  # fmt: skip
