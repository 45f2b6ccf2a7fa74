"""Goods enter a pool and leave it: their levels are linked, show the pool's figure and are pushed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import Entry, Mutation
from services.core.locks import lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.accept import record_work
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.stock.audit_text import level_label
from services.shopify.stock.handler import item_lock
from services.shopify.stock.levels import Level, LevelKey, level_arrays, lock_levels, lock_stock
from services.shopify.stock.pool_checks import PoolLink, PoolRefused, find_linked, find_members
from services.shopify.stock.pool_orders import update_oversold_incidents
from services.shopify.stock.pool_store import LAST_HELD, show_pools
from services.shopify.stock.push_batch import INTENT, LOST
from services.shopify.stock.push_plan import PushCause, plan_pushes

HeldLevels = Mapping[int, Mapping[ShopLevelKey, ShopifyLevel]]
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
   and l.observed_at <= v.at and l.pool is null
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_TAKE_OUT = f"""
update inventory_levels l
   set pool = null, pool_sku = null, doubts = 0, available = {LAST_HELD}, shopify_available = {LAST_HELD},
       changed_at = %(now)s
 where l.pool = %(pool)s and l.pool_sku = any(%(sku)s::text[])
"""  # noqa: S608

# A call whose answer is still awaited may or may not be in what was read. One that was given up is in it, as
# far as anybody can tell.
_FIND_UNANSWERED = """
select o.shop_id, split_part(o.key, ':', 1)::bigint, split_part(o.key, ':', 2)::bigint
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id
                   and o.key = v.item || ':' || v.location
 where o.status in ('pending', 'error') and o.payload ? 'quantity'
"""

_FORGET_CALLS = """
update work_queue o set payload = o.payload - %(names)s::text[]
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
 where o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.item || ':' || v.location
   and o.status in ('pending', 'error', 'dead', 'discarded')
   and (o.payload ? 'quantity' or o.payload ? 'lost')
"""

_FORGET_GOODS = "delete from stock_pool_items where pool = %(pool)s and sku = any(%(sku)s::text[])"


class StartFigure(NamedTuple):
    """The figure that goods of a pool begin with: what ``slug`` holds."""

    sku: str
    available: int
    slug: str


def plan_figures(
    links: Sequence[PoolLink], held: HeldLevels, known: Collection[str], source: str = ""
) -> list[StartFigure]:
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
    figures: list[StartFigure] = []
    for sku in sorted(by_sku.keys() - set(known)):
        pieces = by_sku[sku]
        if source and source not in pieces:
            faults.append(f"sku={sku!r}: {source} does not have it, so --from {source} gives no figure")
        elif source or len(set(pieces.values())) == 1:
            slug = source or min(pieces)
            figures.append(StartFigure(sku, pieces[slug], slug))
        else:
            dispute = ", ".join(f"{slug} {count}" for slug, count in sorted(pieces.items()))
            faults.append(f"sku={sku!r}: the shops hold {dispute}: name the one that is right with --from")
    if faults:
        raise PoolRefused("; ".join(faults))
    return figures


def record_links(
    tx: Connection,
    pool: str,
    links: Sequence[PoolLink],
    figures: Sequence[StartFigure],
    held: HeldLevels,
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
    _check_still(tx, pool, links)
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
    skus = _lock(tx, pool, [])
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
    update_oversold_incidents(tx, {(pool, sku) for sku in skus}, now)
    rows = [Mutation("stock_pool_items", f"{pool}:{sku}", f"pool {pool}: {sku} is taken out")
            for sku in sorted(skus)]  # fmt: skip
    append_all(tx, [Entry(None, by, "stock.pool_remove", request_id, rows)], now)
    return count


def _check_still(tx: Connection, pool: str, links: Sequence[PoolLink]) -> None:
    """Return if the shops are in the pool and no call for the levels is under way; else ``PoolRefused``.

    Calls that were given up are forgotten: what was read at Shopify tells what became of them.
    """
    members = {shop.id: shop.stock_location_id for shop in find_members(tx, pool)}
    if gone := sorted({o.shop.slug for o in links if members.get(o.shop.id) != str(o.place.location_id)}):
        raise PoolRefused(f"{', '.join(gone)}: not in pool {pool} any more, or at another location")
    arrays = level_arrays([one.key for one in links])
    unanswered = {(row[0], row[1], row[2]) for row in tx.exec_driver_sql(_FIND_UNANSWERED, arrays)}
    if waiting := [f"{one.sku} of {one.shop.slug}" for one in links if one.key in unanswered]:
        raise PoolRefused(
            f"{', '.join(waiting)}: a push of the level has no answer yet: run it again when "
            "`fleet work list --topic inventory_push` shows it as done"
        )
    tx.exec_driver_sql(_FORGET_CALLS, arrays | {"names": [*INTENT, LOST]})


def _lock(
    tx: Connection, pool: str, keys: Sequence[LevelKey], skus: Collection[str] | None = None
) -> set[str]:
    """The levels of ``keys`` and of the pool's ``skus`` (None: all) are locked, and nobody else links any.

    Returns the skus that are in the pool.
    """
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item, _ in keys})
    lock_stock(tx, {*(shop.id for shop in find_members(tx, pool)), *(key[0] for key in keys)})
    linked = find_linked(tx, pool)
    lock_levels(tx, {*keys, *(one.key for one in linked if skus is None or one.sku in skus)})
    return {one.sku for one in linked}


def _push(tx: Connection, pool: str, skus: Collection[str], now: datetime, request_id: str) -> int:
    levels: list[Level] = list(show_pools(tx, {(pool, sku) for sku in skus}, now))
    causes = {(level.shop_id, level.sku): PushCause(request_id=request_id) for level in levels}
    pushes = plan_pushes(tx, levels, causes, now)
    record_work(tx, pushes, now)
    return len(pushes)


def _say(
    pool: str, links: Sequence[PoolLink], figures: Sequence[StartFigure], by: str, request_id: str
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
