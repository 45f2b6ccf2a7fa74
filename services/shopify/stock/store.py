"""SQL of inventory levels: finds the recorded rows, and writes what Shopify reported."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays
from services.shopify.entities import EPOCH
from services.shopify.stock.level_sku_sync import SKU_OF_ITEM
from services.shopify.stock.levels import LevelChange, LevelKey, SkuKey, level_arrays, lock_levels, lock_stock
from services.shopify.stock.movement_levels import recount_levels
from services.shopify.stock.payload import LevelDisconnection, LevelObservation
from services.shopify.stock.pools import NO_POOL_CHANGES, PoolChanges, observe_pools


class WrittenLevels(NamedTuple):
    """What a set of events changed: counted levels, levels that are stocked, and disconnected ones.

    ``pools`` has the changes of pools, also of levels of other shops.
    """

    changes: list[LevelChange]
    stocked: set[LevelKey]
    disconnected: set[LevelKey]
    pools: PoolChanges = NO_POOL_CHANGES


# ``sku`` is the item's SKU if that is known, otherwise the row's. ``gone_at``: when the item was deleted.
# ``is_ours``: the figure comes from a count or from a pool.
_FIND = f"""
select v.shop_id, v.item as inventory_item_id, v.location as location_id,
       coalesce({SKU_OF_ITEM}, l.sku, '') as sku, coalesce(l.sku, '') as row_sku, l.observed_at,
       l.observed_available, l.shopify_available, l.available, l.disconnected_at,
       least(t.deleted_at, i.deleted_at) as gone_at, l.counted_at is not null or l.pool is not null as is_ours
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  left join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                              and l.location_id = v.location
  left join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
  left join inventory_items i on i.shop_id = v.shop_id and i.inventory_item_id = v.item
"""  # noqa: S608

# A level that is observed after its disconnection, or in the same second, is stocked again: the time of an
# observation is in whole seconds, that of a delivery in nanoseconds. A deleted item is never stocked again.
_UPSERT = """
insert into inventory_levels as l (shop_id, inventory_item_id, location_id, sku, available,
                                   observed_available, observed_at, shopify_available, changed_at,
                                   disconnected_at)
select shop_id, item, location, sku, available, available, observed_at, available, %(now)s, gone_at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(sku)s::text[],
              %(available)s::int[], %(observed_at)s::timestamptz[], %(gone_at)s::timestamptz[])
       as v(shop_id, item, location, sku, available, observed_at, gone_at)
on conflict (shop_id, inventory_item_id, location_id) do update set
   sku = excluded.sku, observed_available = excluded.observed_available, observed_at = excluded.observed_at,
   shopify_available = case when l.pool is null then excluded.shopify_available else l.shopify_available end,
   available = case when l.counted_at is null and l.pool is null then excluded.available else l.available end,
   changed_at = excluded.changed_at,
   disconnected_at = coalesce(excluded.disconnected_at, case
     when date_trunc('second', l.disconnected_at) > excluded.observed_at then l.disconnected_at end)
returning shop_id, inventory_item_id, location_id, disconnected_at is null as is_stocked
"""

# The row of a level that was never observed has ``observed_at`` before any observation.
_DISCONNECT = """
insert into inventory_levels as l (shop_id, inventory_item_id, location_id, sku, available,
                                   observed_available, observed_at, changed_at, disconnected_at)
select shop_id, item, location, sku, 0, 0, %(epoch)s, %(now)s, at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(sku)s::text[],
              %(at)s::timestamptz[]) as v(shop_id, item, location, sku, at)
on conflict (shop_id, inventory_item_id, location_id) do update set
   disconnected_at = excluded.disconnected_at, changed_at = excluded.changed_at
 where date_trunc('second', excluded.disconnected_at) > l.observed_at
   and (l.disconnected_at is null or excluded.disconnected_at > l.disconnected_at)
returning shop_id, inventory_item_id, location_id
"""


def find_known_levels(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, Row[Any]]:
    """Return a row for each level of ``keys``; the columns of a level that is not recorded are null."""
    if not keys:
        return {}
    return {LevelKey.from_row(row): row for row in tx.exec_driver_sql(_FIND, level_arrays(keys))}


def known_version(row: Row[Any]) -> tuple[datetime, int] | None:
    """Return the version of the observation in ``row``, as ``LevelObservation.version``."""
    return None if row.observed_at is None else (row.observed_at, -row.observed_available)


def list_skus(known: Mapping[LevelKey, Row[Any]]) -> set[SkuKey]:
    """Return the (shop, sku) of ``known`` levels: of their rows and of their items."""
    return {(key.shop_id, sku) for key, row in known.items() for sku in (row.sku, row.row_sku) if sku}


def record_levels(
    tx: Connection,
    observed: Mapping[LevelKey, LevelObservation],
    disconnected: Mapping[LevelKey, LevelDisconnection],
    unclear: Mapping[LevelKey, LevelObservation],
    known: Mapping[LevelKey, Row[Any]],
    now: datetime,
) -> WrittenLevels:
    """Write the newest observations and disconnections.

    A counted level keeps its figure, unless a level of the same item decides the location of a movement.
    ``unclear`` levels have two figures in one second. A figure that a push read does not change a pool here:
    see ``services.shopify.stock.pools.record_pool_reads``.
    """
    keys = observed.keys() | disconnected.keys() | unclear.keys()
    if not keys:
        return WrittenLevels([], set(), set())
    lock_stock(tx, {key.shop_id for key in keys})
    skus = list_skus({key: known[key] for key in keys})
    locked = lock_levels(tx, keys, items={key.item for key in keys}, skus=skus)
    stocked, newly_disconnected = set[LevelKey](), set[LevelKey]()
    if observed:
        figures = [
            (known[key].sku, event.available, event.observed_at, known[key].gone_at)
            for key, event in observed.items()
        ]
        values = level_arrays(observed) | arrays("sku available observed_at gone_at", figures)
        rows = tx.exec_driver_sql(_UPSERT, values | {"now": now})
        stocked = {LevelKey.from_row(row) for row in rows if row.is_stocked}
    if disconnected:
        times = [
            (known[key].sku, known[key].gone_at or event.disconnected_at)
            for key, event in disconnected.items()
        ]
        values = level_arrays(disconnected) | arrays("sku at", times)
        newly_disconnected = LevelKey.from_rows(
            tx.exec_driver_sql(_DISCONNECT, values | {"now": now, "epoch": EPOCH})
        )
    stocked -= newly_disconnected
    changes = recount_levels(tx, locked.counted, now)
    pooled = {k: e for k, e in {**unclear, **observed}.items() if k in locked.pooled and not e.is_read}
    back = {key for key in stocked if _is_back(known[key], observed[key], disconnected.get(key))}
    pools = observe_pools(tx, pooled, unclear.keys(), back, now) if pooled else NO_POOL_CHANGES
    return WrittenLevels(changes, stocked, newly_disconnected, pools)


def _is_back(known: Row[Any], observed: LevelObservation, cut: LevelDisconnection | None) -> bool:
    """Return whether a stocked level was disconnected since its last observation."""
    if known.disconnected_at is not None or observed.is_connected:
        return True
    return cut is not None and (known.observed_at is None or cut.disconnected_at > known.observed_at)
