"""SQL of pushes: the levels they are about, earlier calls without an answer, and what Shopify holds."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.work import WorkItem
from services.shopify.stock.level_moves import LAST_MOVEMENT_AT, movements_sql
from services.shopify.stock.levels import LEVELS_BY_KEY, Level, level_arrays, read_key, read_keys, read_row
from services.shopify.stock.push_batch import INTENT, KEY_GOOD_FOR, LOST, LostCall, PlannedPush
from services.shopify.stock.push_plan import IN_SYNC, IS_OURS, SETTLE

IN_DOUBT = "shopify.push_in_doubt"
"""The error code of a push that waits for the answer of another push of its level."""

PushKey = tuple[int, str]
"""(shop, ``work_queue.key``) of a level's pushes."""


class PushLevel(NamedTuple):
    """A level's row as a push reads it.

    ``is_settled``: Shopify's figure was observed at least ``SETTLE`` after the last movement. ``is_located``:
    the location of each movement since the count is known. ``known_at`` and ``doubts`` are of a pool's
    level: see ``services.shopify.stock.pools``.
    """

    level: Level
    available: int
    shopify_available: int | None
    is_ours: bool
    is_in_sync: bool
    is_settled: bool
    is_located: bool
    known_at: datetime | None
    doubts: int


_FIND_LEVELS = f"""
select v.key, l.shop_id, l.inventory_item_id, l.location_id, l.sku, l.available, l.shopify_available,
       {IS_OURS} as is_ours, {IN_SYNC} and l.doubts = 0 as is_in_sync,
       coalesce(l.observed_at >= {LAST_MOVEMENT_AT} + %(settle)s, true) as is_settled,
       1 = (select count(*) from inventory_levels o where o.shop_id = l.shop_id
               and o.inventory_item_id = l.inventory_item_id and o.disconnected_at is null)
       or not exists (select from {movements_sql("l", "l.counted_at")} m where m.location_id is null)
       as is_located, l.known_at, l.doubts
  from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
  join inventory_levels l on l.shop_id = v.shop_id
       and l.inventory_item_id = split_part(v.key, ':', 1)::bigint
       and l.location_id = split_part(v.key, ':', 2)::bigint
  left join shop_config c on c.shop_id = l.shop_id
 where l.disconnected_at is null
"""  # noqa: S608

# A call without an answer that will be sent again holds back other pushes of its level. One that was given up
# may still arrive while its key is valid. It moves no pool, so a pool's level has to know of it until the
# level is read.
_FIND_UNANSWERED = """
with wanted as (
  select * from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
)
select o.shop_id, o.key, true as is_waiting, (o.payload->>'quantity')::int as quantity,
       (o.payload->>'change_from_quantity')::int as change_from, o.id
  from wanted v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('pending', 'error') and o.locked_at is null and o.payload ? 'quantity'
 union
select o.shop_id, o.key, false, (o.payload->>'quantity')::int, (o.payload->>'change_from_quantity')::int, o.id
  from wanted v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('dead', 'discarded') and o.payload ? 'quantity'
   and (o.finished_at > %(since)s
        or exists (select from inventory_levels l
                    where l.shop_id = o.shop_id and l.inventory_item_id = split_part(o.key, ':', 1)::bigint
                      and l.location_id = split_part(o.key, ':', 2)::bigint and l.pool is not null))
 union
select o.shop_id, o.key, false, (o.payload->'lost'->>'quantity')::int,
       (o.payload->'lost'->>'change_from_quantity')::int, o.id
  from wanted v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('pending', 'error', 'dead', 'discarded') and o.payload ? 'lost'
 order by 1, 2, 3, 6
"""

# A webhook that arrived during the call has a newer figure than the call's answer: then nothing is written.
_LEARN = """
update inventory_levels l set shopify_available = v.available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(available)s::int[],
              %(known)s::int[]) as v(shop_id, item, location, available, known)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
   and l.shopify_available is not distinct from v.known
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_FIND_FIGURES = f"""
select l.shop_id, l.inventory_item_id, l.location_id, l.shopify_available {LEVELS_BY_KEY}
"""

_FORGET = "update work_queue set payload = payload - %(names)s::text[] where id = any(%(id)s::bigint[])"

# A row that a worker is claiming now finds the answer itself.
_RELEASE = """
update work_queue set next_retry_at = %(now)s where id in (
  select w.id from work_queue w
    join unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) using (shop_id, key)
   where w.topic = 'inventory_push' and w.status in ('pending', 'error') and w.locked_at is null
     and w.error_code = %(code)s and w.next_retry_at > %(now)s
     for update of w skip locked)
"""


def find_push_levels(tx: Connection, items: Sequence[WorkItem]) -> dict[PushKey, PushLevel]:
    """Return the stocked levels that ``items`` push."""
    rows = tx.exec_driver_sql(_FIND_LEVELS, _key_arrays(items) | {"settle": SETTLE})
    return {(row.shop_id, row.key): read_row(PushLevel, row) for row in rows}


def find_unanswered_pushes(
    tx: Connection, items: Sequence[WorkItem], now: datetime
) -> tuple[set[PushKey], dict[PushKey, LostCall]]:
    """Return the levels of ``items`` with a push that waits to be sent again, and those given up.

    Where several were given up, the last one states the figures.
    """
    if not items:
        return set(), {}
    waiting: set[PushKey] = set()
    given_up: dict[PushKey, LostCall] = {}
    for row in tx.exec_driver_sql(_FIND_UNANSWERED, _key_arrays(items) | {"since": now - KEY_GOOD_FOR}):
        key = (row.shop_id, row.key)
        if row.is_waiting:
            waiting.add(key)
        else:
            earlier = given_up[key].given_up if key in given_up else ()
            given_up[key] = LostCall(row.quantity, row.change_from, (*earlier, row.id))
    return waiting, given_up


def find_shopify_figures(tx: Connection, levels: Collection[Level]) -> dict[Level, int | None]:
    """Return what Shopify is known to hold of each level."""
    by_key = {level.key: level for level in levels}
    rows = tx.exec_driver_sql(_FIND_FIGURES, level_arrays(levels))
    return {by_key[read_key(row)]: row.shopify_available for row in rows}


def record_shopify_figures(tx: Connection, figures: Sequence[tuple[PlannedPush, int]]) -> set[Level]:
    """Record what Shopify holds of each push's level; return the levels that were written."""
    if not figures:
        return set()
    by_key = {push.level.key: push.level for push, _ in figures}
    values = level_arrays([push.level for push, _ in figures]) | {
        "available": int_array(available for _, available in figures),
        "known": int_array(push.known for push, _ in figures),
    }
    return {by_key[key] for key in read_keys(tx.exec_driver_sql(_LEARN, values))}


def forget_calls(tx: Connection, ids: Collection[int], *, with_lost: bool = False) -> None:
    """Delete the call from the payloads of these items: it did not happen, or its level was read.

    ``with_lost``: delete the lost call of an earlier item too.
    """
    names = [*INTENT, LOST] if with_lost else list(INTENT)
    tx.exec_driver_sql(_FORGET, {"names": names, "id": int_array(ids)})


def release_waiting(tx: Connection, pushes: Collection[PlannedPush], now: datetime) -> None:
    """Make the pushes due that wait for the answer of one of ``pushes``."""
    values = _key_arrays([push.item for push in pushes])
    tx.exec_driver_sql(_RELEASE, values | {"code": IN_DOUBT, "now": now})


def _key_arrays(items: Sequence[WorkItem]) -> dict[str, object]:
    return {
        "shop_id": int_array(item.shop_id for item in items),
        "key": text_array([item.key for item in items]),
    }
