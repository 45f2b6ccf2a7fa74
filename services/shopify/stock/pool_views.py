"""The pools as people see them: each sku's figure, and what each shop holds of it."""

from typing import NamedTuple

from sqlalchemy import Connection

from services.shopify.stock.pool_checks import LinkedLevel, WantedLink, find_linked, find_skus
from services.shops.shops import OF_POOL, find_shops

_FIND_GOODS = "select sku, available from stock_pool_items where pool = %(pool)s order by sku"

_FIND_BUFFERS = "select name, safety_buffer from stock_pools order by name"


class PoolItemView(NamedTuple):
    """Goods of a pool. ``held`` says, by shop, what Shopify holds, and what it is about to hold."""

    sku: str
    available: int
    held: dict[str, str]


class PoolView(NamedTuple):
    """A pool, and the goods as each of its shops has to have them (``wanted``).

    ``unlinked`` says, in words, which shops stock goods of the pool that are not linked.
    """

    name: str
    safety_buffer: int
    shops: list[str]
    goods: list[PoolItemView]
    wanted: list[WantedLink]
    unlinked: list[str]


def find_pools(tx: Connection, name: str = "") -> list[PoolView]:
    """Return the pools that have a shop or a buffer, or the one of ``name``."""
    buffers = {row[0]: int(row[1]) for row in tx.exec_driver_sql(_FIND_BUFFERS)}
    members = [shop for shop in find_shops(tx) if shop.stock_owner.startswith(OF_POOL)]
    names = buffers.keys() | {shop.stock_owner.removeprefix(OF_POOL) for shop in members}
    found = []
    for pool in sorted(names):
        if name and pool != name:
            continue
        shops = [shop for shop in members if shop.stock_owner == OF_POOL + pool]
        levels = {(one.slug, one.sku): one for one in find_linked(tx, pool)}
        goods = [(row[0], row[1]) for row in tx.exec_driver_sql(_FIND_GOODS, {"pool": pool})]
        has = {shop.slug: set(find_skus(tx, shop)) for shop in shops}
        open_ = [(sku, shop) for sku, _ in goods for shop in shops if (shop.slug, sku) not in levels]
        found.append(
            PoolView(
                pool,
                buffers.get(pool, 0),
                [shop.slug for shop in shops],
                [PoolItemView(sku, pieces, _held(levels, sku)) for sku, pieces in goods],
                [
                    WantedLink(sku, shop, levels[shop.slug, sku].shop_sku or sku)
                    for sku, _ in goods
                    for shop in shops
                    if (shop.slug, sku) in levels
                ],
                [_say_unlinked(pool, sku, shop.slug) for sku, shop in open_ if sku in has[shop.slug]],
            )
        )
    return found


def _held(levels: dict[tuple[str, str], LinkedLevel], sku: str) -> dict[str, str]:
    return {slug: _say(one) for (slug, of), one in levels.items() if of == sku}


def _say_unlinked(pool: str, sku: str, slug: str) -> str:
    return f"{slug}: sku={sku!r}: in stock, and not linked: fleet stock pool {pool} --sku {sku}"


def _say(one: LinkedLevel) -> str:
    if not one.is_stocked:
        return "not stocked"
    held = "unknown" if one.shopify_available is None else str(one.shopify_available)
    if one.must_read:
        return f"{held}, is read again"
    return held if one.shopify_available == one.available else f"{held} -> {one.available}"
