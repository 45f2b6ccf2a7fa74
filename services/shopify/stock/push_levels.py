"""What is known of the levels that pushes are about, and which other pushes of them have no answer yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_arrays import int_array, text_array
from services.ledger.work import WorkItem
from services.shopify.stock.level_moves import LAST_MOVEMENT_AT, movements_sql
from services.shopify.stock.levels import Level
from services.shopify.stock.push_batch import KEY_GOOD_FOR, LostCall
from services.shopify.stock.push_plan import IN_SYNC, IS_OURS, SETTLE


class PushLevel(NamedTuple):
    """A level as its row has it. ``is_settled``: Shopify was observed long enough after the last movement.

    ``is_placed``: the location of each movement since the count is known. ``known_at`` and ``doubts`` are
    of a pool's level: see ``services.shopify.stock.pools``.
    """

    level: Level
    available: int
    known: int | None
    is_ours: bool
    is_in_sync: bool
    is_settled: bool
    is_placed: bool
    known_at: datetime | None
    doubts: int


_FIND_LEVELS = f"""
select v.shop_id, v.key, l.inventory_item_id, l.location_id, l.sku, l.available, l.shopify_available,
       {IS_OURS}, {IN_SYNC} and l.doubts = 0,
       coalesce(l.observed_at >= {LAST_MOVEMENT_AT} + %(settle)s, true),
       1 = (select count(*) from inventory_levels o where o.shop_id = l.shop_id
               and o.inventory_item_id = l.inventory_item_id and o.disconnected_at is null)
       or not exists (select from {movements_sql("l", "l.counted_at")} m where m.location_id is null),
       l.known_at, l.doubts
  from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
  join inventory_levels l on l.shop_id = v.shop_id
       and l.inventory_item_id = split_part(v.key, ':', 1)::bigint
       and l.location_id = split_part(v.key, ':', 2)::bigint
  left join shop_config c on c.shop_id = l.shop_id
 where l.disconnected_at is null
"""  # noqa: S608

# A call whose answer was lost and that will be sent again holds the level; one that a person or the ledger
# gave up may still arrive for as long as its key is good. It moves no pool, so a pool has to know of it for
# as long as the level was not read.
_FIND_DOUBTFUL = """
with mine as (
  select * from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
)
select o.shop_id, o.key, true, (o.payload->>'quantity')::int, (o.payload->>'change_from_quantity')::int, o.id
  from mine v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('pending', 'error') and o.locked_at is null and o.payload ? 'quantity'
 union
select o.shop_id, o.key, false, (o.payload->>'quantity')::int, (o.payload->>'change_from_quantity')::int, o.id
  from mine v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('dead', 'discarded') and o.payload ? 'quantity'
   and (o.finished_at > %(since)s
        or exists (select from inventory_levels l
                    where l.shop_id = o.shop_id and l.inventory_item_id = split_part(o.key, ':', 1)::bigint
                      and l.location_id = split_part(o.key, ':', 2)::bigint and l.pool is not null))
 union
select o.shop_id, o.key, false, (o.payload->'lost'->>'quantity')::int,
       (o.payload->'lost'->>'change_from_quantity')::int, o.id
  from mine v
  join work_queue o on o.topic = 'inventory_push' and o.shop_id = v.shop_id and o.key = v.key
 where o.status in ('pending', 'error', 'dead', 'discarded') and o.payload ? 'lost'
 order by 1, 2, 3, 6
"""


def find_push_levels(tx: Connection, items: Sequence[WorkItem]) -> dict[tuple[int, str], PushLevel]:
    rows = tx.exec_driver_sql(
        _FIND_LEVELS,
        {
            "shop_id": int_array(item.shop_id for item in items),
            "key": text_array([item.key for item in items]),
            "settle": SETTLE,
        },
    )
    return {(r[0], r[1]): PushLevel(Level(r[0], r[2], r[3], r[4]), *r[5:]) for r in rows}


def find_unanswered_pushes(
    tx: Connection, items: Sequence[WorkItem], now: datetime
) -> tuple[set[tuple[int, str]], dict[tuple[int, str], LostCall]]:
    """Return the (shop, key) of which another push waits to be sent again, and of which it was given up.

    Of several that were given up the last tells what was asked.
    """
    if not items:
        return set(), {}
    values = {
        "shop_id": int_array(item.shop_id for item in items),
        "key": text_array([item.key for item in items]),
        "since": now - KEY_GOOD_FOR,
    }
    waiting: set[tuple[int, str]] = set()
    given_up: dict[tuple[int, str], LostCall] = {}
    for shop_id, key, is_waiting, quantity, change_from, number in tx.exec_driver_sql(_FIND_DOUBTFUL, values):
        if is_waiting:
            waiting.add((shop_id, key))
        else:
            before = given_up[shop_id, key].given_up if (shop_id, key) in given_up else ()
            given_up[shop_id, key] = LostCall(quantity, change_from, (*before, number))
    return waiting, given_up
