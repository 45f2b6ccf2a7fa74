"""Stock on its way between two of the shop's places: transfers.

A body names the transfer, when it happened, origin and destination, and the lines that changed by their own
ids: which goods a line is about it does not say. Source: the sample payloads of version 2026-07.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection

from services.core.fields import find_instant, find_text, read_count, read_list
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EntityState, EntityUpdate
from services.shopify.partial_updates import FieldVersions, upsert_field_updates
from services.shopify.payload_fields import find_gid, find_object, read_gid
from services.shopify.upsert import EntitySpec

_FURTHER = ("other", "draft", "ready_to_ship", "in_progress", "transferred", "canceled")


class InventoryTransfer(FieldVersions):
    """A transfer as the events told it. A line is a part of its own, by its id."""

    __slots__ = ()
    further = MappingProxyType({word: place for place, word in enumerate(_FURTHER, start=1)})

    @property
    def status(self) -> str:
        """Shopify's, in lower case: ``draft``, ``ready_to_ship``, ``in_progress``, ``transferred``..."""
        return self.text("status")

    @property
    def origin_id(self) -> int | None:
        """The location that it leaves."""
        return self.number("origin")

    @property
    def destination_id(self) -> int | None:
        """The location that it goes to."""
        return self.number("destination")

    @property
    def quantity(self) -> int | None:
        """Its pieces, over all lines that were told of; None where none was."""
        return self.total("line:")


def ingest_inventory_transfers(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every transfer stands, field by field and line by line, as its newest event told it.

    Moves no stock: Shopify tells the levels themselves in ``inventory_levels/update``.
    """
    return upsert_field_updates(tx, items, _KIND, lambda item: _read(item, now))


def read_lines(source: Mapping[str, Any], id_name: str) -> dict[str, str | int | None]:
    """Return how many pieces each line that a body names has now, as parts; none of one that was removed.

    ``id_name`` is what the lines of ``items_...`` call their id; those of ``line_items`` call it ``id``.
    """
    lines = dict[str, str | int | None]()
    for name, id_of, quantity in (
        ("line_items", "id", "quantity"),
        ("items_added", id_name, "quantity"),
        ("items_updated", id_name, "new_quantity"),
        ("items_removed", id_name, ""),
    ):
        for line in read_list(source, name) if source.get(name) is not None else []:
            lines[f"line:{read_gid(line, id_of)}"] = read_count(line, quantity) if quantity else 0
    return lines


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[InventoryTransfer]]:
    source = read_event(item)
    values: dict[str, str | int | None] = {
        "changed": 1,
        "status": find_text(source, "status").lower(),
        "origin": find_gid(find_object(source, "origin"), "id"),
        "destination": find_gid(find_object(source, "destination"), "id"),
        **read_lines(source, "line_item_id"),
    }
    at = find_instant(source, "happened_at") or item.event_time(now)
    return [
        EntityUpdate((item.shop_id, read_gid(source, "id")), EntityState(InventoryTransfer.tell(at, values)))
    ]


_FIND = """
select t.shop_id, t.inventory_transfer_id, null::timestamptz, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join inventory_transfers t on t.shop_id = v.shop_id and t.inventory_transfer_id = v.id
"""

_WRITE = """
insert into inventory_transfers (shop_id, inventory_transfer_id, event_id, updated_at, told, status,
                                 origin_id, destination_id, quantity)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(told)s::jsonb[], %(status)s::text[],
                     %(origin_id)s::bigint[], %(destination_id)s::bigint[], %(quantity)s::bigint[])
on conflict (shop_id, inventory_transfer_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, told = excluded.told,
   status = excluded.status, origin_id = excluded.origin_id, destination_id = excluded.destination_id,
   quantity = excluded.quantity
"""

_KIND = EntitySpec(
    table="inventory_transfers",
    noun="transfer",
    code="shopify.unreadable_inventory_transfer",
    find=_FIND,
    make=InventoryTransfer.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "status": "text", "origin_id": "bigint",
        "destination_id": "bigint", "quantity": "bigint",
    },
    blank=InventoryTransfer({}),
    shown=("status", "origin_id", "destination_id", "quantity"),
    lock=lambda number: f"inventory-transfer:{number}",
)  # fmt: skip
