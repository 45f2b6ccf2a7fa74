"""SQL of pushes: their levels, earlier calls without an answer, and Shopify's figures."""

from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays, int_array
from services.ledger.work import WorkItem
from services.shopify.stock.levels import LevelKey, level_arrays
from services.shopify.stock.movement_levels import LAST_MOVEMENT_AT, movements_sql
from services.shopify.stock.push_call import KEY_TTL, CallMember, PushCall
from services.shopify.stock.push_item import CALL_KEYS, LOST, LevelPush, LostCall
from services.shopify.stock.push_plan import IN_SYNC, IS_OURS, SETTLE_TIME

IN_DOUBT = "shopify.push_in_doubt"
"""The error code of a push that waits until another push of its level has an answer."""

PushKey = tuple[int, str]
"""(shop, ``work_queue.key``) of a level's pushes."""


# ``is_settled``: Shopify's figure was observed at least ``SETTLE_TIME`` after the last movement.
# ``is_located``: the location of each movement since the count is known.
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

# A call without an answer that will be sent again delays other pushes of its level. A call that was given up
# may still have an effect while its key is valid; for a pool's level, until the level is read.
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

_FIND_MEMBERS = """
select b.leader, w.id, w.key, (w.payload->>'quantity')::int as quantity,
       (w.payload->>'change_from_quantity')::int as change_from,
       coalesce(w.status in ('pending', 'error', 'done') and w.payload->'batch' = to_jsonb(b.leader)
                and w.payload->'asked_at' = l.payload->'asked_at', false) as is_unchanged
  from unnest(%(leader)s::bigint[]) as b(leader)
  join work_queue l on l.id = b.leader
 cross join lateral jsonb_array_elements_text(l.payload->'members') with ordinality as m(id, place)
  left join work_queue w on w.id = m.id::bigint and w.shop_id = l.shop_id and w.topic = l.topic
 order by b.leader, m.place
"""

# If a webhook changed the figure during the call, nothing is written: it is newer than the call's answer.
_UPDATE_FIGURES = """
update inventory_levels l set shopify_available = v.available
  from unnest(%(shop_id)s::int[], %(item)s::bigint[], %(location)s::bigint[], %(available)s::int[],
              %(known)s::int[]) as v(shop_id, item, location, available, known)
 where l.shop_id = v.shop_id and l.inventory_item_id = v.item and l.location_id = v.location
   and l.shopify_available is not distinct from v.known
returning l.shop_id, l.inventory_item_id, l.location_id
"""

_DELETE_CALLS = "update work_queue set payload = payload - %(names)s::text[] where id = any(%(id)s::bigint[])"

# Skips rows that a worker is claiming: that worker reads the answer.
_RELEASE = """
update work_queue set next_retry_at = %(now)s where id in (
  select w.id from work_queue w
    join unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key) using (shop_id, key)
   where w.topic = 'inventory_push' and w.status in ('pending', 'error') and w.locked_at is null
     and w.error_code = %(code)s and w.next_retry_at > %(now)s
     for update of w skip locked)
"""


def find_push_levels(tx: Connection, items: Sequence[WorkItem]) -> dict[PushKey, Row[Any]]:
    rows = tx.exec_driver_sql(_FIND_LEVELS, _key_arrays(items) | {"settle": SETTLE_TIME})
    return {(row.shop_id, row.key): row for row in rows}


def find_unanswered_pushes(
    tx: Connection, items: Sequence[WorkItem], now: datetime
) -> tuple[set[PushKey], dict[PushKey, LostCall]]:
    """Return the levels of ``items`` whose unanswered push will be sent again, and the calls given up.

    If several were given up, the figures are those of the last one.
    """
    if not items:
        return set(), {}
    waiting: set[PushKey] = set()
    given_up: dict[PushKey, LostCall] = {}
    for row in tx.exec_driver_sql(_FIND_UNANSWERED, _key_arrays(items) | {"since": now - KEY_TTL}):
        key = (row.shop_id, row.key)
        if row.is_waiting:
            waiting.add(key)
        else:
            earlier = given_up[key].given_up if key in given_up else ()
            given_up[key] = LostCall(row.quantity, row.change_from, (*earlier, row.id))
    return waiting, given_up


def list_calls(tx: Connection, pushes: Sequence[LevelPush], now: datetime) -> list[PushCall]:
    """Return the earlier calls of ``pushes`` with their original input.

    A call has no members if one of its items is missing, dead, discarded or in a newer call, or if the key is
    older than ``KEY_TTL``.
    """
    if not pushes:
        return []
    payloads = [push.item.payload for push in pushes]
    leaders = sorted({int(payload["batch"]) for payload in payloads if "batch" in payload})
    stored: dict[int, list[Row[Any]]] = {}
    for row in tx.exec_driver_sql(_FIND_MEMBERS, {"leader": int_array(leaders)}):
        stored.setdefault(row.leader, []).append(row)
    calls: list[PushCall] = []
    for (shop_id, leader, requested_at), group in groupby(sorted(pushes, key=_call_of), key=_call_of):
        part, rows = list(group), stored.get(leader, [])
        is_complete = {push.item.id for push in part} <= {row.id for row in rows}
        is_valid = bool(requested_at) and now - datetime.fromisoformat(requested_at) < KEY_TTL
        members = []
        if is_complete and is_valid and all(row.is_unchanged for row in rows):
            members = [CallMember(row.id, row.key, row.quantity, row.change_from) for row in rows]
        calls.append(PushCall(shop_id=shop_id, requested_at=requested_at, members=members, pushes=part))
    return calls


def record_shopify_figures(tx: Connection, pushes: Collection[LevelPush]) -> set[LevelKey]:
    """Record Shopify's figure of each push's level; return the levels that were written."""
    if not pushes:
        return set()
    values = level_arrays([push.level for push in pushes])
    values |= arrays("available known", [(push.available, push.known) for push in pushes])
    return LevelKey.from_rows(tx.exec_driver_sql(_UPDATE_FIGURES, values))


def delete_calls(tx: Connection, ids: Collection[int], *, with_lost: bool = False) -> None:
    """Delete the call from the payloads of these items: it did not happen, or its level was read.

    ``with_lost``: also delete the lost call of an earlier item.
    """
    names = [*CALL_KEYS, LOST] if with_lost else list(CALL_KEYS)
    tx.exec_driver_sql(_DELETE_CALLS, {"names": names, "id": int_array(ids)})


def release_waiting(tx: Connection, pushes: Collection[LevelPush], now: datetime) -> None:
    """Make the pushes ready that wait for the answer of one of ``pushes``."""
    values = _key_arrays([push.item for push in pushes])
    tx.exec_driver_sql(_RELEASE, values | {"code": IN_DOUBT, "now": now})


def _key_arrays(items: Sequence[WorkItem]) -> dict[str, str]:
    return arrays("shop_id key", [(item.shop_id, item.key) for item in items])


def _call_of(push: LevelPush) -> tuple[int, int, str]:
    payload = push.item.payload
    return push.item.shop_id, int(payload.get("batch", 0)), str(payload.get("asked_at", ""))
