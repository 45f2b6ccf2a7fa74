"""Stock levels, what moves them, and the locks under which their figures change."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.locks import Lock, lock_stock_buckets
from services.core.pg_arrays import int_array, text_array

PUSH_TOPIC = "inventory_push"

SkuKey = tuple[int, str]
"""(shop, sku)."""

ItemKey = tuple[int, int]
"""(shop, inventory item)."""

LevelKey = tuple[int, int, int]
"""(shop, inventory item, location)."""


class Movement(NamedTuple):
    """``delta`` pieces came or went at ``at``; ``source`` makes it happen once.

    ``variant_id`` and ``location_id`` are None where the body does not state them. ``order_id`` is the order
    whose fulfilment orders name the location then.
    """

    shop_id: int
    source: str
    sku: str
    delta: int
    at: datetime
    variant_id: int | None = None
    location_id: int | None = None
    order_id: int | None = None


class Level(NamedTuple):
    """A level whose figures changed."""

    shop_id: int
    inventory_item_id: int
    location_id: int
    sku: str


class LevelChange(NamedTuple):
    """The figure of a level that was counted here went from ``before`` to ``after``.

    ``sources``, with spaces between, are the movements that did it, each by its pieces; or, where
    ``is_recount``, all of them together. A level off the shelf is not pushed.
    """

    level: Level
    before: int
    after: int
    sources: str = ""
    is_recount: bool = False
    is_stocked: bool = True


class LockedLevels(NamedTuple):
    """Of the levels that are locked, those that were counted here and those of a pool."""

    counted: set[LevelKey]
    pooled: set[LevelKey]


_LOCK_LEVELS = Lock.LEVELS.mark("""
with wanted as (
  select * from unnest(%(level_shop)s::int[], %(item)s::bigint[], %(location)s::bigint[])
                as k(shop_id, inventory_item_id, location_id)
   union
  select c.shop_id, c.inventory_item_id, c.location_id
    from (select * from unnest(%(item_shop)s::int[], %(of_item)s::bigint[]) as i(shop_id, inventory_item_id)
           union
          select t.shop_id, t.inventory_item_id
            from unnest(%(variant_shop)s::int[], %(variant)s::bigint[]) as v(shop_id, variant_id)
            join variants t using (shop_id, variant_id)
           union
          select b.shop_id, b.inventory_item_id
            from unnest(%(sku_shop)s::int[], %(sku)s::text[]) as v(shop_id, sku)
            join inventory_levels b using (shop_id, sku) where b.sku <> '') i
    join inventory_levels c using (shop_id, inventory_item_id)
   where c.counted_at is not null
), with_pools as (
  select * from wanted
   union
  select s.shop_id, s.inventory_item_id, s.location_id
    from wanted join inventory_levels p using (shop_id, inventory_item_id, location_id)
    join inventory_levels s on s.pool = p.pool and s.pool_sku = p.pool_sku
)
select l.shop_id, l.inventory_item_id, l.location_id, l.counted_at is not null, l.pool is not null
  from with_pools join inventory_levels l using (shop_id, inventory_item_id, location_id)
 order by l.shop_id, (l.inventory_item_id || ':' || l.location_id) collate "C" for update of l
""")


def lock_stock(tx: Connection, shops: Collection[int], *, is_shared: bool = False) -> None:
    """``tx`` alone changes what the counted levels of ``shops`` are computed from, until it ends.

    Those who only record movements share it (``is_shared``) and take turns by the levels' rows. A level that
    appears, a count, and a sku or a variant that changes its item have it alone: so none misses a movement
    that is being recorded.
    """
    lock_stock_buckets(tx, {(shop_id, "stock") for shop_id in shops}, is_shared=is_shared)


def lock_levels(
    tx: Connection,
    levels: Collection[LevelKey] = (),
    *,
    items: Collection[ItemKey] = (),
    variants: Collection[tuple[int, int]] = (),
    skus: Collection[SkuKey] = (),
) -> LockedLevels:
    """The rows of ``levels``, and the counted levels of ``items``, ``variants`` and ``skus``, are locked.

    With a level of a pool, the pool's levels of the same goods are, in every shop. In one statement, as the
    order of locks asks for.
    """
    rows = tx.exec_driver_sql(
        _LOCK_LEVELS,
        {
            "level_shop": int_array(key[0] for key in levels),
            "item": int_array(key[1] for key in levels),
            "location": int_array(key[2] for key in levels),
            "item_shop": int_array(shop_id for shop_id, _ in items),
            "of_item": int_array(item for _, item in items),
            "variant_shop": int_array(shop_id for shop_id, _ in variants),
            "variant": int_array(variant for _, variant in variants),
            "sku_shop": int_array(shop_id for shop_id, _ in skus),
            "sku": text_array([sku for _, sku in skus]),
        },
    )
    counted, pooled = set[LevelKey](), set[LevelKey]()
    for row in rows:
        for found, holds in ((counted, row[3]), (pooled, row[4])):
            if holds:
                found.add((row[0], row[1], row[2]))
    return LockedLevels(counted, pooled)


def level_arrays(levels: Collection[Level] | Collection[LevelKey]) -> dict[str, str]:
    """Return ``levels`` as the arrays ``shop_id``, ``item`` and ``location`` of a statement."""
    return {
        "shop_id": int_array(level[0] for level in levels),
        "item": int_array(level[1] for level in levels),
        "location": int_array(level[2] for level in levels),
    }
