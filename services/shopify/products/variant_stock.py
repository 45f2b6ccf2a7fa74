"""Whether a variant can be bought: what ``variants/in_stock`` and ``variants/out_of_stock`` tell.

A table of its own, by the variant's id: the body is that of a variant without its product's title and, in
Shopify's sample of 2026-07, without its inventory item, by which ``variants`` knows it. ``products/update``
tells the variant itself.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import read_count, read_id
from services.ledger.work import Done, HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.payload_fields import find_id
from services.shopify.upsert import EntitySpec, upsert_entities


class VariantStock(NamedTuple):
    """Whether a variant is in stock for the app's channel, as one event told it.

    ``updated_at`` is when it was told: the variant's own need not move with its stock.
    """

    updated_at: datetime
    is_in_stock: bool
    product_id: int | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The newest; of two of one instant, that it can be bought."""
        return (self.updated_at, self.is_in_stock, self.product_id or 0)


def ingest_variant_stock(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every variant is in stock or out of it as its newest event told it.

    The body of both topics is the variant. An event is ``ignored`` without effect where the quantity in its
    body contradicts its topic. ``inventory_levels/update`` has the quantities, and nothing here moves them.
    """
    return upsert_entities(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> EntityUpdate[VariantStock] | Done:
    source = read_event(item)
    is_in_stock = read_count(source, "inventory_quantity") > 0
    if is_in_stock != (item.event_topic == "variants/in_stock"):
        return Done("ignored")
    state = VariantStock(item.event_time(now), is_in_stock, find_id(source, "product_id"))
    return EntityUpdate((item.shop_id, read_id(source, "id")), EntityState(state))


_FIND = """
select t.shop_id, t.variant_id, null::timestamptz, t.updated_at, t.is_in_stock, t.product_id
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join variant_stock t on t.shop_id = v.shop_id and t.variant_id = v.id
"""

_WRITE = """
insert into variant_stock (shop_id, variant_id, event_id, updated_at, is_in_stock, product_id)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(is_in_stock)s::boolean[], %(product_id)s::bigint[])
on conflict (shop_id, variant_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, is_in_stock = excluded.is_in_stock,
   product_id = excluded.product_id
"""

_KIND = EntitySpec(
    table="variant_stock",
    noun="stock of variant",
    code="shopify.unreadable_variant_stock",
    find=_FIND,
    make=VariantStock,
    write=_WRITE,
    columns={"updated_at": "timestamptz", "is_in_stock": "boolean", "product_id": "bigint"},
    blank=VariantStock(EPOCH, False, None),
    shown=("is_in_stock",),
    lock=lambda number: f"variant-stock:{number}",
)
