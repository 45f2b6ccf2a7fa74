"""Checks which levels may belong to a pool: one item of the SKU, tracked, stocked at one location.

The shops of a pool are those with the stock owner ``pool:NAME``, each at its ``stock_location_id``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.errors import InputInvalid, ShopfleetError, join_faults
from services.core.pg_arrays import arrays
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.stock.levels import LevelKey
from services.shops.fields import OF_POOL
from services.shops.shops import Shop, list_shops

NOT_SOLD = "-"
"""Given instead of a shop's SKU: the shop does not sell the item."""


class PoolRefused(ShopfleetError):
    """Items cannot be linked. The message names each shop and SKU, and the reason."""


class PoolInvalid(PoolRefused, InputInvalid):
    """A shop or a SKU is named that the pool does not have."""


class WantedLink(NamedTuple):
    """Item ``sku`` of a pool is ``shop_sku`` in a shop; ``NOT_SOLD`` if the shop does not sell it."""

    sku: str
    shop: Shop
    shop_sku: str


class PoolLink(NamedTuple):
    """A level that is item ``sku`` of a pool in a shop."""

    sku: str
    shop: Shop
    shop_key: ShopLevelKey

    @property
    def key(self) -> LevelKey:
        return LevelKey(self.shop.id, self.shop_key.inventory_item_id, self.shop_key.location_id)


class PoolSummary(NamedTuple):
    """A pool: its shops, its items with each shop's figure, and its faults as text.

    ``goods`` are ``{"sku": ..., "available": ..., "held": {SHOP: Shopify's figure, and a planned push}}``.
    """

    name: str
    safety_buffer: int
    shops: list[str]
    goods: list[dict[str, Any]]
    faults: list[str]


_FIND_ITEMS = """
select v.n, i.item, coalesce(t.is_tracked, true) as is_tracked,
       exists (select from inventory_levels l
                where l.shop_id = v.shop_id and l.inventory_item_id = i.item and l.location_id = v.location
                  and l.disconnected_at is null) as is_here,
       (select string_agg(o.location_id || ' (' || o.available || ' pieces)', ', ' order by o.location_id)
          from inventory_levels o
         where o.shop_id = v.shop_id and o.inventory_item_id = i.item and o.location_id <> v.location
           and o.disconnected_at is null and o.available <> 0) as elsewhere,
       (select l.pool_sku from inventory_levels l
         where l.shop_id = v.shop_id and l.inventory_item_id = i.item
           and l.location_id = v.location) as linked_sku
  from unnest(%(n)s::int[], %(shop_id)s::int[], %(sku)s::text[], %(location)s::bigint[])
       as v(n, shop_id, sku, location)
 cross join lateral (
   select inventory_item_id as item from inventory_levels
    where shop_id = v.shop_id and sku = v.sku and disconnected_at is null
    union
   select inventory_item_id from variants
    where shop_id = v.shop_id and sku = v.sku and deleted_at is null) i
  left join inventory_items t on t.shop_id = v.shop_id and t.inventory_item_id = i.item
 order by v.n, i.item
"""

_FIND_LINKED = """
select l.pool_sku as sku, s.slug, l.shop_id, l.inventory_item_id, l.location_id, l.sku as shop_sku,
       l.available, l.shopify_available, l.doubts > 0 as must_read, l.disconnected_at is null as is_stocked
  from inventory_levels l join shops s on s.id = l.shop_id
 where l.pool = %(pool)s order by l.pool_sku, s.slug
"""

_FIND_SKUS = """
select distinct sku from inventory_levels
 where shop_id = %(shop_id)s and location_id = %(location)s and sku <> '' and disconnected_at is null
 order by sku
"""

_FIND_POOL_ITEMS = "select sku, available from stock_pool_items where pool = %(pool)s order by sku"


def list_members(tx: Connection, pool: str) -> list[Shop]:
    return [shop for shop in list_shops(tx) if shop.stock_owner == OF_POOL + pool]


def list_linked(tx: Connection, pool: str) -> Sequence[Row[Any]]:
    return tx.exec_driver_sql(_FIND_LINKED, {"pool": pool}).all()


def list_shop_skus(tx: Connection, shop: Shop) -> list[str]:
    values = {"shop_id": shop.id, "location": int(shop.stock_location_id or 0)}
    return list(tx.exec_driver_sql(_FIND_SKUS, values).scalars())


def list_pools(tx: Connection, name: str = "") -> list[PoolSummary]:
    """Return the pools that have a shop or a buffer, or the one with ``name``."""
    buffers = {
        pool: int(pieces)
        for pool, pieces in tx.exec_driver_sql("select name, safety_buffer from stock_pools")
    }
    members: dict[str, list[Shop]] = {pool: [] for pool in buffers}
    for shop in list_shops(tx):
        if shop.stock_owner.startswith(OF_POOL):
            members.setdefault(shop.stock_owner.removeprefix(OF_POOL), []).append(shop)
    names = [pool for pool in sorted(members) if name in ("", pool)]
    return [_find_pool(tx, pool, members[pool], buffers.get(pool, 0)) for pool in names]


