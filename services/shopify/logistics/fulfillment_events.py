"""Fulfilment events: where a parcel was seen, and what it was said to be doing there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import find_instant, read_id, read_instant, read_text
from services.ledger.work import Done, HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.orders.payload import order_gid
from services.shopify.payload_fields import find_id
from services.shopify.upsert import EntitySpec, upsert_entities


class FulfillmentEvent(NamedTuple):
    """One sighting of a parcel. ``status`` is Shopify's: ``in_transit``, ``delivered``, ``failure``..."""

    updated_at: datetime
    fulfillment_id: int
    order_gid: str
    status: str
    happened_at: datetime
    delivery_expected_at: datetime | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The newest; the rest only decides between states of one and the same second."""
        return (self.updated_at, self.happened_at, self.status, self.delivery_expected_at or EPOCH,
                self.fulfillment_id, self.order_gid)  # fmt: skip


def ingest_fulfillment_events(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every sighting is on file.

    ``fulfillment_events/delete`` is ``ignored`` and changes nothing: its body is that of ``create``, and
    nothing follows from a header alone. The fulfilment's row is left as ``fulfillments/update`` describes it.
    Where a parcel is, by city and coordinates, shows where a person lives: it is not kept.
    """
    del now
    return upsert_entities(tx, items, _KIND, _read)


def _read(item: WorkItem) -> EntityUpdate[FulfillmentEvent] | Done:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "fulfillment_events/delete":
        return Done("ignored")
    happened_at = read_instant(source, "happened_at")
    order_id = find_id(source, "order_id")
    state = FulfillmentEvent(
        updated_at=find_instant(source, "updated_at") or happened_at,
        fulfillment_id=read_id(source, "fulfillment_id"),
        order_gid=order_gid(order_id) if order_id else "",
        status=read_text(source, "status"),
        happened_at=happened_at,
        delivery_expected_at=find_instant(source, "estimated_delivery_at"),
    )
    return EntityUpdate(key, EntityState(state))


_FIND = """
select t.shop_id, t.fulfillment_event_id, t.deleted_at, t.updated_at, t.fulfillment_id, t.order_gid, t.status,
       t.happened_at, t.delivery_expected_at
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join fulfillment_events t on t.shop_id = v.shop_id and t.fulfillment_event_id = v.id
"""

_WRITE = """
insert into fulfillment_events (shop_id, fulfillment_event_id, deleted_at, event_id, updated_at,
                                fulfillment_id, order_gid, status, happened_at, delivery_expected_at)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(deleted_at)s::timestamptz[],
                     %(event_id)s::bigint[], %(updated_at)s::timestamptz[], %(fulfillment_id)s::bigint[],
                     %(order_gid)s::text[], %(status)s::text[], %(happened_at)s::timestamptz[],
                     %(delivery_expected_at)s::timestamptz[])
on conflict (shop_id, fulfillment_event_id) do update set
   deleted_at = excluded.deleted_at, event_id = excluded.event_id, updated_at = excluded.updated_at,
   fulfillment_id = excluded.fulfillment_id, order_gid = excluded.order_gid, status = excluded.status,
   happened_at = excluded.happened_at, delivery_expected_at = excluded.delivery_expected_at
"""

_KIND = EntitySpec(
    table="fulfillment_events",
    noun="fulfilment event",
    code="shopify.unreadable_fulfillment_event",
    find=_FIND,
    make=FulfillmentEvent,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "fulfillment_id": "bigint", "order_gid": "text", "status": "text",
        "happened_at": "timestamptz", "delivery_expected_at": "timestamptz",
    },
    blank=FulfillmentEvent(EPOCH, 0, "", "", EPOCH, None),
    shown=("fulfillment_id", "status", "happened_at", "delivery_expected_at", "order_gid"),
    lock=lambda number: f"fulfillment-event:{number}",
)  # fmt: skip
