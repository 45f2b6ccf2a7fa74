"""Inventory items: sku, cost of a piece, whether Shopify counts it, and whether it still exists."""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import Unreadable, find_text, read_id, read_set
from services.core.pg_arrays import int_array
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.payload_fields import find_money, updated_at_or_event_time
from services.shopify.stock.align_levels import align_levels
from services.shopify.stock.handler import item_lock
from services.shopify.stock.level_audit_text import describe_alignment
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.upsert import EntitySpec, upsert_updates


class InventoryItem(NamedTuple):
    """An item as one event told it. ``cost_cents`` is a piece's, in the shop's currency; None: not told."""

    updated_at: datetime
    sku: str
    is_tracked: bool
    cost_cents: int | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The newest; the rest only decides between states of one and the same second."""
        return (self.updated_at, self.cost_cents is not None, self.cost_cents or 0, self.is_tracked, self.sku)


def ingest_inventory_items(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every item stands as its newest event told it, and its levels have its sku.

    The levels of a deleted item are off the shelf for good.

    A deletion counts where the item, a variant of it or a level of it is recorded.
    """
    currencies = _find_currencies(tx, {item.shop_id for item in items})
    read = read_set(items, partial(_read, currencies=currencies, now=now), _KIND.code)
    ingested = upsert_updates(tx, items, read, _KIND)
    changed = ingested.changed
    alignment = align_levels(tx, changed.keys(), now)
    of_sku = {
        (one.level.shop_id, one.level.sku): changed[one.level.shop_id, one.level.inventory_item_id]
        for one in alignment.aligned
    }
    causes = {sku: PushCause(item.event_id, item.request_id) for sku, item in of_sku.items()}
    describe_alignment(
        ingested.said,
        alignment,
        {key: item.id for key, item in changed.items()},
        {sku: item.id for sku, item in of_sku.items()},
    )
    return ingested.effects(items, plan_pushes(tx, alignment.to_push, causes, now))


def _find_currencies(tx: Connection, shops: Collection[int]) -> dict[int, str]:
    rows = tx.exec_driver_sql(
        "select id, currency from shops where id = any(%(id)s::int[])", {"id": int_array(sorted(shops))}
    )
    return {int(r[0]): str(r[1]) for r in rows}


def _read(item: WorkItem, *, currencies: dict[int, str], now: datetime) -> EntityUpdate[InventoryItem]:
    source = read_event(item)
    key = (item.shop_id, read_id(source, "id"))
    if item.event_topic == "inventory_items/delete":
        return EntityUpdate(key, EntityState(None, item.event_time(now)))
    currency = currencies.get(item.shop_id, "")
    if source.get("cost") is not None and not currency:
        raise Unreadable("cost", source.get("cost"), f"of a shop that is known; there is none {item.shop_id}")
    state = InventoryItem(
        updated_at=updated_at_or_event_time(source, item, now),
        sku=find_text(source, "sku"),
        is_tracked=source.get("tracked") is not False,
        cost_cents=find_money(source, "cost", currency),
    )
    return EntityUpdate(key, EntityState(state))


_FIND = """
select t.shop_id, t.inventory_item_id, t.deleted_at, t.updated_at, t.sku, t.is_tracked, t.cost_cents
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join inventory_items t on t.shop_id = v.shop_id and t.inventory_item_id = v.id
"""

_ALSO_KNOWN = """
select v.shop_id, v.id from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
 where exists (select from inventory_levels l where l.shop_id = v.shop_id and l.inventory_item_id = v.id)
    or exists (select from variants t where t.shop_id = v.shop_id and t.inventory_item_id = v.id)
"""

_WRITE = """
insert into inventory_items (shop_id, inventory_item_id, deleted_at, updated_at, sku, is_tracked, cost_cents)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(deleted_at)s::timestamptz[],
                     %(updated_at)s::timestamptz[], %(sku)s::text[], %(is_tracked)s::boolean[],
                     %(cost_cents)s::bigint[])
on conflict (shop_id, inventory_item_id) do update set
   deleted_at = excluded.deleted_at, updated_at = excluded.updated_at, sku = excluded.sku,
   is_tracked = excluded.is_tracked, cost_cents = excluded.cost_cents
"""

_KIND = EntitySpec(
    table="inventory_items",
    noun="inventory item",
    code="shopify.unreadable_inventory_item",
    find=_FIND,
    make=InventoryItem,
    write=_WRITE,
    columns={"updated_at": "timestamptz", "sku": "text", "is_tracked": "boolean", "cost_cents": "bigint"},
    blank=InventoryItem(EPOCH, "", True, None),
    shown=("sku", "is_tracked", "cost_cents"),
    lock=item_lock,
    also_known=_ALSO_KNOWN,
)
