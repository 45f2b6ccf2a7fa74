"""Plan pushes of stock levels to Shopify: one per level, however often it changes before the push runs.

Only our own figures are pushed: counted levels of a shop with the ``stock_owner`` ``shopfleet``, and levels
that are linked to the shop's pool.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.accept import record_work
from services.ledger.work import NewWork, WorkItem
from services.shopify.stock.levels import LEVELS_BY_KEY, PUSH_TOPIC, Level, LevelKey, SkuKey, level_arrays
from services.shopify.stock.movement_levels import LAST_MOVEMENT_AT

SETTLE_TIME = timedelta(seconds=60)
"""How long after a sale Shopify's figure and its webhooks may still be out of date."""

IS_OURS = """(c.stock_owner = 'shopfleet' and l.counted_at is not null
  or l.pool is not null and c.stock_owner = 'pool:' || l.pool)"""
"""SQL: whether the figure of level ``l`` is ours to push; ``c`` is the config of its shop."""

IN_SYNC = """(l.available is not distinct from l.shopify_available
  or l.pool is not null and l.available = 0 and l.shopify_available < 0)"""
"""SQL: whether Shopify has the figure of level ``l``. A pool's level below zero counts as zero."""

_FIND_DUE = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.sku,
       case when l.pool is null then greatest(l.observed_at, {LAST_MOVEMENT_AT}) end as changed_at
       {LEVELS_BY_KEY}
  join shop_config c on c.shop_id = l.shop_id
 where {IS_OURS} and l.disconnected_at is null and (l.doubts > 0 or not {IN_SYNC})
"""

# Skips rows that a worker is claiming. A row that is found stays unclaimed until this transaction ends, so
# its push reads the level after this change. A row with a call in its payload has an older figure: skipped.
_FIND_WAITING = """
select w.shop_id, w.key from work_queue w
 where w.topic = 'inventory_push' and w.shop_id = any(%(shops)s::int[]) and w.status = 'pending'
   and w.locked_at is null and w.retry_count = 0 and not w.payload ? 'quantity'
   and w.key = any(%(key)s::text[])
   for share skip locked
"""


class PushCause(NamedTuple):
    """The event that caused a push."""

    event_id: int | None = None
    request_id: str = ""


def push_cause(item: WorkItem) -> PushCause:
    return PushCause(item.event_id, item.request_id)


def list_due_pushes(
    tx: Connection,
    levels: Collection[Level],
    causes: Mapping[SkuKey, PushCause],
    now: datetime,
    *,
    follow_up: Mapping[str, Any] | None = None,
    not_before: datetime | None = None,
) -> list[NewWork]:
    """Return a push for each of ``levels`` whose figure is ours and differs from Shopify's.

    The push of a counted level waits until ``SETTLE_TIME`` after the last sale or observation: Shopify
    subtracts its orders itself. The push of a pool's level does not wait. A level with a waiting push gets no
    second one, except a ``follow_up``: the payload of a push that continues another, for ``not_before``. Call
    this after the levels are written, in the same transaction.
    """
    if not levels:
        return []
    new: dict[tuple[int, str], NewWork] = {}
    for shop_id, item, location, sku, changed_at in tx.exec_driver_sql(_FIND_DUE, level_arrays(levels)):
        key = LevelKey(shop_id, item, location).row_id
        cause = causes.get((shop_id, sku)) or PushCause()
        settled_at = changed_at + SETTLE_TIME if changed_at else now
        if follow_up is None:
            not_before = settled_at if settled_at > now else None
        new[shop_id, key] = NewWork(
            shop_id=shop_id,
            topic=PUSH_TOPIC,
            key=key,
            payload=dict(follow_up or {}),
            event_id=cause.event_id,
            request_id=cause.request_id,
            not_before=not_before,
        )
    if new and follow_up is None:
        values = {"shops": int_array({shop for shop, _ in new}), "key": text_array([key for _, key in new])}
        for row in tx.exec_driver_sql(_FIND_WAITING, values):
            new.pop((row.shop_id, row.key), None)
    return list(new.values())


def record_pushes(tx: Connection, levels: Collection[Level], now: datetime, request_id: str) -> int:
    """Plan the pushes of ``levels`` that a person's command changed; return how many."""
    causes = {level.sku_key: PushCause(request_id=request_id) for level in levels}
    pushes = list_due_pushes(tx, levels, causes, now)
    record_work(tx, pushes, now)
    return len(pushes)
