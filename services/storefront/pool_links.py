"""Goods enter a pool and leave it: their levels are linked, show the pool's figure and are pushed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import Entry, Mutation
from services.core.arrays import instant_array, int_array, text_array
from services.core.locks import lock_objects
from services.ledger.accept import record_work
from services.providers.shopify_admin import HeldLevel, Place
from services.storefront.levels import Level, LevelKey, level_arrays, lock_levels, lock_stock
from services.storefront.pool_checks import Link, PoolRefused, find_linked, find_members
from services.storefront.pool_orders import refresh_oversold
from services.storefront.pool_rows import show_pools
from services.storefront.push_plan import Cause, plan_pushes
from services.storefront.said_stock import level_label
from services.storefront.stock import item_lock

Held = Mapping[int, Mapping[Place, HeldLevel]]
"""What Shopify holds, by shop and level."""

_SET_BUFFER = """
insert into stock_pools (name, safety_buffer) values (%(pool)s, coalesce(%(pieces)s, 0))
on conflict (name) do update set safety_buffer = coalesce(%(pieces)s, stock_pools.safety_buffer)
returning safety_buffer
"""

_ADD_GOODS = """
insert into stock_pool_items (pool, sku, available, changed_at)
select %(pool)s, sku, available, %(now)s
  from unnest(%(sku)s::text[], %(available)s::int[]) as v(sku, available)
on conflict (pool, sku) do nothing
"""

# A level that a webhook told of since it was read is not linked: its figure would miss what happened.
_LINK = """
update inventory_levels l
   set pool = %(pool)s, pool_sku = v.sku, shopify_available = v.held, known_at = v.at, doubts = 0,
       changed_at = %(now)s
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(sku)s::text[],
              %(held)s::int[], %(at)s::timestamptz[]) as v(shop_id, item, location, sku, held, at)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
   and l.observed_at <= v.at
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_TAKE_OUT = """
update inventory_levels l
   set pool = null, pool_sku = null, doubts = 0, available = shopify_available, changed_at = %(now)s
 where l.pool = %(pool)s and l.pool_sku = any(%(sku)s::text[])
"""

_FORGET_GOODS = "delete from stock_pool_items where pool = %(pool)s and sku = any(%(sku)s::text[])"


class Figure(NamedTuple):
    """The figure that goods of a pool begin with: what ``slug`` holds."""

    sku: str
    available: int
    slug: str


def plan_figures(links: Sequence[Link], held: Held, known: Collection[str], source: str = "") -> list[Figure]:
    """Return the figure of each goods that is new to its pool; raise ``PoolRefused`` naming each in dispute.

    It is what the shop ``source`` holds; without one, what all the shops hold alike. The skus ``known`` to
    the pool keep their figure.
    """
    faults: list[str] = []
    by_sku: dict[str, dict[str, int]] = {}
    for one in links:
        there = held.get(one.shop.id, {}).get(one.place)
        if there is None:
            item, location = one.place
            faults.append(f"{one.shop.slug}: Shopify does not stock item {item} at location {location}")
        else:
            by_sku.setdefault(one.sku, {})[one.shop.slug] = there.available
    figures: list[Figure] = []
    for sku in sorted(by_sku.keys() - set(known)):
        pieces = by_sku[sku]
        if source and source not in pieces:
            faults.append(f"sku={sku!r}: {source} does not have it, so --from {source} gives no figure")
        elif source or len(set(pieces.values())) == 1:
            slug = source or min(pieces)
            figures.append(Figure(sku, pieces[slug], slug))
        else:
            dispute = ", ".join(f"{slug} {count}" for slug, count in sorted(pieces.items()))
            faults.append(f"sku={sku!r}: the shops hold {dispute}: name the one that is right with --from")
    if faults:
        raise PoolRefused("; ".join(faults))
    return figures


