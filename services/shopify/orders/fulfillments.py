"""Fulfilments: what of an order was sent, from where, and how far it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import (
    find_text,
    read_count,
    read_id,
    read_instant,
    read_list,
    read_text,
)
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.orders.payload import order_gid
from services.shopify.payload_fields import find_id
from services.shopify.upsert import EntitySpec, upsert_entities

_FURTHER = {"pending": 1, "open": 2, "success": 3, "error": 4, "failure": 5, "cancelled": 6}


class Fulfillment(NamedTuple):
    """A fulfilment as one event told it; ``quantity`` is its pieces, over all lines."""

    updated_at: datetime
    order_gid: str
    status: str
    shipment_status: str
    location_id: int | None
    quantity: int
    fulfilled_at: datetime

    @property
    def version(self) -> tuple[Any, ...]:
        """The newest, then the furthest on; the rest only decides between states alike in both."""
        return (self.updated_at, _FURTHER.get(self.status, 0), self.status, self.shipment_status,
                self.quantity, self.location_id or 0, self.fulfilled_at, self.order_gid)  # fmt: skip


def ingest_fulfillments(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every fulfilment stands as its newest event told it; an older one is ``stale``.

    Sending moves no stock: the sale has taken it already. Address and tracking are not kept.
    """
    del now
    return upsert_entities(tx, items, _KIND, _read)


def _read(item: WorkItem) -> EntityUpdate[Fulfillment]:
    source = read_event(item)
    lines = read_list(source, "line_items") if source.get("line_items") is not None else []
    state = Fulfillment(
        updated_at=read_instant(source, "updated_at"),
        order_gid=order_gid(read_id(source, "order_id")),
        status=read_text(source, "status"),
        shipment_status=find_text(source, "shipment_status"),
        location_id=find_id(source, "location_id"),
        quantity=sum(read_count(line, "quantity") for line in lines),
        fulfilled_at=read_instant(source, "created_at"),
    )
    return EntityUpdate((item.shop_id, read_id(source, "id")), EntityState(state))


_FIND = """
select t.shop_id, t.fulfillment_id, null::timestamptz, t.updated_at, t.order_gid, t.status, t.shipment_status,
       t.location_id, t.quantity, t.fulfilled_at
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join fulfillments t on t.shop_id = v.shop_id and t.fulfillment_id = v.id
"""

_WRITE = """
insert into fulfillments (shop_id, fulfillment_id, event_id, updated_at, order_gid, status, shipment_status,
                          location_id, quantity, fulfilled_at)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(order_gid)s::text[], %(status)s::text[],
                     %(shipment_status)s::text[], %(location_id)s::bigint[], %(quantity)s::int[],
                     %(fulfilled_at)s::timestamptz[])
on conflict (shop_id, fulfillment_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, order_gid = excluded.order_gid,
   status = excluded.status, shipment_status = excluded.shipment_status,
   location_id = excluded.location_id, quantity = excluded.quantity, fulfilled_at = excluded.fulfilled_at
"""

_KIND = EntitySpec(
    table="fulfillments",
    noun="fulfilment",
    code="shopify.unreadable_fulfillment",
    find=_FIND,
    make=Fulfillment,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "order_gid": "text", "status": "text", "shipment_status": "text",
        "location_id": "bigint", "quantity": "bigint", "fulfilled_at": "timestamptz",
    },
    blank=Fulfillment(EPOCH, "", "", "", None, 0, EPOCH),
    shown=("status", "shipment_status", "quantity", "order_gid"),
    lock=lambda number: f"fulfillment:{number}",
)  # fmt: skip
