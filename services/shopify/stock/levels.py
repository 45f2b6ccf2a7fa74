"""Stock levels, their movements, and the locks that protect their figures."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple, Self

from sqlalchemy import Connection, Row

from services.core.locks import LockKind, lock_stock_buckets
from services.core.pg_arrays import arrays, int_array

PUSH_TOPIC = "inventory_push"

SkuKey = tuple[int, str]
"""(shop, sku)."""

ItemKey = tuple[int, int]
"""(shop, inventory item)."""


class LevelKey(NamedTuple):
    """The key of a level: an inventory item of a shop at a location."""

    shop_id: int
    inventory_item_id: int
    location_id: int

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        return cls(row.shop_id, row.inventory_item_id, row.location_id)

    @classmethod
    def from_rows(cls, rows: Iterable[Row[Any]]) -> set[Self]:
        return {cls.from_row(row) for row in rows}

    @property
    def item(self) -> ItemKey:
        return (self.shop_id, self.inventory_item_id)

    @property
    def row_id(self) -> str:
        """``item:location``: the level's ``row_id`` in the audit and the ``key`` of its pushes."""
        return f"{self.inventory_item_id}:{self.location_id}"


class Level(NamedTuple):
    """A level and its SKU."""

    shop_id: int
    inventory_item_id: int
    location_id: int
    sku: str

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        return cls(row.shop_id, row.inventory_item_id, row.location_id, row.sku)

    @property
    def key(self) -> LevelKey:
        return LevelKey(self.shop_id, self.inventory_item_id, self.location_id)

    @property
    def sku_key(self) -> SkuKey:
        return (self.shop_id, self.sku)

    @property
    def label(self) -> str:
        """The level's label: ``stock of SKU-1 at location 655441491``."""
        return f"stock of {self.sku or f'item {self.inventory_item_id}'} at location {self.location_id}"


class Movement(NamedTuple):
    """``delta`` pieces left (negative) or entered stock at ``at``. ``source`` is unique in the shop.

    ``variant_id`` and ``location_id`` are None if the payload does not contain them. Then the location is
    that of the fulfilment orders of ``order_id``.
    """

    shop_id: int
    source: str
    sku: str
    delta: int
    at: datetime
    variant_id: int | None = None
    location_id: int | None = None
    order_id: int | None = None


class LevelChange(NamedTuple):
    """The figure of a counted level changed from ``before`` to ``after``.

    ``sources`` are the movements that caused it, separated by spaces. If ``is_recount``, the change is of all
    of them together, not the sum of their pieces. A level that is not ``is_stocked`` is not pushed.
    """

    level: Level
    before: int
    after: int
    sources: str = ""
    is_recount: bool = False
    is_stocked: bool = True


class LockedLevels(NamedTuple):
    """The locked levels that have a count, and those of a pool."""

    counted: set[LevelKey]
    pooled: set[LevelKey]


LEVELS_BY_KEY = """
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[])
       as v(shop_id, inventory_item_id, location_id)
  join inventory_levels l using (shop_id, inventory_item_id, location_id)"""
"""SQL: the levels ``l`` of ``level_arrays``."""

_LOCK_LEVELS = LockKind.LEVELS.mark("""
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
select l.shop_id, l.inventory_item_id, l.location_id, l.counted_at is not null as is_counted,
       l.pool is not null as is_pooled
  from with_pools join inventory_levels l using (shop_id, inventory_item_id, location_id)
 order by l.shop_id, (l.inventory_item_id || ':' || l.location_id) collate "C" for update of l
""")


def item_lock(inventory_item_id: int) -> str:
    """Return the lock key of an inventory item: it protects its levels and its variant."""
    return f"inventory-item:{inventory_item_id}"


def lock_stock(tx: Connection, shops: Collection[int], *, is_shared: bool = False) -> None:
    """Lock, until ``tx`` ends, everything that the counted levels of ``shops`` are computed from.

    Transactions that only record movements share the lock (``is_shared``). A transaction that adds a level,
    records a count, or changes the item of a SKU or a variant locks exclusively, so it misses no movement.
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
    """Lock the rows of ``levels`` and of the counted levels of ``items``, ``variants`` and ``skus``.

    With a level of a pool, the pool's levels of the same item in every shop are locked. One statement takes
    all locks: see ``services.core.locks.LockKind``.
    """
    values = {
        **arrays("level_shop item location", levels),
        **arrays("item_shop of_item", items),
        **arrays("variant_shop variant", variants),
        **arrays("sku_shop sku", skus),
    }
    rows = tx.exec_driver_sql(_LOCK_LEVELS, values).all()
    return LockedLevels(
        {LevelKey(*key) for *key, is_counted, _ in rows if is_counted},
        {LevelKey(*key) for *key, _, is_pooled in rows if is_pooled},
    )


def level_arrays(levels: Collection[Level | LevelKey]) -> dict[str, str]:
    return arrays("shop_id item location", [level[:3] for level in levels])


_FIND_OWNERS = """
select shop_id, stock_owner from shop_config
 where stock_owner <> 'shopify' and shop_id = any(%(shop_id)s::int[])
"""


def find_stock_owners(tx: Connection, shops: Collection[int]) -> tuple[set[int], set[int]]:
    """Return those of ``shops`` with the stock owner ``shopfleet``, and those in a pool."""
    rows = tx.exec_driver_sql(_FIND_OWNERS, {"shop_id": int_array(sorted(shops))}).all()
    counting = {row.shop_id for row in rows if row.stock_owner == "shopfleet"}
    return counting, {row.shop_id for row in rows} - counting
