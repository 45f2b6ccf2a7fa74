"""Pools: several shops sell the same items from one stock, with one figure for all of them.

Only one signal changes a pool's figure: the difference between Shopify's figure of a level and the last known
one, without the changes by our own calls. Orders never change it. Each level shows the figure less the safety
buffer, and is pushed if Shopify's figure differs.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, list_open_incidents, record_incidents, resolve_incident
from services.audit.chain import Mutation
from services.core.locks import LockKind, lock_objects
from services.core.pg_arrays import arrays
from services.shopify.entities import EPOCH
from services.shopify.stock.levels import Level, LevelKey
from services.shopify.stock.movement_levels import movements_sql
from services.shopify.stock.payload import LevelObservation
from services.shopify.stock.pool_store import (
    PoolItemKey,
    PoolReport,
    find_pool_figures,
    find_pool_levels,
    pool_item_arrays,
    record_known_figures,
    update_items,
    update_levels,
)
from services.shopify.stock.push_item import LOST, LevelPush

CLOCK_TOLERANCE = timedelta(seconds=2)
"""Shopify's times are whole seconds: if two are this close, their order is not known."""

OVERSOLD = "stock_oversold"

_MAX_ORDER_LAG = timedelta(seconds=60)
"""Maximum time between Shopify's time of an order and of the order's stock change."""

_SALES_WINDOW = timedelta(days=7)

_FIND_ORDERS = f"""
select g.n, coalesce('order ' || o.name, 'a return') as what, sum(m.delta)::int as delta
  from unnest(%(n)s::int[], %(shop_id)s::int[], %(item)s::bigint[], %(sku)s::text[],
              %(since)s::timestamptz[], %(until)s::timestamptz[])
       as g(n, shop_id, inventory_item_id, sku, since, until)
 cross join lateral {movements_sql("g", "g.since")} m
  left join orders o on o.shop_id = g.shop_id and o.order_gid = 'gid://shopify/Order/' || m.order_id
 where m.at <= g.until and (o.name is not null or m.delta > 0)
 group by g.n, what order by g.n, what
"""  # noqa: S608

# The last sale in each shop of the pool, newest first. Sales are read only for items below zero.
_FIND_LAST_SALES = f"""
select i.pool, i.sku, i.available, s.slug, sale.name
  from unnest(%(pool)s::text[], %(sku)s::text[]) as t(pool, sku)
  join stock_pool_items i on i.pool = t.pool and i.sku = t.sku
  join inventory_levels g on g.pool = i.pool and g.pool_sku = i.sku
  join shops s on s.id = g.shop_id
  left join lateral (
    select o.name, m.at from {movements_sql("g", "%(since)s::timestamptz")} m
      join orders o on o.shop_id = g.shop_id and o.order_gid = 'gid://shopify/Order/' || m.order_id
     where i.available < 0 and m.delta < 0 order by m.at desc, m.source desc limit 1) sale on true
 order by i.pool, i.sku, sale.at desc nulls last, s.slug
"""  # noqa: S608

_FIND_BELOW_ZERO = """
select distinct l.pool, l.pool_sku
  from unnest(%(shop_id)s::int[], %(variant)s::bigint[]) as t(shop_id, variant_id)
  join variants v using (shop_id, variant_id)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.inventory_item_id
  join stock_pool_items i on i.pool = l.pool and i.sku = l.pool_sku
 where i.available < 0
"""


class PoolChanges(NamedTuple):
    """Changes of pools: ``levels`` that may need a push, each with the work item that changed it.

    ``mutations`` are by work item. ``figures`` has our figure and Shopify's of each given level. ``unread``
    are the levels that must be read again.
    """

    levels: Mapping[Level, int]
    mutations: Mapping[int, Sequence[Mutation]]
    figures: Mapping[LevelKey, tuple[int, int]]
    unread: Collection[LevelKey] = ()


NO_POOL_CHANGES = PoolChanges({}, {}, {})