def record_links(
    tx: Connection,
    pool: str,
    links: Sequence[Link],
    figures: Sequence[Figure],
    held: Held,
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> int:
    """Every level of ``links`` is the pool's and shows its figure; return how many are pushed for it.

    Raises ``PoolRefused`` where a level changed since it was read: then nothing is linked.
    """
    skus = {one.sku for one in links}
    _lock(tx, pool, [one.key for one in links], skus)
    tx.exec_driver_sql(_SET_BUFFER, {"pool": pool, "pieces": None})
    values = {"pool": pool, "now": now}
    goods = {
        "sku": text_array([one.sku for one in figures]),
        "available": int_array(one.available for one in figures),
    }
    tx.exec_driver_sql(_ADD_GOODS, values | goods)
    there = [held[one.shop.id][one.place] for one in links]
    arrays = level_arrays([one.key for one in links]) | {
        "sku": text_array([one.sku for one in links]),
        "held": int_array(one.available for one in there),
        "at": instant_array(one.updated_at or now for one in there),
    }
    linked = {(row[0], row[1], row[2]) for row in tx.exec_driver_sql(_LINK, values | arrays)}
    if moved := [f"{one.sku} of {one.shop.slug}" for one in links if one.key not in linked]:
        raise PoolRefused(f"{', '.join(moved)}: the level changed while it was read: run it again")
    pushes = _push(tx, pool, skus, now, request_id)
    append_all(tx, _say(pool, links, figures, by, request_id), now)
    return pushes


def set_buffer(tx: Connection, pool: str, pieces: int, now: datetime, *, by: str, request_id: str) -> int:
    """The pool keeps ``pieces`` of each of its goods from sale; return how many levels are pushed for it."""
    skus = {one.sku for one in find_linked(tx, pool)}
    _lock(tx, pool, [], skus)
    tx.exec_driver_sql(_SET_BUFFER, {"pool": pool, "pieces": pieces})
    pushes = _push(tx, pool, skus, now, request_id)
    row = Mutation("stock_pools", pool, f"pool {pool} keeps {pieces} of each sku back", None,
                   {"safety_buffer": pieces})  # fmt: skip
    append_all(tx, [Entry(None, by, "stock.pool_buffer", request_id, [row])], now)
    return pushes


def take_out(
    tx: Connection, pool: str, skus: Collection[str], now: datetime, *, by: str, request_id: str
) -> int:
    """The goods are the pool's no more: each level shows what Shopify holds. Returns how many levels."""
    _lock(tx, pool, [], skus)
    values = {"pool": pool, "sku": text_array(sorted(skus)), "now": now}
    count = tx.exec_driver_sql(_TAKE_OUT, values).rowcount
    tx.exec_driver_sql(_FORGET_GOODS, values)
    refresh_oversold(tx, {(pool, sku) for sku in skus}, now)
    rows = [Mutation("stock_pool_items", f"{pool}:{sku}", f"pool {pool}: {sku} is taken out")
            for sku in sorted(skus)]  # fmt: skip
    append_all(tx, [Entry(None, by, "stock.pool_remove", request_id, rows)], now)
    return count


def _lock(tx: Connection, pool: str, keys: Sequence[LevelKey], skus: Collection[str]) -> None:
    """The levels of ``keys`` and of the pool's ``skus`` are locked, and nobody else links any."""
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item, _ in keys})
    lock_stock(tx, {*(shop.id for shop in find_members(tx, pool)), *(key[0] for key in keys)})
    of_pool = [one.key for one in find_linked(tx, pool) if one.sku in skus]
    lock_levels(tx, {*keys, *of_pool})


def _push(tx: Connection, pool: str, skus: Collection[str], now: datetime, request_id: str) -> int:
    levels: list[Level] = list(show_pools(tx, {(pool, sku) for sku in skus}, now))
    causes = {(level.shop_id, level.sku): Cause(request_id=request_id) for level in levels}
    pushes = plan_pushes(tx, levels, causes, now)
    record_work(tx, pushes, now)
    return len(pushes)


def _say(
    pool: str, links: Sequence[Link], figures: Sequence[Figure], by: str, request_id: str
) -> list[Entry]:
    entries: dict[int | None, list[Mutation]] = {}
    for link in links:
        label = f"{level_label(link.sku, *link.place)} is in pool {pool}"
        row = Mutation("inventory_levels", ":".join(map(str, link.place)), label, None, {"pool": pool})
        entries.setdefault(link.shop.id, []).append(row)
    for one in figures:
        summary = f"pool {pool}: {one.sku} begins with {one.available}, as {one.slug} holds"
        row = Mutation("stock_pool_items", f"{pool}:{one.sku}", summary, None, {"available": one.available})
        entries.setdefault(None, []).append(row)
    return [Entry(shop_id, by, "stock.pool_link", request_id, rows) for shop_id, rows in entries.items()]
