"""What a push writes beside its own outcome: what Shopify holds, and which other pushes need not wait."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.shopify.stock.levels import Level, level_arrays
from services.shopify.stock.push_batch import INTENT, LOST, PlannedPush

IN_DOUBT = "shopify.push_in_doubt"
"""The code of a push that waits for the answer of another push of its level."""

# A webhook that came during the call knows better than the call's own answer: then nothing is written.
_LEARN = """
update inventory_levels l set shopify_available = v.available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(available)s::int[],
              %(known)s::int[]) as v(shop_id, item, location, available, known)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
   and l.shopify_available is not distinct from v.known
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_FIND_HELD = """
select l.shop_id, l.inventory_item_id, l.location_id, l.shopify_available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[]) as v(shop_id, item, location)
  join inventory_levels l on l.shop_id = v.shop_id and l.inventory_item_id = v.item
                         and l.location_id = v.location
"""

_FORGET = """
update work_queue set payload = payload - %(names)s::text[] where id = any(%(id)s::bigint[])
"""

# They waited for the answer. A row that a worker is claiming now finds the answer itself.
_RELEASE = """
update work_queue set next_retry_at = %(now)s where id in (
  select w.id from work_queue w
    join unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) using (shop_id, key)
   where w.topic = 'inventory_push' and w.status in ('pending', 'error') and w.locked_at is null
     and w.error_code = %(code)s and w.next_retry_at > %(now)s
     for update of w skip locked)
"""


def find_held(tx: Connection, levels: Collection[Level]) -> dict[Level, int | None]:
    by_key = {level[:3]: level for level in levels}
    rows = tx.exec_driver_sql(_FIND_HELD, level_arrays(levels))
    return {by_key[row[0], row[1], row[2]]: row[3] for row in rows}


def record_held(tx: Connection, held: Sequence[tuple[PlannedPush, int]]) -> set[Level]:
    """Shopify holds the figures beside ``held``; return the levels where that was written."""
    if not held:
        return set()
    by_key = {ask.level[:3]: ask.level for ask, _ in held}
    values = level_arrays([ask.level for ask, _ in held]) | {
        "available": int_array(available for _, available in held),
        "known": int_array(ask.known for ask, _ in held),
    }
    return {by_key[row[0], row[1], row[2]] for row in tx.exec_driver_sql(_LEARN, values)}


def forget_asked(tx: Connection, ids: Collection[int], *, is_read: bool = False) -> None:
    """These items ask anew: what they asked is known not to have happened, or was looked at.

    ``is_read``: so was what earlier items asked for the level.
    """
    names = [*INTENT, LOST] if is_read else list(INTENT)
    tx.exec_driver_sql(_FORGET, {"names": names, "id": int_array(ids)})


def release_waiting(tx: Connection, asks: Collection[PlannedPush], now: datetime) -> None:
    """Pushes that wait for the answer of one of ``asks`` are due now."""
    values = {
        "shop_id": int_array(ask.item.shop_id for ask in asks),
        "key": text_array([ask.item.key for ask in asks]),
    }
    tx.exec_driver_sql(_RELEASE, values | {"code": IN_DOUBT, "now": now})
