"""Which stock levels have to be told to Shopify, each once however often it changes meanwhile."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.arrays import int_array, text_array
from services.ledger.work import NewWork
from services.storefront.levels import Level, Sku, level_arrays

PUSH_TOPIC = "inventory_push"


class Cause(NamedTuple):
    """The event that a push goes back to."""

    event_id: int | None = None
    request_id: str = ""


_DIFFERING = """
select l.shop_id, l.inventory_item_id, l.location_id, l.sku
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
 where l.available is distinct from l.shopify_available
"""

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


def find_differing(tx: Connection, levels: Collection[Level]) -> list[Level]:
    """Return those of ``levels`` whose figure is not what Shopify is known to hold."""
    return [Level(*row) for row in tx.exec_driver_sql(_DIFFERING, level_arrays(levels))]


def plan_pushes(
    tx: Connection,
    levels: Collection[Level],
    causes: Mapping[Sku, Cause],
    *,
    payload: Mapping[str, Any] | None = None,
    not_before: datetime | None = None,
) -> list[NewWork]:
    """Return a push for each of ``levels``, which changed.

    None for a level whose push waits untouched already: it will read the present figure. Whether
    Shopify has to be told at all is the push's to find out. Call after the levels are written, in the
    same transaction.
    """
    due = {(level.shop_id, push_key(level)): level for level in levels}
    if not due:
        return []
    waiting = tx.exec_driver_sql(
        _WAITING,
        {
            "shops": int_array({shop_id for shop_id, _ in due}),
            "key": text_array([key for _, key in due]),
        },
    )
    for row in waiting:
        due.pop((row[0], row[1]), None)
    return [
        NewWork(
            shop_id=level.shop_id,
            topic=PUSH_TOPIC,
            key=key,
            payload=dict(payload or {}),
            event_id=cause.event_id,
            request_id=cause.request_id,
            not_before=not_before,
        )
        for (_, key), level in due.items()
        for cause in (causes.get((level.shop_id, level.sku), Cause()),)
    ]


def push_key(level: Level) -> str:
    """Return the ``work_queue.key`` of a level's pushes, which are worked on one at a time."""
    return f"{level.inventory_item_id}:{level.location_id}"