def observe_pools(
    tx: Connection,
    observations: Mapping[LevelKey, LevelObservation],
    unclear: Collection[LevelKey],
    back: Collection[LevelKey],
    now: datetime,
) -> PoolChanges:
    """Change the pools by what webhooks report of their levels; if that is unclear, plan a read.

    ``unclear`` levels have two figures in one second. Levels in ``back`` were disconnected before: their
    figure is neither a sale nor a restock. The caller has locked the rows of the pool's levels.
    """
    reports: list[PoolReport] = []
    found = find_pool_levels(tx, observations)
    for key, level in found.items():
        event = observations[key]
        at, work_id = event.observed_at, event.item.id
        if key in back:
            reports.append(PoolReport(level, event.available, at, work_id))
        elif key in unclear or _is_unclear(level, event):
            reports.append(PoolReport(level, level.known, EPOCH, work_id, must_read=True))
        elif level.known_at is None or at > level.known_at + CLOCK_TOLERANCE:
            reports.append(PoolReport(level, event.available, at, work_id, before=level.known, until=at))
    return _record_reports(tx, reports, found, now)


def record_pool_reads(tx: Connection, reads: Mapping[LevelKey, LevelPush], now: datetime) -> PoolChanges:
    """Change the pools by what pushes read of their levels; a level that changed meanwhile is read again.

    Pushes of one level run one at a time, so a read includes all our calls except a lost one (see
    ``estimate_own_change``). Keys that belong to no pool are ignored. The caller has locked the rows.
    """
    reports: list[PoolReport] = []
    found = find_pool_levels(tx, reads)
    for key, level in found.items():
        read = reads[key]
        work_id, at = read.item.id, read.changed_at or EPOCH
        if (level.known, level.known_at, level.doubts) != (read.known, read.known_at, read.doubts):
            reports.append(PoolReport(level, level.known, EPOCH, work_id, must_read=True))
            continue
        known = level.known + estimate_own_change(read)
        until = max(read.changed_at or now, level.known_at or EPOCH)
        reports.append(PoolReport(level, read.available, at, work_id, before=known, until=until))
    return _record_reports(tx, reports, found, now)


def estimate_own_change(read: LevelPush) -> int:
    """Return by how many pieces the lost call changed the level, estimated from ``read``. Pure.

    The call counts as done if Shopify has the requested figure, and as not done if Shopify did not change the
    level since its last known figure. Otherwise the lower figure for the pool counts: overselling costs more
    than offering too little.
    """
    lost = read.lost_call
    if lost is None or lost.change_from is None:
        return 0
    change = lost.quantity - lost.change_from
    is_unchanged = read.known_at and read.changed_at and read.changed_at <= read.known_at
    if is_unchanged and read.available == read.known:
        return 0
    return change if read.available == lost.quantity or change > 0 else 0


def plan_read_payload(read: LevelPush, *, is_unread: bool) -> dict[str, Any]:
    """Return the payload of the level's next push; empty if it is an ordinary one. Pure.

    If the read did not count (``is_unread``), the payload includes the lost call.
    """
    payload: dict[str, Any] = {"hops": read.moves} if read.moves else {}
    lost = read.lost_call
    if is_unread and lost and (not lost.given_up or read.item.id in lost.given_up):
        payload[LOST] = {"quantity": lost.quantity, "change_from_quantity": lost.change_from}
    return payload


def _is_unclear(level: Row[Any], event: LevelObservation) -> bool:
    """Return whether ``event`` may be older than the known figure, or the effect of an open call."""
    if level.known_at is None:
        return bool(level.has_open_call)
    newer_by: timedelta = event.observed_at - level.known_at
    if level.has_open_call:
        return newer_by >= -CLOCK_TOLERANCE
    return event.available != level.known and abs(newer_by) <= CLOCK_TOLERANCE


def _record_reports(
    tx: Connection, reports: Sequence[PoolReport], keys: Collection[LevelKey], now: datetime
) -> PoolChanges:
    """Record ``reports`` and change the pools by them. ``keys`` are levels of pools."""
    if not keys:
        return NO_POOL_CHANGES
    record_known_figures(tx, reports, now)
    levels = {Level.from_row(report.level): report.work_id for report in reports}
    mutations: dict[int, list[Mutation]] = {}
    if moves := [report for report in reports if report.change]:
        causes = {move.item: move.work_id for move in moves}
        mutations = _move_items(tx, moves, now)
        levels |= {level: causes[item] for level, item in update_levels(tx, causes, now).items()}
        update_oversold_incidents(tx, causes, now)
    unread = {LevelKey.from_row(report.level) for report in reports if report.must_read}
    return PoolChanges(levels, mutations, find_pool_figures(tx, keys), unread)


