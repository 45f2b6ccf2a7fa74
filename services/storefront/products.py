"""Products: which sku an inventory item carries, and so which levels an order's lines come from."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import (
    Unreadable,
    find_text,
    read_id,
    read_instant,
    read_list,
    read_object,
    read_set,
)
from services.ledger.said import Change, said_by
from services.ledger.work import Done, Effects, Outcome, WorkItem
from services.storefront.levels import Level, Shift, Sku, lock_stock, recount_levels
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.said import say_variant
from services.storefront.said_stock import say_renamed, say_shift
from services.storefront.stock import item_lock

VariantKey = tuple[int, int]
"""(shop, inventory item)."""


class Variant(NamedTuple):
    """A variant as one event told it."""

    shop_id: int
    inventory_item_id: int
    variant_id: int
    sku: str
    title: str
    updated_at: datetime
    cause: Cause
    work_id: int

    @property
    def key(self) -> VariantKey:
        """Which inventory item this is about."""
        return (self.shop_id, self.inventory_item_id)

    @property
    def version(self) -> tuple[datetime, str, str]:
        """What makes one state newer; the texts only decide between states of one and the same second."""
        return (self.updated_at, self.sku, self.title)


_FIND = """
select t.shop_id, t.inventory_item_id, t.updated_at, t.sku, t.title
  from unnest(%(shop_id)s::int[], %(item)s::bigint[]) as v(shop_id, item)
  join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
"""

_UPSERT = """
insert into variants (shop_id, inventory_item_id, variant_id, sku, title, updated_at)
select * from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(variant_id)s::bigint[], %(sku)s::text[],
                     %(title)s::text[], %(updated_at)s::timestamptz[])
on conflict (shop_id, inventory_item_id) do update set
   variant_id = excluded.variant_id, sku = excluded.sku, title = excluded.title,
   updated_at = excluded.updated_at
"""

_FIND_RENAMED = """
select distinct l.shop_id, l.sku, v.sku
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(sku)s::text[]) as v(shop_id, item, sku)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.sku <> v.sku
"""

_RENAME = """
update inventory_levels l set sku = c.sku, changed_at = %(now)s,
       available = case when c.sku = '' then l.observed_available else l.available end
  from (select b.shop_id, b.inventory_item_id, b.location_id, v.sku, b.sku as old_sku,
               b.available as before
          from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(sku)s::text[]) as v(shop_id, item, sku)
          join inventory_levels b on b.shop_id = v.shop_id and b.inventory_item_id = v.item
                                 and b.sku <> v.sku) c
 where l.shop_id = c.shop_id and l.inventory_item_id = c.inventory_item_id and l.location_id = c.location_id
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, c.before, l.available, c.old_sku
"""


class Renamed(NamedTuple):
    """A level took another sku, and with it maybe another figure."""

    level: Level
    old_sku: str
    figure: Change


def ingest_products(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every variant stands as its newest event told it, and its levels carry its sku and count by it.

    Verdict ``stale`` where each variant told of is known in a newer state. A variant without an
    inventory item has no stock and is passed over.
    """
    read = read_set(items, _read_variants, "shopify.unreadable_product")
    told = [variant for entry in read if not isinstance(entry, Refused) for variant in entry]
    newest: dict[VariantKey, Variant] = {}
    for variant in told:
        if variant.key not in newest or variant.version > newest[variant.key].version:
            newest[variant.key] = variant
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item in newest})
    known = _find_versions(tx, newest)
    won = {k: v for k, v in newest.items() if k not in known or v.version > known[k]}
    renamed, recounted = _record_variants(tx, list(won.values()), now)
    changed = {*(one.level for one in renamed), *(shift.level for shift in recounted)}
    causes = {(variant.shop_id, variant.sku): variant.cause for variant in won.values()}

    def settle(entry: list[Variant] | Refused) -> Outcome:
        if isinstance(entry, Refused):
            return entry
        fresh = [v for v in entry if v.version == (won[v.key].version if v.key in won else known[v.key])]
        return Done() if fresh or not entry else Done("stale")

    items_by_id = {item.id: item for item in items}
    said = _say_variants(won, known, renamed, recounted)
    audit = [said_by(items_by_id[work_id], mutations) for work_id, mutations in said.items()]
    return Effects([settle(entry) for entry in read], plan_pushes(tx, changed, causes), audit)


