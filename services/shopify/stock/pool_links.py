"""Links items to a pool and unlinks them. Linked levels show the pool's figure and are pushed."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.core.errors import join_faults
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays, text_array
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.stock.audit_text import level_mutation
from services.shopify.stock.levels import Level, LevelKey, item_lock, level_arrays, lock_levels, lock_stock
from services.shopify.stock.pool_checks import PoolLink, PoolRefused, list_linked, list_members
from services.shopify.stock.pool_store import LAST_REPORTED, update_levels
from services.shopify.stock.pools import update_oversold_incidents
from services.shopify.stock.push_item import CALL_KEYS, LOST
from services.shopify.stock.push_plan import record_pushes

HeldLevels = Mapping[int, Mapping[ShopLevelKey, ShopifyLevel]]
"""Shopify's levels, by shop and level key."""

_SET_BUFFER = """
insert into stock_pools (name, safety_buffer) values (%(pool)s, coalesce(%(pieces)s, 0))
on conflict (name) do update set safety_buffer = coalesce(%(pieces)s, stock_pools.safety_buffer)
returning safety_buffer
"""

_ADD_ITEMS = """
insert into stock_pool_items (pool, sku, available, changed_at)
select %(pool)s, sku, available, %(now)s
  from unnest(%(sku)s::text[], %(available)s::int[]) as v(sku, available)
on conflict (pool, sku) do nothing
"""

# A level that a webhook changed since the read is not linked: the figure read lacks that change.
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

_UNLINK = f"""
update inventory_levels l
   set pool = null, pool_sku = null, doubts = 0, available = {LAST_REPORTED},
       shopify_available = {LAST_REPORTED}, changed_at = %(now)s
 where l.pool = %(pool)s and l.pool_sku = any(%(sku)s::text[])
"""  # noqa: S608

# The figure read may or may not include a call without an answer. A given-up call counts as included.
_FIND_UNANSWERED = """
select v.shop_id, v.item as inventory_item_id, v.location as location_id
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id
                   and o.key = v.item || ':' || v.location
 where o.status in ('pending', 'error') and o.payload ? 'quantity'
"""

_DELETE_LINKED_CALLS = """
update work_queue o set payload = o.payload - %(names)s::text[]
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
 where o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.item || ':' || v.location
   and o.status in ('pending', 'error', 'dead', 'discarded')
   and (o.payload ? 'quantity' or o.payload ? 'lost')
"""

_DELETE_ITEMS = "delete from stock_pool_items where pool = %(pool)s and sku = any(%(sku)s::text[])"


class PoolStartFigure(NamedTuple):
    """The first figure of an item in its pool: that of the shop ``slug``."""

    sku: str
    available: int
    slug: str


def plan_figures(
    links: Sequence[PoolLink], held: HeldLevels, known: Collection[str], source: str = ""
) -> list[PoolStartFigure]:
    """Return the figure of each item that is new to its pool; raise ``PoolRefused`` naming each conflict.

    The figure is that of the shop ``source``; without a source, the one that all shops have. SKUs ``known``
    to the pool keep their figure. Pure.
    """
    faults: list[str] = []
    by_sku: dict[str, dict[str, int]] = {}
    for link in links:
        level = held.get(link.shop.id, {}).get(link.shop_key)
        if level is None:
            item, location = link.shop_key
            faults.append(f"{link.shop.slug}: Shopify does not stock item {item} at location {location}")
        else:
            by_sku.setdefault(link.sku, {})[link.shop.slug] = level.available
    figures: list[PoolStartFigure] = []
    for sku in sorted(by_sku.keys() - set(known)):
        pieces = by_sku[sku]
        if source and source not in pieces:
            faults.append(f"sku={sku!r}: {source} does not have it, so --from {source} gives no figure")
        elif source or len(set(pieces.values())) == 1:
            slug = source or min(pieces)
            figures.append(PoolStartFigure(sku, pieces[slug], slug))
        else:
            counts = ", ".join(f"{slug} {count}" for slug, count in sorted(pieces.items()))
            faults.append(f"sku={sku!r}: the shops hold {counts}: name the shop that is right with --from")
    if faults:
        raise PoolRefused(join_faults(faults))
    return figures


