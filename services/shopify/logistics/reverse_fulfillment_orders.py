"""What became of goods that came back: for sale again, not so, missing, or still to be looked at.

A body names the reverse fulfilment order and what was decided now, a line and a place at a time, but not the
return that it belongs to. Source: the sample payload of version 2026-07.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.fields import Unreadable, read_count, read_list, read_text
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EntityState, EntityUpdate
from services.shopify.partial_updates import FieldVersions, upsert_field_updates
from services.shopify.payload_fields import find_gid, find_object, read_gid
from services.shopify.upsert import EntitySpec


class ReverseFulfillmentOrder(FieldVersions):
    """The decisions that were told. Each is a part of its own: by its kind, its line, place and time."""

    __slots__ = ()

    @property
    def restocked_quantity(self) -> int:
        """The pieces that are for sale again."""
        return self.total("restocked:") or 0

    @property
    def not_restocked_quantity(self) -> int:
        """The pieces that are not put up for sale again."""
        return self.total("not_restocked:") or 0

    @property
    def missing_quantity(self) -> int:
        """The pieces that did not come back."""
        return self.total("missing:") or 0

    @property
    def disposed_quantity(self) -> int:
        """The pieces of all decisions, those on pieces that need processing first included."""
        return self.total("") or 0


def ingest_reverse_fulfillment_orders(
    tx: Connection, items: Sequence[WorkItem], now: datetime
) -> HandlerResult:
    """Every decision on goods that came back is counted, once however often it is told.

    Moves no stock: Shopify tells the levels themselves in ``inventory_levels/update``.
    """
    return upsert_field_updates(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> list[EntityUpdate[ReverseFulfillmentOrder]]:
    source = read_event(item)
    at = item.event_time(now)
    counted = Counter[str]()
    for place, one in enumerate(read_list(source, "dispositions")):
        try:
            line = read_gid(find_object(one, "reverse_fulfillment_order_line_item"), "id")
            shelf = find_gid(find_object(one, "location"), "id") or 0
            name = f"{read_text(one, 'type').lower()}:{line}:{shelf}:{at.isoformat()}"
            counted[name] += read_count(one, "quantity")
        except Unreadable as fault:
            raise fault.within(f"dispositions[{place}]") from None
    key = (item.shop_id, read_gid(source, "id"))
    return [EntityUpdate(key, EntityState(ReverseFulfillmentOrder.tell(at, counted)))] if counted else []


_FIND = """
select t.shop_id, t.reverse_fulfillment_order_id, null::timestamptz, t.updated_at, t.told
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join reverse_fulfillment_orders t on t.shop_id = v.shop_id and t.reverse_fulfillment_order_id = v.id
"""

_WRITE = """
insert into reverse_fulfillment_orders (shop_id, reverse_fulfillment_order_id, event_id, updated_at, told,
                                        restocked_quantity, not_restocked_quantity, missing_quantity,
                                        disposed_quantity)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(told)s::jsonb[], %(restocked_quantity)s::bigint[],
                     %(not_restocked_quantity)s::bigint[], %(missing_quantity)s::bigint[],
                     %(disposed_quantity)s::bigint[])
on conflict (shop_id, reverse_fulfillment_order_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, told = excluded.told,
   restocked_quantity = excluded.restocked_quantity,
   not_restocked_quantity = excluded.not_restocked_quantity,
   missing_quantity = excluded.missing_quantity, disposed_quantity = excluded.disposed_quantity
"""

_KIND = EntitySpec(
    table="reverse_fulfillment_orders",
    noun="reverse fulfilment order",
    code="shopify.unreadable_reverse_fulfillment_order",
    find=_FIND,
    make=ReverseFulfillmentOrder.make,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "told": "text", "restocked_quantity": "bigint",
        "not_restocked_quantity": "bigint", "missing_quantity": "bigint", "disposed_quantity": "bigint",
    },
    blank=ReverseFulfillmentOrder({}),
    shown=("restocked_quantity", "not_restocked_quantity", "missing_quantity", "disposed_quantity"),
    lock=lambda number: f"reverse-fulfillment-order:{number}",
)  # fmt: skip
