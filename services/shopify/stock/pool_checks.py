"""Whether a shop's level may belong to a pool: one item of the sku, tracked, stocked at one location.

The shops of a pool are those with the stock owner ``pool:NAME``, each with its ``stock_location_id``.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.errors import ShopfleetError
from services.core.pg_arrays import int_array, text_array
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.stock.levels import LevelKey
from services.shops.shops import OF_POOL, Shop, find_shops

NOT_SOLD = "-"
"""In the place of a shop's sku: the shop does not sell the goods."""


class PoolRefused(ShopfleetError):
    """Goods cannot be in a pool. The message names every shop and sku that is wrong, and why."""


class WantedLink(NamedTuple):
    """The goods ``sku`` of a pool are ``shop_sku`` in a shop; ``NOT_SOLD`` where it does not sell them."""

    sku: str
    shop: Shop
    shop_sku: str


class PoolLink(NamedTuple):
    """A level that is the goods ``sku`` of a pool in a shop."""

    sku: str
    shop: Shop
    place: ShopLevelKey

    @property
    def key(self) -> LevelKey:
        """Which level this is."""
        return (self.shop.id, *self.place)


class LinkedLevel(NamedTuple):
    """A level of a pool as it stands: ``available`` is ours, ``shopify_available`` what Shopify holds."""

    sku: str
    slug: str
    key: LevelKey
    shop_sku: str
    available: int
    shopify_available: int | None
    must_read: bool
    is_stocked: bool


_FIND_ITEMS = """
select v.n, i.item, coalesce(t.is_tracked, true),
       exists (select from inventory_levels l
                where l.shop_id = v.shop_id and l.inventory_item_id = i.item and l.location_id = v.location
                  and l.disconnected_at is null),
       (select string_agg(o.location_id || ' (' || o.available || ' pieces)', ', ' order by o.location_id)
          from inventory_levels o
         where o.shop_id = v.shop_id and o.inventory_item_id = i.item and o.location_id <> v.location
           and o.disconnected_at is null and o.available <> 0),
       (select l.pool_sku from inventory_levels l
         where l.shop_id = v.shop_id and l.inventory_item_id = i.item and l.location_id = v.location)
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
select l.pool_sku, s.slug, l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available,
       l.shopify_available, l.doubts > 0, l.disconnected_at is null
  from inventory_levels l join shops s on s.id = l.shop_id
 where l.pool = %(pool)s order by l.pool_sku, s.slug
"""

_FIND_SKUS = """
select distinct sku from inventory_levels
 where shop_id = %(shop_id)s and location_id = %(location)s and sku <> '' and disconnected_at is null
 order by sku
"""


def find_members(tx: Connection, pool: str) -> list[Shop]:
    """Return the shops of the pool, by slug."""
    return [shop for shop in find_shops(tx) if shop.stock_owner == OF_POOL + pool]


def find_linked(tx: Connection, pool: str) -> list[LinkedLevel]:
    """Return the levels of the pool, by sku and shop."""
    rows = tx.exec_driver_sql(_FIND_LINKED, {"pool": pool})
    return [LinkedLevel(r[0], r[1], (r[2], r[3], r[4]), *r[5:]) for r in rows]


def find_skus(tx: Connection, shop: Shop) -> list[str]:
    """Return the skus that the shop stocks at its location."""
    values = {"shop_id": shop.id, "location": int(shop.stock_location_id or 0)}
    return [row[0] for row in tx.exec_driver_sql(_FIND_SKUS, values)]


def plan_links(tx: Connection, wanted: Sequence[WantedLink]) -> list[PoolLink]:
    """Return the level of each of ``wanted``; raise ``PoolRefused`` naming all that cannot be linked."""
    links, faults = check_links(tx, wanted)
    if faults:
        raise PoolRefused("; ".join(faults))
    return links


def check_links(tx: Connection, wanted: Sequence[WantedLink]) -> tuple[list[PoolLink], list[str]]:
    """Return the level of each of ``wanted`` that can be linked, and what is wrong with the others."""
    sold = [one for one in wanted if one.shop_sku != NOT_SOLD]
    values = {
        "n": int_array(range(len(sold))),
        "shop_id": int_array(one.shop.id for one in sold),
        "sku": text_array([one.shop_sku for one in sold]),
        "location": int_array(int(one.shop.stock_location_id or 0) for one in sold),
    }
    items: dict[int, list[Sequence[object]]] = {}
    for row in tx.exec_driver_sql(_FIND_ITEMS, values):
        items.setdefault(row[0], []).append(row[1:])
    links: dict[LevelKey, PoolLink] = {}
    faults: list[str] = []
    for number, one in enumerate(sold):
        found = items.get(number, [])
        if fault := _find_fault(one, found):
            faults.append(fault)
        else:
            item = int(str(found[0][0]))
            link = PoolLink(one.sku, one.shop, ShopLevelKey(item, int(one.shop.stock_location_id)))
            if (other := links.setdefault(link.key, link)).sku != one.sku:
                both = f"{other.sku!r} and {one.sku!r} of the pool would both be it"
                faults.append(f"{one.shop.slug}: sku={one.shop_sku!r}: {both}: name each item once")
    return list(links.values()), faults


def _find_fault(one: WantedLink, found: Sequence[Sequence[object]]) -> str:
    slug, here = one.shop.slug, one.shop.stock_location_id
    item, is_tracked, is_here, elsewhere, linked = found[0] if found else (0, True, True, None, None)
    checks = (
        (not here, f"the shop names no location: `fleet shops set {slug} --stock-location-id N`"),
        (
            not found,
            "no item has it: correct the sku in Shopify, or name the shop's own in --csv "
            f"({NOT_SOLD} where the shop does not sell it)",
        ),
        (
            len(found) > 1,
            f"the items {', '.join(str(row[0]) for row in found)} have it: give each its own sku in Shopify",
        ),
        (not is_tracked, f"Shopify does not track item {item}: turn its quantity tracking on"),
        (not is_here, f"item {item} is not stocked at location {here}: activate it there in Shopify"),
        (
            elsewhere is not None,
            f"item {item} has stock elsewhere, at {elsewhere}: move it to location {here} in Shopify",
        ),
        (
            linked not in (None, one.sku),
            f"item {item} is {linked!r} of a pool already: take that out first with --sku {linked} --remove",
        ),
    )
    fault = next((what for is_wrong, what in checks if is_wrong), "")
    return f"{slug}: sku={one.shop_sku!r}: {fault}" if fault else ""


def check_joining(tx: Connection, shop: Shop, owner: str, location_id: str) -> None:
    """Return if ``shop`` may have the stock owner ``owner``; raise ``PoolRefused`` naming what is wrong.

    Goods of the pool that the shop has are checked; those that it does not have are none of its own.
    """
    if not owner.startswith(OF_POOL) or owner == shop.stock_owner:
        return
    shop = replace(shop, stock_location_id=location_id or shop.stock_location_id)
    has = set(find_skus(tx, shop))
    skus = {one.sku for one in find_linked(tx, owner.removeprefix(OF_POOL))} & has
    plan_links(tx, plan_wanted_links([shop], skus, {}))


def plan_wanted_links(
    members: Collection[Shop], skus: Collection[str], own: dict[tuple[str, str], str]
) -> list[WantedLink]:
    """Return the goods of every shop: by the shop's ``own`` sku, (slug, sku), else by the same sku. Pure."""
    return [
        WantedLink(sku, shop, own.get((shop.slug, sku), sku))
        for sku in sorted(skus)
        for shop in sorted(members, key=lambda shop: shop.slug)
    ]
