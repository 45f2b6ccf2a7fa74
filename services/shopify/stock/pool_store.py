"""SQL of pools: the levels that are linked to a pool, and its figures."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays, int_array
from services.shopify.entities import EPOCH
from services.shopify.stock.levels import LEVELS_BY_KEY, Level, LevelKey, level_arrays
from services.shopify.stock.push_item import LevelPush

PoolItemKey = tuple[str, str]
"""(pool, SKU of the pool): a row of ``stock_pool_items``."""

LAST_REPORTED = """
case when l.observed_at > l.known_at then l.observed_available else l.shopify_available end"""
"""SQL: Shopify's last reported figure of pool level ``l``. An observation may be newer than the known figure:
while one of our calls has no answer, it counts only after the level is read."""


class PoolReport(NamedTuple):
    """Shopify holds ``known`` of ``level`` since ``at``, as the work item ``work_id`` reported.

    ``before`` is Shopify's figure at ``level.known_at`` plus our own calls since; None if the report does not
    change the pool. ``until`` is the end of that time. ``must_read``: read the level before the next push.
    """

    level: Row[Any]
    known: int
    at: datetime
    work_id: int
    must_read: bool = False
    before: int | None = None
    until: datetime = EPOCH

    @property
    def item(self) -> PoolItemKey:
        return (self.level.pool, self.level.pool_sku)

    @property
    def change(self) -> int:
        return 0 if self.before is None else self.known - self.before


# Shopify held ``known`` at ``known_at``, by its own clock. ``doubts`` counts later events after which its
# figure is not clear. An open call may be sent again, or was given up and may have happened: see
# ``find_unanswered_pushes``.
_FIND = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.pool, l.pool_sku,
       l.shopify_available as known, l.known_at, l.doubts, exists (
         select from work_queue w
          where w.topic = 'inventory_push' and w.shop_id = l.shop_id
            and w.key = l.inventory_item_id || ':' || l.location_id
            and (w.payload ? 'quantity' or w.payload ? 'lost')
            and w.status in ('pending', 'error', 'dead', 'discarded')) as has_open_call
       {LEVELS_BY_KEY}
 where l.pool is not null
 order by l.shop_id, l.inventory_item_id, l.location_id
"""  # noqa: S608

_UPDATE_KNOWN = """
update inventory_levels l
   set shopify_available = v.known, known_at = greatest(l.known_at, v.at),
       doubts = case when v.is_doubt = 1 then l.doubts + 1 else 0 end, changed_at = %(now)s
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(known)s::int[],
              %(at)s::timestamptz[], %(is_doubt)s::int[])
       as v(shop_id, item, location, known, at, is_doubt)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
"""

# Adds our call's change to the known figure: a webhook that arrived meanwhile may report the figure before
# the call, or after it. Where the two do not match, the level is read.
_ADD_OWN_CHANGES = """
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

_FIND_FIGURES = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.available, l.shopify_available {LEVELS_BY_KEY}
"""

_UPDATE_ITEMS = """
update stock_pool_items i set available = i.available + v.delta, changed_at = %(now)s
  from unnest(%(pool)s::text[], %(sku)s::text[], %(delta)s::int[]) as v(pool, sku, delta)
 where i.pool = v.pool and i.sku = v.sku
returning i.pool, i.sku, i.available - v.delta as before
"""

_UPDATE_LEVELS = """
update inventory_levels l set available = greatest(i.available - p.safety_buffer, 0), changed_at = %(now)s
  from unnest(%(pool)s::text[], %(sku)s::text[]) as v(pool, sku)
  join stock_pool_items i on i.pool = v.pool and i.sku = v.sku
  join stock_pools p on p.name = i.pool
 where l.pool = i.pool and l.pool_sku = i.sku
returning l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.pool, l.pool_sku
"""


def find_pool_levels(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, Row[Any]]:
    """Return the rows of those of ``keys`` that are levels of a pool. The caller has locked them."""
    if not keys:
        return {}
    return {LevelKey.from_row(row): row for row in tx.exec_driver_sql(_FIND, level_arrays(keys))}


def record_known_figures(tx: Connection, reports: Sequence[PoolReport], now: datetime) -> None:
    """Record Shopify's figure of each level; add a doubt if it must be read, else clear its doubts."""
    values = level_arrays([LevelKey.from_row(report.level) for report in reports])
    values |= arrays("known at is_doubt", [(one.known, one.at, int(one.must_read)) for one in reports])
    tx.exec_driver_sql(_UPDATE_KNOWN, values | {"now": now})


def record_own_changes(tx: Connection, pushes: Sequence[LevelPush], now: datetime) -> set[LevelKey]:
    """Record what our calls changed in levels of pools, from a known figure; return these levels."""
    if not pushes:
        return set()
    changes = [(push.quantity, push.change_from, push.changed_at or EPOCH) for push in pushes]
    values = level_arrays([push.level for push in pushes]) | arrays("quantity change_from at", changes)
    return LevelKey.from_rows(tx.exec_driver_sql(_ADD_OWN_CHANGES, values | {"now": now}))


def update_items(tx: Connection, deltas: dict[PoolItemKey, int], now: datetime) -> dict[PoolItemKey, int]:
    """Add ``deltas`` to the figures of pool items; return the figures before."""
    ordered = sorted(deltas)
    values = {"delta": int_array(deltas[item] for item in ordered), "now": now}
    rows = tx.exec_driver_sql(_UPDATE_ITEMS, values | pool_item_arrays(ordered))
    return {(row.pool, row.sku): row.before for row in rows}


def update_levels(tx: Connection, items: Collection[PoolItemKey], now: datetime) -> dict[Level, PoolItemKey]:
    """Set every level of ``items`` to the pool's figure less the safety buffer; return the levels."""
    rows = tx.exec_driver_sql(_UPDATE_LEVELS, pool_item_arrays(items) | {"now": now})
    return {Level.from_row(row): (row.pool, row.pool_sku) for row in rows}


def find_pool_figures(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, tuple[int, int]]:
    rows = tx.exec_driver_sql(_FIND_FIGURES, level_arrays(keys))
    return {LevelKey.from_row(row): (row.available, row.shopify_available) for row in rows}


def pool_item_arrays(items: Collection[PoolItemKey]) -> dict[str, str]:
    """Return ``items`` as the arrays ``pool`` and ``sku`` of a statement, sorted."""
    return arrays("pool sku", sorted(items))
