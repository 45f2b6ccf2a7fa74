"""Claim: take ready work, fairly over shops, so that one shop's flood delays no other shop."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_copy import fetch_binary
from services.ledger.pause_filter import find_active_pauses
from services.ledger.ready import READY, find_ready_shops
from services.ledger.topics import Topic
from services.ledger.work import WorkItem

SET_BYTES = 32 * 1024 * 1024
"""A set holds at most this much of bodies at once, whatever its count: memory is bounded."""

SUSPECT_SENDS = 4
"""A row of an own effect sent this often and never settled may be what kills its worker: it is worked
alone, leased. A leased row needs no such care: a lease that runs out counts as a failed try."""

_EVER = 2**31 - 1

# As ``WorkItem`` has them. Few payloads hold anything; an empty one is not worth decoding.
_COLUMNS = """w.id, w.shop_id, w.topic, w.key, nullif(w.payload, '{}'), w.retry_count, w.request_id,
       w.event_id, coalesce(e.topic, ''), coalesce(e.provider, ''), coalesce(e.body, ''), e.received_at,
       w.origin, e.occurred_at"""

_TAKE = f"""
select {_COLUMNS}
from unnest(%(shops)s::int[], %(shares)s::int[]) as s(shop_id, share)
cross join lateral (
  select * from work_queue
   where topic = %(topic)s and shop_id = s.shop_id and {READY} and dispatch_count between %(low)s and %(high)s
   order by coalesce(next_retry_at, created_at), id limit s.share for update skip locked
) w
left join inbound_events e on e.id = w.event_id
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Claim:
    """Items in hand, and whether their topic holds more that is ready."""

    items: list[WorkItem]
    more: bool
    last_shop_id: int = 0
    passed_over: bool = False
    """Ready rows were seen and none could be had: others hold them, or they are suspects."""


def _item(row: Sequence[Any]) -> WorkItem:
    return WorkItem._make((*row[:4], row[4] or {}, *row[5:]))


def _take(
    tx: Connection, topic: Topic, now: datetime, shares: dict[int, int], *, sends: tuple[int, int]
) -> tuple[list[WorkItem], bool]:
    """Lock up to ``shares`` ready rows of each shop. Rows that another worker holds are passed over.

    ``sends`` bounds how often a row may have been sent.
    """
    values = {
        "topic": topic.name, "now": now, "shops": list(shares), "shares": list(shares.values()),
        "low": sends[0], "high": sends[1],
    }  # fmt: skip
    rows = fetch_binary(tx, _TAKE, values)
    taken: dict[int, int] = {}
    items: list[WorkItem] = []
    held_bytes = 0
    for row in rows:
        taken[row[1]] = taken.get(row[1], 0) + 1
        held_bytes += len(row[10])
        if items and held_bytes > SET_BYTES:
            return items, True
        items.append(_item(row))
    return items, any(taken.get(shop, 0) >= share for shop, share in shares.items())


