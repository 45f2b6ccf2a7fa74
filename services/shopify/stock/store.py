"""The rows of levels: what is known, and writing what Shopify told of them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.shopify.merge import EPOCH
from services.shopify.stock.level_moves import recount_levels
from services.shopify.stock.levels import LevelChange, LevelKey, level_arrays, lock_levels, lock_stock
from services.shopify.stock.payload import LevelDisconnection, LevelObservation
from services.shopify.stock.pools import NO_POOLS, PoolChanges, observe_pools


class KnownLevel(NamedTuple):
    """A level as its row has it; ``sku`` is what it should be: its item's, where that is known.

    ``gone_at`` is when its item was deleted. ``is_ours``: the figure is a count entered here, or a pool's.
    """

    sku: str
    row_sku: str
    version: tuple[datetime, int] | None
    shopify_available: int | None
    available: int | None
    disconnected_at: datetime | None
    gone_at: datetime | None
    is_ours: bool

    @property
    def figures(self) -> dict[str, Any] | None:
        """What the audit tells of the row; None where there is none yet."""
        if self.version is None or self.version[0] == EPOCH:
            return None
        return {
            "available": self.available,
            "observed_at": self.version[0],
            "observed_available": -self.version[1],
            "shopify_available": self.shopify_available,
            "sku": self.row_sku,
        }


class WrittenLevels(NamedTuple):
    """What a set wrote: the counted levels with another figure, those seen and stocked, those cut.

    ``pools`` is what became of pools, of levels in other shops too.
    """

    shifts: list[LevelChange]
    stocked: frozenset[LevelKey]
    cut: frozenset[LevelKey]
    pools: PoolChanges = NO_POOLS


SKU_OF_ITEM = "case when i.updated_at > t.updated_at then i.sku else coalesce(t.sku, i.sku) end"
"""The sku of an item as its variant ``t`` or its inventory item ``i`` has it, the newer of them; or null."""

_FIND = f"""
select v.shop_id, v.item, v.location, coalesce({SKU_OF_ITEM}, l.sku, ''), coalesce(l.sku, ''), l.observed_at,
       l.observed_available, l.shopify_available, l.available, l.disconnected_at,
       least(t.deleted_at, i.deleted_at), l.counted_at is not null or l.pool is not null
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  left join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                              and l.location_id = v.location
  left join variants t on t.shop_id = v.shop_id and t.inventory_item_id = v.item
  left join inventory_items i on i.shop_id = v.shop_id and i.inventory_item_id = v.item
"""  # noqa: S608

# What is seen after a disconnection, or in its second, is back on the shelf: Shopify's observations are
# dated in whole seconds, its deliveries to the nanosecond. A deleted item never comes back.
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
returning shop_id, inventory_item_id, location_id, disconnected_at
"""

# A level that nobody saw yet is remembered by a blank row, older than any observation.
_DISCONNECT = """
insert into inventory_levels as l (shop_id, inventory_item_id, location_id, sku, available,
                                   observed_available, observed_at, changed_at, disconnected_at)
select shop_id, item, location, sku, 0, 0, %(untold)s, %(now)s, at
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(sku)s::text[],
              %(at)s::timestamptz[]) as v(shop_id, item, location, sku, at)
on conflict (shop_id, inventory_item_id, location_id) do update set
   disconnected_at = excluded.disconnected_at, changed_at = excluded.changed_at
 where date_trunc('second', excluded.disconnected_at) > l.observed_at
   and (l.disconnected_at is null or excluded.disconnected_at > l.disconnected_at)
returning shop_id, inventory_item_id, location_id
"""


def find_known_levels(tx: Connection, keys: Collection[LevelKey]) -> dict[LevelKey, KnownLevel]:
    """Return each level with what is known of it."""
    if not keys:
        return {}
    rows = tx.exec_driver_sql(_FIND, level_arrays(keys))
    return {
        (r[0], r[1], r[2]): KnownLevel(r[3], r[4], None if r[5] is None else (r[5], -r[6]), *r[7:])
        for r in rows
    }


def record_levels(
    tx: Connection,
    won: Mapping[LevelKey, LevelObservation],
    cut: Mapping[LevelKey, LevelDisconnection],
    known: Mapping[LevelKey, KnownLevel],
    now: datetime,
    unclear: Mapping[LevelKey, LevelObservation],
) -> WrittenLevels:
    """Write the newest observations and disconnections.

    A counted level keeps its figure, but for movements whose location a level of the same item decides. Of
    ``unclear`` levels one second has two figures. What a push of ours read moves no pool here: see
    ``services.shopify.stock.pool_reads``.
    """
    keys = won.keys() | cut.keys() | unclear.keys()
    if not keys:
        return WrittenLevels([], frozenset(), frozenset())
    lock_stock(tx, {shop_id for shop_id, _, _ in keys})
    skus = {(key[0], sku) for key in keys for sku in (known[key].sku, known[key].row_sku) if sku}
    locked = lock_levels(tx, keys, items={key[:2] for key in keys}, skus=skus)
    stocked: set[LevelKey] = set()
    if won:
        values = level_arrays(won) | {
            "sku": text_array([known[key].sku for key in won]),
            "available": int_array(e.available for e in won.values()),
            "observed_at": instant_array(e.observed_at for e in won.values()),
            "gone_at": instant_array(known[key].gone_at for key in won),
        }
        stocked = {
            (r[0], r[1], r[2]) for r in tx.exec_driver_sql(_UPSERT, values | {"now": now}) if r[3] is None
        }
    gone: set[LevelKey] = set()
    if cut:
        values = level_arrays(cut) | {
            "sku": text_array([known[key].sku for key in cut]),
            "at": instant_array(known[key].gone_at or e.disconnected_at for key, e in cut.items()),
        }
        gone = {
            (r[0], r[1], r[2])
            for r in tx.exec_driver_sql(_DISCONNECT, values | {"now": now, "untold": EPOCH})
        }
    shifts = recount_levels(tx, locked.counted, now)
    told = {key: e for key, e in {**unclear, **won}.items() if key in locked.pooled and not e.is_read}
    back = {key for key in stocked - gone if _is_back(known[key], won[key], cut.get(key))}
    pools = observe_pools(tx, told, unclear.keys(), back, now) if told else NO_POOLS
    return WrittenLevels(shifts, frozenset(stocked - gone), frozenset(gone), pools)


def _is_back(known: KnownLevel, seen: LevelObservation, cut: LevelDisconnection | None) -> bool:
    """Tell whether a level on the shelf was off it since it was last seen."""
    if known.disconnected_at is not None or seen.is_connected:
        return True
    return cut is not None and (known.version is None or cut.disconnected_at > known.version[0])
