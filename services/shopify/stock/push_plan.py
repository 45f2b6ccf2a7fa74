"""Which stock levels are pushed to Shopify, each once however often it changes meanwhile.

Only figures that are ours: of a shop whose ``stock_owner`` says so, and there of a level that was counted
here or that is linked to the shop's pool.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.work import NewWork
from services.shopify.stock.level_moves import LAST_MOVEMENT_AT
from services.shopify.stock.levels import PUSH_TOPIC, Level, SkuKey, level_arrays

SETTLE = timedelta(seconds=60)
"""How long after a sale Shopify's own figure and its webhooks may still be on their way."""


class PushCause(NamedTuple):
    """The event that a push goes back to."""

    event_id: int | None = None
    request_id: str = ""


IS_OURS = """(c.stock_owner = 'shopfleet' and l.counted_at is not null
  or l.pool is not null and c.stock_owner = 'pool:' || l.pool)"""
"""Whether the figure of the level ``l``, of a shop with the config ``c``, is ours to push."""

IN_SYNC = """(l.available is not distinct from l.shopify_available
  or l.pool is not null and l.available = 0 and l.shopify_available < 0)"""
"""Whether Shopify holds the figure of the level ``l``. A pool's level below zero counts as zero."""

_DUE = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.sku,
       case when l.pool is null then greatest(l.observed_at, {LAST_MOVEMENT_AT}) end
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
  join shop_config c on c.shop_id = l.shop_id
 where {IS_OURS} and l.disconnected_at is null and (l.doubts > 0 or not {IN_SYNC})
"""  # noqa: S608

# A row that a worker is claiming at this moment is passed over, and one found here stays unclaimed until
# this transaction ends: so the push that is relied on reads the level after this change, never before.
# A row with an intent in its payload asks for an older figure and cannot stand in.
_WAITING = """
select w.shop_id, w.key from work_queue w
 where w.topic = 'inventory_push' and w.shop_id = any(%(shops)s::int[]) and w.status = 'pending'
   and w.locked_at is null and w.retry_count = 0 and not w.payload ? 'quantity'
   and w.key = any(%(key)s::text[])
   for share skip locked
"""


def plan_pushes(
    tx: Connection,
    levels: Collection[Level],
    causes: Mapping[SkuKey, PushCause],
    now: datetime,
    *,
    follow_up: Mapping[str, Any] | None = None,
    not_before: datetime | None = None,
) -> list[NewWork]:
    """Return a push for each of ``levels`` that is ours to push and differs from what Shopify holds.

    Every road to a push leads through here. A push of a count waits until ``SETTLE`` after the last sale or
    observation, as Shopify takes its own orders off its own figure; a pool's goes out at once. None for a
    level whose push waits untouched already: it will read the present figure. ``follow_up`` is the payload of
    a push that goes on where another ended: that one is planned in any case, for ``not_before``. Call after
    the levels are written, in the same transaction.
    """
    if not levels:
        return []
    due = {
        (row[0], f"{row[1]}:{row[2]}"): (Level(*row[:4]), row[4] + SETTLE if row[4] else now)
        for row in tx.exec_driver_sql(_DUE, level_arrays(levels))
    }
    if due and follow_up is None:
        shops, keys = {shop_id for shop_id, _ in due}, [key for _, key in due]
        values = {"shops": int_array(shops), "key": text_array(keys)}
        for row in tx.exec_driver_sql(_WAITING, values):
            due.pop((row[0], row[1]), None)
    return [
        NewWork(
            shop_id=level.shop_id,
            topic=PUSH_TOPIC,
            key=key,
            payload=dict(follow_up or {}),
            event_id=cause.event_id,
            request_id=cause.request_id,
            not_before=not_before if follow_up is not None else settled_at if settled_at > now else None,
        )
        for (_, key), (level, settled_at) in due.items()
        for cause in (causes.get((level.shop_id, level.sku), PushCause()),)
    ]


def push_key(level: Level) -> str:
    """Return the ``work_queue.key`` of a level's pushes, which are worked on one at a time."""
    return f"{level.inventory_item_id}:{level.location_id}"