def _move_items(tx: Connection, moves: Sequence[PoolReport], now: datetime) -> dict[int, list[Mutation]]:
    deltas: dict[PoolItemKey, int] = {}
    for move in moves:
        deltas[move.item] = deltas.get(move.item, 0) + move.change
    figures = update_items(tx, deltas, now)
    mutations: dict[int, list[Mutation]] = {}
    for move, orders in zip(moves, _explain_by_orders(tx, moves), strict=True):
        pool, sku = move.item
        before = figures[move.item]
        figures[move.item] = after = before + move.change
        where = f"Shopify changed {move.before} -> {move.known} at location {move.level.location_id}"
        row = Mutation(
            "stock_pool_items",
            f"{pool}:{sku}",
            f"pool {pool}: {sku} {before} -> {after}, as {where}; {orders}",
            {"available": before},
            {"available": after},
        )
        mutations.setdefault(move.work_id, []).append(row)
    return mutations


def _explain_by_orders(tx: Connection, moves: Sequence[PoolReport]) -> list[str]:
    rows = [
        (n, move.level.shop_id, move.level.inventory_item_id, move.level.sku,
         (move.level.known_at or move.until) - _MAX_ORDER_LAG, move.until + _MAX_ORDER_LAG)
        for n, move in enumerate(moves)
    ]  # fmt: skip
    orders: list[list[Row[Any]]] = [[] for _ in moves]
    for row in tx.exec_driver_sql(_FIND_ORDERS, arrays("n shop_id item sku since until", rows)):
        orders[row.n].append(row)
    texts = []
    for found, move in zip(orders, moves, strict=True):
        explained = sum(row.delta for row in found)
        text = ", ".join(row.what for row in found) or "no order is recorded for it yet"
        texts.append(text if explained == move.change or not found else f"{text} (of it {explained:+d})")
    return texts


def update_oversold_incidents(tx: Connection, items: Collection[PoolItemKey], now: datetime) -> None:
    """Open an incident for each pool item below zero; resolve the incidents of the others.

    Call this once, after the transaction's last lock of levels: it locks the incidents (see ``LockKind``).
    """
    if not items:
        return
    lock_objects(tx, {(0, f"{OVERSOLD}:{pool} {sku}") for pool, sku in items}, LockKind.INCIDENTS)
    sales: dict[PoolItemKey, list[Row[Any]]] = {item: [] for item in sorted(items)}
    for row in tx.exec_driver_sql(_FIND_LAST_SALES, pool_item_arrays(items) | {"since": now - _SALES_WINDOW}):
        sales[row.pool, row.sku].append(row)
    incidents = []
    opened = {incident.period for incident in list_open_incidents(tx, OVERSOLD)}
    for (pool, sku), last in sales.items():
        period, available = f"{pool} {sku}", last[0].available if last else 0
        if available >= 0:
            if period in opened:
                ending = "It is no longer below zero." if last else "It is no longer in the pool."
                resolve_incident(tx, None, OVERSOLD, period, now, ending)
            continue
        texts = [
            f"order {row.name} of {row.slug}" if row.name else f"no order of {row.slug} is recorded yet"
            for row in last[:2]
        ]
        pieces = f"{-available} piece" + ("" if available == -1 else "s")
        summary = (
            f"pool {pool}: {sku} is oversold by {pieces}. Last sales: {'; '.join(texts)}. "
            f"Ship one from another place, cancel one, or restock: `fleet stock pools {pool}`."
        )
        incidents.append(Incident(None, OVERSOLD, period, "P2", summary))
    record_incidents(tx, incidents, now)


def update_oversold_incidents_of_variants(
    tx: Connection, variants: Collection[tuple[int, int]], now: datetime
) -> None:
    """Update the incidents of items of ``variants``, (shop, variant), below zero with their last orders."""
    below = tx.exec_driver_sql(_FIND_BELOW_ZERO, arrays("shop_id variant", variants))
    items = {(row.pool, row.pool_sku) for row in below}
    update_oversold_incidents(tx, items, now)