def claim_locked(tx: Connection, topic: Topic, now: datetime, after: int = 0) -> Claim:
    """Ready items of ``topic`` are locked by this transaction until it ends; nobody else sees a change.

    A worker that dies gives them back by dying. Every shop with ready work gets an equal share.
    """
    scope = find_active_pauses(tx, topic, now)
    shops = find_ready_shops(tx, topic, now, scope, after, topic.batch_size)
    if not shops:
        return Claim([], more=False)
    share = -(-topic.batch_size // len(shops))
    items, more = _take(
        tx, topic, now, {shop: scope.cap(share) for shop in shops}, sends=(0, SUSPECT_SENDS - 1)
    )
    scope.spend(tx, len(items), now)
    return Claim(items, more, shops[-1], passed_over=not items)


_LOCKED_BY_SHOP = """
select shop_id, count(*) from work_queue
 where topic = %(topic)s and status in ('pending', 'error') and locked_at is not null group by shop_id
"""

_TRY_KEYS = """
select key, shop_id from unnest(%(key)s::text[], %(shop_id)s::int[]) as v(key, shop_id)
 where pg_try_advisory_xact_lock(hashtextextended(%(topic)s || ':' || key, shop_id))
"""

# A statement of its own, so that it sees what was committed before the advisory locks were got.
_LEASE = """
update work_queue w set locked_at = %(now)s, locked_by = %(token)s, lease_until = %(lease_until)s
 where w.id = any(%(id)s) and (w.key = '' or not exists (
   select from work_queue o where o.topic = w.topic and o.key = w.key and o.shop_id = w.shop_id
      and o.status in ('pending', 'error') and o.locked_at is not null))
returning w.id
"""


def claim_leased(
    tx: Connection, topic: Topic, now: datetime, token: str, after: int = 0, *, suspects: bool = False
) -> Claim:
    """Ready items of ``topic`` are leased to ``token`` once the caller commits.

    One item per key, and none whose key somebody works on; each shop at most ``shop_cap`` in hand over
    all workers. ``suspects`` takes just one row, of those that were sent often and never settled.
    """
    scope = find_active_pauses(tx, topic, now)
    shops = find_ready_shops(tx, topic, now, scope, after, topic.batch_size)
    if not shops:
        return Claim([], more=False)
    locked = {int(r[0]): int(r[1]) for r in tx.exec_driver_sql(_LOCKED_BY_SHOP, {"topic": topic.name})}
    share = 1 if suspects else -(-topic.batch_size // len(shops))
    cap = max(topic.shop_cap, 1)
    shares = {s: n for s in shops if (n := scope.cap(min(share, cap - locked.get(s, 0)))) > 0}
    if suspects:
        shares = dict(list(shares.items())[:1])
    if not shares:
        return Claim([], more=False)
    candidates, more = _take(tx, topic, now, shares, sends=(SUSPECT_SENDS if suspects else 0, _EVER))
    first: dict[tuple[int, str], WorkItem] = {}
    # Of one key the oldest: it may have been tried already, and what came later builds on it.
    for item in sorted(candidates, key=lambda item: item.id):
        first.setdefault((item.shop_id, item.key or f"#{item.id}"), item)
    chosen = _free_of_key(tx, topic, list(first.values()))
    if not chosen:
        return Claim([], more=False)
    values = {
        "now": now, "token": token, "lease_until": now + topic.lease, "id": [i.id for i in chosen],
    }  # fmt: skip
    leased = set(tx.exec_driver_sql(_LEASE, values).scalars())
    items = [item for item in chosen if item.id in leased]
    scope.spend(tx, len(items), now)
    return Claim(items, more and bool(items), shops[-1])


def _free_of_key(tx: Connection, topic: Topic, items: list[WorkItem]) -> list[WorkItem]:
    keyed = [item for item in items if item.key]
    if not keyed:
        return items
    values = {
        "topic": topic.name, "key": [i.key for i in keyed], "shop_id": [i.shop_id for i in keyed],
    }  # fmt: skip
    free = {(r[0], r[1]) for r in tx.exec_driver_sql(_TRY_KEYS, values)}
    return [item for item in items if not item.key or (item.key, item.shop_id) in free]


_WAITS_BEHIND = f"""
select exists (
  select from unnest(%(shop_id)s::int[], %(key)s::text[]) as v(shop_id, key)
    join work_queue w using (shop_id, key) where w.topic = %(topic)s and {READY})
"""  # noqa: S608


def waits_behind(tx: Connection, topic: Topic, items: Sequence[WorkItem], now: datetime) -> bool:
    """Tell whether ready work has the key of one of ``items``, which kept every worker from taking it.

    For a set that was the whole backlog: the query reads what else of these shops is ready.
    """
    keyed = [item for item in items if item.key]
    if not keyed:
        return False
    values = {
        "topic": topic.name, "now": now, "shop_id": [i.shop_id for i in keyed], "key": [i.key for i in keyed],
    }  # fmt: skip
    return bool(tx.exec_driver_sql(_WAITS_BEHIND, values).scalar_one())


_HELD = f"""
select {_COLUMNS}
from work_queue w left join inbound_events e on e.id = w.event_id
where w.id = %(id)s and w.status in ('pending', 'error') and w.locked_by is not distinct from %(token)s
"""  # noqa: S608

_ONE = f"{_HELD} for update of w skip locked"


def find_item(tx: Connection, item_id: int, token: str | None) -> WorkItem | None:
    """Return item ``item_id``, locked by this transaction, or None when it is settled or somebody else's."""
    row = tx.exec_driver_sql(_ONE, {"id": item_id, "token": token}).one_or_none()
    return _item(row) if row else None


_HOLD = """
update work_queue set locked_at = %(now)s, locked_by = %(token)s, lease_until = %(lease_until)s
 where id = any(%(id)s) and status in ('pending', 'error') and locked_at is null returning id
"""


def lease_items(tx: Connection, topic: Topic, ids: Sequence[int], token: str, now: datetime) -> set[int]:
    """Those of ``ids`` that nobody has in hand are leased to ``token`` once the caller commits; return them.

    For whoever plans work and does it himself: no worker takes what is leased at its birth.
    """
    values = {"id": list(ids), "token": token, "now": now, "lease_until": now + topic.lease}
    return {int(i) for i in tx.exec_driver_sql(_HOLD, values).scalars()}


def find_leased(tx: Connection, item_id: int, token: str) -> WorkItem | None:
    """Return item ``item_id`` if ``token`` has it in hand."""
    row = tx.exec_driver_sql(_HELD, {"id": item_id, "token": token}).one_or_none()
    return _item(row) if row else None


_RENEW = """
update work_queue set lease_until = %(until)s where locked_by = %(token)s and locked_at is not null
   and status in ('pending', 'error') and topic = %(topic)s
"""


def renew_lease(tx: Connection, topic: Topic, token: str, now: datetime) -> int:
    """Everything ``token`` has in hand is its own for another ``topic.lease``. Returns how many."""
    values = {"until": now + topic.lease, "token": token, "topic": topic.name}
    return tx.exec_driver_sql(_RENEW, values).rowcount


def put_back(tx: Connection, items: Sequence[WorkItem], token: str) -> None:
    """``items`` are ready again, with no try counted: the worker is leaving and has not begun them."""
    release_items(tx, [item.id for item in items], token)


def release_items(tx: Connection, ids: Iterable[int], token: str) -> None:
    """Those of ``ids`` that ``token`` has in hand are ready again, with no try counted."""
    tx.exec_driver_sql(
        "update work_queue set locked_at = null, locked_by = null, lease_until = null, dispatched_at = null "
        "where id = any(%(id)s) and locked_by = %(token)s",
        {"id": list(ids), "token": token},
    )


_DELAY = """
update work_queue w set next_retry_at = v.due, locked_at = null, locked_by = null, lease_until = null,
       dispatched_at = null
from unnest(%(id)s::bigint[], %(due)s::timestamptz[]) as v(id, due)
where w.id = v.id and w.locked_by = %(token)s
"""


def delay_items(tx: Connection, due: Sequence[tuple[WorkItem, datetime]], token: str) -> None:
    """Each item waits until its time, with no try counted: it had no token of the provider's limit."""
    values = {"id": [item.id for item, _ in due], "due": [at for _, at in due], "token": token}
    tx.exec_driver_sql(_DELAY, values)