def record_links(
    tx: Connection,
    pool: str,
    links: Sequence[PoolLink],
    figures: Sequence[PoolStartFigure],
    held: HeldLevels,
    now: datetime,
    *,
    by: str,
    request_id: str,
) -> int:
    """Link the levels of ``links`` to the pool; return the number of planned pushes.

    Raises ``PoolRefused`` if a level changed since it was read: then nothing is linked.
    """
    skus = {link.sku for link in links}
    keys = [link.key for link in links]
    _lock(tx, pool, keys, skus)
    _check_links_are_current(tx, pool, links)
    tx.exec_driver_sql(_SET_BUFFER, {"pool": pool, "pieces": None})
    items = arrays("sku available", [(figure.sku, figure.available) for figure in figures])
    tx.exec_driver_sql(_ADD_ITEMS, items | {"pool": pool, "now": now})
    at_shopify = [(link.sku, held[link.shop.id][link.shop_key]) for link in links]
    read = [(sku, level.available, level.updated_at or now) for sku, level in at_shopify]
    values = level_arrays(keys) | arrays("sku held at", read)
    linked = LevelKey.from_rows(tx.exec_driver_sql(_LINK, values | {"pool": pool, "now": now}))
    if changed := _format_links([link for link in links if link.key not in linked]):
        raise PoolRefused(f"{changed}: the level changed while it was read: run it again")
    rows: dict[int | None, list[Mutation]] = {}
    for link in links:
        level = Level(*link.key, link.sku)
        row = level_mutation(level, f"{level.label} is in pool {pool}", None, {"pool": pool})
        rows.setdefault(link.shop.id, []).append(row)
    for start in figures:
        summary = f"pool {pool}: {start.sku} starts with {start.available}, the figure of {start.slug}"
        after = {"available": start.available}
        row = Mutation("stock_pool_items", f"{pool}:{start.sku}", summary, None, after)
        rows.setdefault(None, []).append(row)
    action = "stock.pool_link"
    append_all(tx, [AuditEntry(shop, by, action, request_id, of_shop) for shop, of_shop in rows.items()], now)
    return record_pushes(tx, update_levels(tx, {(pool, sku) for sku in skus}, now), now, request_id)


def set_buffer(tx: Connection, pool: str, pieces: int, now: datetime, *, by: str, request_id: str) -> int:
    """Keep ``pieces`` of each item of the pool from sale; return the number of planned pushes."""
    skus = _lock(tx, pool, [])
    tx.exec_driver_sql(_SET_BUFFER, {"pool": pool, "pieces": pieces})
    summary = f"pool {pool} holds back {pieces} of each sku"
    row = Mutation("stock_pools", pool, summary, None, {"safety_buffer": pieces})
    append_all(tx, [AuditEntry(None, by, "stock.pool_buffer", request_id, [row])], now)
    return record_pushes(tx, update_levels(tx, {(pool, sku) for sku in skus}, now), now, request_id)


def unlink_items(
    tx: Connection, pool: str, skus: Collection[str], now: datetime, *, by: str, request_id: str
) -> int:
    """Unlink items from the pool: each level gets Shopify's figure. Returns the number of levels."""
    _lock(tx, pool, [], skus)
    ordered = sorted(skus)
    values = {"pool": pool, "sku": text_array(ordered), "now": now}
    count = tx.exec_driver_sql(_UNLINK, values).rowcount
    tx.exec_driver_sql(_DELETE_ITEMS, values)
    update_oversold_incidents(tx, {(pool, sku) for sku in skus}, now)
    rows = [
        Mutation("stock_pool_items", f"{pool}:{sku}", f"pool {pool}: {sku} is unlinked") for sku in ordered
    ]
    append_all(tx, [AuditEntry(None, by, "stock.pool_remove", request_id, rows)], now)
    return count


def _check_links_are_current(tx: Connection, pool: str, links: Sequence[PoolLink]) -> None:
    """Raise ``PoolRefused`` if a shop left the pool, or a push of a level has no answer.

    Deletes calls that were given up: the figures that were read include their effect.
    """
    members = {shop.id: shop.stock_location_id for shop in list_members(tx, pool)}
    if left := sorted({o.shop.slug for o in links if members.get(o.shop.id) != str(o.shop_key.location_id)}):
        raise PoolRefused(f"{', '.join(left)}: no longer in pool {pool}, or at another location")
    values = level_arrays([link.key for link in links])
    unanswered = LevelKey.from_rows(tx.exec_driver_sql(_FIND_UNANSWERED, values))
    if waiting := _format_links([link for link in links if link.key in unanswered]):
        raise PoolRefused(
            f"{waiting}: a push of the level has no answer yet: run it again when "
            "`fleet work list --topic inventory_push` shows it as done"
        )
    tx.exec_driver_sql(_DELETE_LINKED_CALLS, values | {"names": [*CALL_KEYS, LOST]})


def _format_links(links: Sequence[PoolLink]) -> str:
    return ", ".join(f"{link.sku} of {link.shop.slug}" for link in links)


def _lock(
    tx: Connection, pool: str, keys: Sequence[LevelKey], skus: Collection[str] | None = None
) -> set[str]:
    """Lock the levels of ``keys`` and of the pool's ``skus`` (None: all); return the pool's SKUs.

    Until the transaction ends, no other transaction links levels to the pool.
    """
    lock_objects(tx, {(key.shop_id, item_lock(key.inventory_item_id)) for key in keys})
    lock_stock(tx, {*(shop.id for shop in list_members(tx, pool)), *(key.shop_id for key in keys)})
    linked = list_linked(tx, pool)
    lock_levels(tx, {*keys, *(LevelKey.from_row(row) for row in linked if skus is None or row.sku in skus)})
    return {row.sku for row in linked}