def _say_variants(
    won: Mapping[VariantKey, Variant],
    known: Mapping[VariantKey, tuple[datetime, str, str]],
    renamed: Sequence[Renamed],
    recounted: Sequence[Shift],
) -> dict[int, list[Mutation]]:
    """Return what to say of each work item: its variants, their levels, and levels that share their skus."""
    said: dict[int, list[Mutation]] = {}
    for key, variant in won.items():
        mutation = say_variant(variant.inventory_item_id, variant.variant_id, known.get(key), variant.version)
        said.setdefault(variant.work_id, []).append(mutation)
    causes: dict[Sku, int] = {}
    final = {shift.level: shift.after for shift in recounted}
    for one in renamed:
        level = one.level
        work_id = won[level.shop_id, level.inventory_item_id].work_id
        causes[level.shop_id, one.old_sku] = causes[level.shop_id, level.sku] = work_id
        figure = Change(one.figure.before, final.pop(level, one.figure.after))
        said[work_id].append(say_renamed(level, one.old_sku, figure))
    for shift in recounted:
        if shift.level in final:
            work_id = causes[shift.level.shop_id, shift.level.sku]
            said[work_id].append(say_shift(shift, "a new count of its sku"))
    return said


def _read_variants(item: WorkItem) -> list[Variant]:
    source = read_object(item.body)
    title = find_text(source, "title")
    cause = Cause(item.event_id, item.request_id)
    return [
        _read_variant(item, variant, place, title, cause)
        for place, variant in enumerate(read_list(source, "variants"))
        if variant.get("inventory_item_id") is not None
    ]


def _read_variant(
    item: WorkItem, variant: Mapping[str, Any], place: int, title: str, cause: Cause
) -> Variant:
    try:
        return Variant(
            shop_id=item.shop_id,
            inventory_item_id=read_id(variant, "inventory_item_id"),
            variant_id=read_id(variant, "id"),
            sku=find_text(variant, "sku"),
            title=f"{title} / {own}" if (own := find_text(variant, "title")) else title,
            updated_at=read_instant(variant, "updated_at"),
            cause=cause,
            work_id=item.id,
        )
    except Unreadable as fault:
        raise fault.within(f"variants[{place}]") from None


def _find_versions(
    tx: Connection, keys: Collection[VariantKey]
) -> dict[VariantKey, tuple[datetime, str, str]]:
    if not keys:
        return {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "item": int_array(item for _, item in keys)}
    return {(r[0], r[1]): (r[2], r[3], r[4]) for r in tx.exec_driver_sql(_FIND, arrays)}


def _record_variants(
    tx: Connection, variants: Sequence[Variant], now: datetime
) -> tuple[list[Renamed], list[Shift]]:
    """Write ``variants``, and where a level's sku changes by it, count both skus anew."""
    if not variants:
        return [], []
    arrays = {
        "shop_id": int_array(v.shop_id for v in variants),
        "item": int_array(v.inventory_item_id for v in variants),
        "sku": text_array([v.sku for v in variants]),
    }
    tx.exec_driver_sql(
        _UPSERT,
        arrays
        | {
            "variant_id": int_array(v.variant_id for v in variants),
            "title": text_array([v.title for v in variants]),
            "updated_at": instant_array(v.updated_at for v in variants),
        },
    )
    skus: set[Sku] = set()
    for shop_id, old, new in tx.exec_driver_sql(_FIND_RENAMED, arrays):
        skus |= {(shop_id, old), (shop_id, new)}
    if not skus:
        return [], []
    lock_stock(tx, skus)
    rows = tx.exec_driver_sql(_RENAME, arrays | {"now": now})
    renamed = [Renamed(Level(*row[:4]), row[6], Change(row[4], row[5])) for row in rows]
    return renamed, recount_levels(tx, skus, now)