def _find_pool(tx: Connection, pool: str, shops: Sequence[Shop], safety_buffer: int) -> PoolSummary:
    levels = {(row.slug, row.sku): row for row in list_linked(tx, pool)}
    stocked = {shop.slug: set(list_shop_skus(tx, shop)) for shop in shops}
    goods: list[dict[str, Any]] = []
    wanted: list[WantedLink] = []
    unlinked: list[str] = []
    for item in tx.exec_driver_sql(_FIND_POOL_ITEMS, {"pool": pool}):
        held = {slug: _format_level(level) for (slug, sku), level in levels.items() if sku == item.sku}
        goods.append({"sku": item.sku, "available": item.available, "held": held})
        for shop in shops:
            if level := levels.get((shop.slug, item.sku)):
                wanted.append(WantedLink(item.sku, shop, level.shop_sku or item.sku))
            elif item.sku in stocked[shop.slug]:
                fix = f"fleet stock pool {pool} --sku {item.sku}"
                unlinked.append(f"{shop.slug}: sku={item.sku!r}: in stock, and not linked: {fix}")
    faults = [*check_links(tx, wanted)[1], *unlinked]
    return PoolSummary(pool, safety_buffer, [shop.slug for shop in shops], goods, faults)


def _format_level(level: Row[Any]) -> str:
    if not level.is_stocked:
        return "not stocked"
    held = "unknown" if level.shopify_available is None else str(level.shopify_available)
    if level.must_read:
        return f"{held}, will be read again"
    return held if level.shopify_available == level.available else f"{held} -> {level.available}"


def plan_links(tx: Connection, wanted: Sequence[WantedLink]) -> list[PoolLink]:
    """Return the level of each of ``wanted``; raise ``PoolRefused`` naming all that cannot be linked."""
    links, faults = check_links(tx, wanted)
    if faults:
        raise PoolRefused(join_faults(faults))
    return links


def check_links(tx: Connection, wanted: Sequence[WantedLink]) -> tuple[list[PoolLink], list[str]]:
    """Return the level of each of ``wanted`` that can be linked, and the faults of the others."""
    sold = [link for link in wanted if link.shop_sku != NOT_SOLD]
    rows = [
        (n, link.shop.id, link.shop_sku, int(link.shop.stock_location_id or 0)) for n, link in enumerate(sold)
    ]
    items: list[list[Row[Any]]] = [[] for _ in sold]
    for row in tx.exec_driver_sql(_FIND_ITEMS, arrays("n shop_id sku location", rows)):
        items[row.n].append(row)
    links: dict[LevelKey, PoolLink] = {}
    faults: list[str] = []
    for (sku, shop, shop_sku), found in zip(sold, items, strict=True):
        if fault := next(_list_faults(sku, shop, found), ""):
            faults.append(f"{shop.slug}: sku={shop_sku!r}: {fault}")
            continue
        link = PoolLink(sku, shop, ShopLevelKey(found[0].item, int(shop.stock_location_id)))
        if (other := links.setdefault(link.key, link)).sku != sku:
            both = f"{other.sku!r} and {sku!r} of the pool would both be this item"
            faults.append(f"{shop.slug}: sku={shop_sku!r}: {both}: name each item once")
    return list(links.values()), faults


def _list_faults(sku: str, shop: Shop, found: Sequence[Row[Any]]) -> Iterator[str]:
    """Yield the faults of the link of ``sku``, the cause first."""
    slug, location = shop.slug, shop.stock_location_id
    if not location:
        yield f"the shop has no location: `fleet shops set {slug} --stock-location-id N`"
    if not found:
        todo = f"name the shop's own sku in --csv ({NOT_SOLD} if the shop does not sell it)"
        yield f"no item has this sku: correct it in Shopify, or {todo}"
        return
    row, item = found[0], found[0].item
    if len(found) > 1:
        items = ", ".join(str(other.item) for other in found)
        yield f"the items {items} have this sku: give each its own sku in Shopify"
    if not row.is_tracked:
        yield f"Shopify does not track item {item}: turn its quantity tracking on"
    if not row.is_here:
        yield f"item {item} is not stocked at location {location}: activate it there in Shopify"
    if row.elsewhere is not None:
        todo = f"move it to location {location} in Shopify"
        yield f"item {item} has stock elsewhere, at {row.elsewhere}: {todo}"
    if row.linked_sku not in (None, sku):
        todo = f"unlink that first with --sku {row.linked_sku} --remove"
        yield f"item {item} is already {row.linked_sku!r} of a pool: {todo}"


def check_joining(tx: Connection, shop: Shop, owner: str, location_id: str) -> None:
    """Raise ``PoolRefused`` if items of the pool that the shop stocks cannot be linked.

    Accepts any ``owner`` that is not a pool, and the shop's current owner.
    """
    if not owner.startswith(OF_POOL) or owner == shop.stock_owner:
        return
    shop = replace(shop, stock_location_id=location_id or shop.stock_location_id)
    skus = {row.sku for row in list_linked(tx, owner.removeprefix(OF_POOL))} & set(list_shop_skus(tx, shop))
    plan_links(tx, plan_wanted_links([shop], skus, {}))


def plan_wanted_links(
    members: Collection[Shop], skus: Collection[str], shop_skus: Mapping[tuple[str, str], str]
) -> list[WantedLink]:
    """Return the links of ``skus`` in every shop; ``shop_skus``, by (slug, sku), has other SKUs. Pure."""
    return [
        WantedLink(sku, shop, shop_skus.get((shop.slug, sku), sku))
        for sku in sorted(skus)
        for shop in sorted(members, key=lambda shop: shop.slug)
    ]
