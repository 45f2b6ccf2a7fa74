"""The rows of pools: the levels that are linked to one, its figures, and how each is written."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.merge import EPOCH
from services.shopify.stock.levels import Level, LevelKey, level_arrays

PoolItemKey = tuple[str, str]
"""(pool, sku of the pool)."""


LAST_HELD = """
case when l.observed_at > l.known_at then l.observed_available else l.shopify_available end"""
"""What Shopify last told of the level ``l`` of a pool: while a call of ours has no answer, it tells more."""


class PoolLevel(NamedTuple):
    """A level of a pool. Shopify held ``known`` at ``known_at``, by its own clock; ``doubts`` came since.

    ``is_in_doubt``: a call of ours that sets it may be under way, or its answer was lost.
    """

    level: Level
    pool: str
    sku: str
    known: int
    known_at: datetime | None
    doubts: int
    is_in_doubt: bool


# A call that may be sent again, or that was given up and may have happened: see
# ``find_unanswered_pushes``.
_FIND = """
select l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.pool, l.pool_sku, l.shopify_available,
       l.known_at, l.doubts, exists (
         select from work_queue w
          where w.topic = 'inventory_push' and w.shop_id = l.shop_id
            and w.key = l.inventory_item_id || ':' || l.location_id
            and (w.payload ? 'quantity' or w.payload ? 'lost')
            and w.status in ('pending', 'error', 'dead', 'discarded'))
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
 where l.pool is not null
 order by l.shop_id, l.inventory_item_id, l.location_id
"""

_KNOW = """
update inventory_levels l
   set shopify_available = v.known, known_at = greatest(l.known_at, v.at),
       doubts = case when v.is_doubt = 1 then l.doubts + 1 else 0 end, changed_at = %(now)s
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(known)s::int[],
              %(at)s::timestamptz[], %(is_doubt)s::int[])
       as v(shop_id, item, location, known, at, is_doubt)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
"""

# What a call of ours did is added to what is known, whatever came meanwhile: a webhook may have told of the
# time before the call, or of the call itself. Where that leaves a doubt, the level is read.
_WRITTEN = """
update inventory_levels l
   set shopify_available = l.shopify_available + v.quantity - v.change_from,
       known_at = greatest(l.known_at, v.at), changed_at = %(now)s,
       doubts = l.doubts + (l.shopify_available <> v.change_from)::int
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(quantity)s::int[],
              %(change_from)s::int[], %(at)s::timestamptz[])
       as v(shop_id, item, location, quantity, change_from, at)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
   and l.pool is not null
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_FIGURES = """
select l.shop_id, l.inventory_item_id, l.location_id, l.available, l.shopify_available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
"""

_MOVE = """
update stock_pool_items i set available = i.available + v.delta, changed_at = %(now)s
  from unnest(%(pool)s::text[], %(sku)s::text[], %(delta)s::int[]) as v(pool, sku, delta)
 where i.pool = v.pool and i.sku = v.sku
returning i.pool, i.sku, i.available - v.delta
"""

_SHOW = """
update inventory_levels l set available = greatest(i.available - p.safety_buffer, 0), changed_at = %(now)s
  from unnest(%(pool)s::text[], %(sku)s::text[]) as v(pool, sku)
  join stock_pool_items i on i.pool = v.pool and i.sku = v.sku
  join stock_pools p on p.name = i.pool
 where l.pool = i.pool and l.pool_sku = i.sku
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.pool, l.pool_sku
"""


def find_pool_levels(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, PoolLevel]:
    """Return those of ``keys`` that are levels of a pool. The caller holds their rows."""
    if not keys:
        return {}
    return {
        (row[0], row[1], row[2]): PoolLevel(Level(*row[:4]), *row[4:])
        for row in tx.exec_driver_sql(_FIND, level_arrays(keys))
    }


def record_known(tx: Connection, known: Iterable[tuple[Level, int, datetime, bool]], now: datetime) -> None:
    """Shopify held so many of each level at that time: (level, known, at, is a doubt). A doubt is counted."""
    seen = list(known)
    values = level_arrays([one[0] for one in seen]) | {
        "known": int_array(one[1] for one in seen),
        "at": instant_array(one[2] for one in seen),
        "is_doubt": int_array(int(one[3]) for one in seen),
    }
    tx.exec_driver_sql(_KNOW, values | {"now": now})


def record_written(
    tx: Connection, written: Iterable[tuple[Level, int, int, datetime | None]], now: datetime
) -> set[LevelKey]:
    """Calls of ours set these levels: (level, quantity, what it replaced, when); return those of a pool."""
    calls = list(written)
    if not calls:
        return set()
    values = level_arrays([call[0] for call in calls]) | {
        "quantity": int_array(call[1] for call in calls),
        "change_from": int_array(call[2] for call in calls),
        "at": instant_array(call[3] or EPOCH for call in calls),
    }
    return {(row[0], row[1], row[2]) for row in tx.exec_driver_sql(_WRITTEN, values | {"now": now})}


def move_goods(tx: Connection, deltas: dict[PoolItemKey, int], now: datetime) -> dict[PoolItemKey, int]:
    """The figure of each of the goods has changed by so many pieces; return what each was before."""
    ordered = sorted(deltas)
    values = {
        "pool": text_array([pool for pool, _ in ordered]),
        "sku": text_array([sku for _, sku in ordered]),
        "delta": int_array(deltas[goods] for goods in ordered),
        "now": now,
    }
    return {(row[0], row[1]): row[2] for row in tx.exec_driver_sql(_MOVE, values)}


def show_pools(tx: Connection, goods: Collection[PoolItemKey], now: datetime) -> dict[Level, PoolItemKey]:
    """Every level of ``goods``, (pool, sku), shows its pool's figure less the buffer; return the levels."""
    ordered = sorted(goods)
    values = {
        "pool": text_array([pool for pool, _ in ordered]),
        "sku": text_array([sku for _, sku in ordered]),
        "now": now,
    }
    return {Level(*row[:4]): (row[4], row[5]) for row in tx.exec_driver_sql(_SHOW, values)}


def find_figures(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, tuple[int, int]]:
    """Return our figure and Shopify's of each level."""
    rows = tx.exec_driver_sql(_FIGURES, level_arrays(keys))
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}
