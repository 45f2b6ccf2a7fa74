"""Claim: takes ready work in equal shares per shop, so that one shop's backlog does not delay other shops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_copy import fetch_binary
from services.ledger.topics import Topic
from services.ledger.work import WorkItem

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Most bytes of bodies in one claim; further items wait for the next claim."""

SUSPECT_SENDS = 4
"""A row of a transactional topic that was sent this often and never settled may crash its worker: it runs
alone under a lease, whose expiry counts as a failed try."""

_NO_LIMIT = 2**31 - 1

READY = (
    "status in ('pending', 'error') and locked_at is null and coalesce(next_retry_at, created_at) <= %(now)s"
)

# A loose index scan: one probe per shop with ready work, however many rows each shop has. The rotation
# starts after shop ``after``.
_READY_SHOPS = f"""
with recursive ready_shop(shop_id) as (
  (select shop_id from work_queue where topic = %(topic)s and {READY} order by shop_id limit 1)
  union all
  select (select w.shop_id from work_queue w
           where w.topic = %(topic)s and w.shop_id > r.shop_id and {READY} order by w.shop_id limit 1)
    from ready_shop r where r.shop_id is not null
)
select shop_id from ready_shop where shop_id is not null and shop_id <> all(%(held)s::int[])
 order by (shop_id <= %(after)s), shop_id limit %(limit)s
"""  # noqa: S608 - constants only

# One index probe per topic: ``order by`` and ``limit`` keep PostgreSQL from reading the whole queue.
_READY_TOPICS = f"""
select t.topic from unnest(%(topics)s::text[]) as t(topic)
 cross join lateral (
   select from work_queue w where w.topic = t.topic and {READY} order by w.shop_id limit 1) ready
"""  # noqa: S608

# Most payloads are empty; null saves their decoding.
_SOURCE_OF_FIELD = {
    "payload": "nullif(w.payload, '{}')",
    "event_topic": "coalesce(e.topic, '')",
    "event_provider": "coalesce(e.provider, '')",
    "body": "coalesce(e.body, '')",
    "received_at": "e.received_at",
    "occurred_at": "e.occurred_at",
    "ready_at": "case when w.died_at is null then coalesce(w.next_retry_at, w.created_at) end",
}
ITEM_COLUMNS = ", ".join(f"{_SOURCE_OF_FIELD.get(name, f'w.{name}')} as {name}" for name in WorkItem._fields)
"""The columns of ``WorkItem`` in its order, from ``work_queue w`` and ``inbound_events e``."""
_PAYLOAD = WorkItem._fields.index("payload")

_TAKE = f"""
select {ITEM_COLUMNS}
from unnest(%(shops)s::int[], %(shares)s::int[]) as s(shop_id, share)
cross join lateral (
  select * from work_queue
   where topic = %(topic)s and shop_id = s.shop_id and {READY} and dispatch_count between %(low)s and %(high)s
   order by coalesce(next_retry_at, created_at), id limit s.share for update skip locked
) w
left join inbound_events e on e.id = w.event_id
"""  # noqa: S608

_LOCKED_BY_SHOP = """
select shop_id, count(*) as leased from work_queue
 where topic = %(topic)s and status in ('pending', 'error') and locked_at is not null group by shop_id
"""

_TRY_KEYS = """
select key, shop_id from unnest(%(key)s::text[], %(shop_id)s::int[]) as v(key, shop_id)
 where pg_try_advisory_xact_lock(hashtextextended(%(topic)s || ':' || key, shop_id))
"""

# A separate statement, because it must see what was committed before the advisory locks were taken.
_LEASE = """
update work_queue w set locked_at = %(now)s, locked_by = %(token)s, lease_until = %(lease_until)s
 where w.id = any(%(id)s) and (w.key = '' or not exists (
   select from work_queue o where o.topic = w.topic and o.key = w.key and o.shop_id = w.shop_id
      and o.status in ('pending', 'error') and o.locked_at is not null))
returning w.id
"""


BURST_SECONDS = 2.5
"""A drain collects tokens for at most this long: the sweep sends for a draining topic every two seconds."""

_FIND_PAUSES = """
select id, mode, shop_id, rate_per_second, drain_tokens, drained_at from pauses
 where (queue is null or queue = %(queue)s) and (topic is null or topic = %(topic)s)
   and (cost is null or cost = %(cost)s) order by id
"""

_SPEND_TOKENS = "update pauses set drain_tokens = %(tokens)s, drained_at = %(now)s where id = %(id)s"


@dataclass(frozen=True, slots=True)
class Claim:
    """The claimed items, and whether their topic has more ready work."""

    items: list[WorkItem]
    more: bool
    last_shop_id: int = 0
    none_claimable: bool = False
    """Ready rows exist but none could be taken: other workers have locked them, or they are suspects."""


@dataclass(slots=True)
class ActivePauses:
    """The pauses of one topic: ``hold`` and ``refuse`` stop it, a drain limits its rate."""

    all_held: bool = False
    held_shops: set[int] = field(default_factory=set)
    drains: dict[int, float] = field(default_factory=dict)
    """Tokens by pause id."""

    def cap(self, share: int) -> int:
        """Return how many of ``share`` items the slowest drain allows now."""
        return min([share, *map(int, self.drains.values())])

    def spend(self, tx: Connection, count: int, now: datetime) -> None:
        """Take ``count`` tokens from every drain."""
        for pause_id, tokens in self.drains.items():
            tx.exec_driver_sql(
                _SPEND_TOKENS, {"id": pause_id, "tokens": max(tokens - count, 0.0), "now": now}
            )


def find_active_pauses(tx: Connection, topic: Topic, now: datetime) -> ActivePauses:
    """Return the pauses of ``topic``; lock its drains, so that workers share their rate."""
    pauses = ActivePauses()
    values = {"queue": topic.queue, "topic": topic.name, "cost": topic.cost}
    rows = tx.exec_driver_sql(_FIND_PAUSES, values).all()
    if any(row.mode == "drain" for row in rows):
        rows = tx.exec_driver_sql(f"{_FIND_PAUSES} for update", values).all()
    for row in rows:
        if row.mode == "drain":
            rate = row.rate_per_second or 0.0
            elapsed = max((now - (row.drained_at or now)).total_seconds(), 0.0)
            most = max(rate * BURST_SECONDS, 1.0)
            pauses.drains[row.id] = min(row.drain_tokens + elapsed * rate, most)
        elif row.shop_id is None:
            pauses.all_held = True
        else:
            pauses.held_shops.add(row.shop_id)
    return pauses


def make_work_item(row: Sequence[Any]) -> WorkItem:
    """Return the item of a row of ``ITEM_COLUMNS``."""
    return WorkItem._make((*row[:_PAYLOAD], row[_PAYLOAD] or {}, *row[_PAYLOAD + 1 :]))


def list_ready_topics(tx: Connection, topics: Sequence[Topic], now: datetime) -> list[Topic]:
    """Return the ``topics`` with ready work, in order. Paused work counts too."""
    values = {"topics": [topic.name for topic in topics], "now": now}
    ready = set(tx.exec_driver_sql(_READY_TOPICS, values).scalars())
    return [topic for topic in topics if topic.name in ready]


def find_ready_shops(
    tx: Connection, topic: Topic, now: datetime, pauses: ActivePauses, after: int, limit: int
) -> list[int]:
    """Return up to ``limit`` shops with ready work of ``topic`` that is not paused, from ``after`` on."""
    if pauses.all_held:
        return []
    values = {
        "topic": topic.name, "now": now, "after": after, "limit": limit, "held": sorted(pauses.held_shops),
    }  # fmt: skip
    return [int(i) for i in tx.exec_driver_sql(_READY_SHOPS, values).scalars()]


def claim_transactional(tx: Connection, topic: Topic, now: datetime, after: int = 0) -> Claim:
    """Lock ready items of ``topic`` until this transaction ends; no row is changed.

    If the worker dies, its transaction ends and the items are ready again.
    """
    pauses = find_active_pauses(tx, topic, now)
    shops = find_ready_shops(tx, topic, now, pauses, after, topic.batch_size)
    if not shops:
        return Claim([], more=False)
    share = -(-topic.batch_size // len(shops))
    shares = {shop: pauses.cap(share) for shop in shops}
    items, more = _take(tx, topic, now, shares, sends=(0, SUSPECT_SENDS - 1))
    pauses.spend(tx, len(items), now)
    return Claim(items, more, shops[-1], none_claimable=not items)


def claim_leased(
    tx: Connection, topic: Topic, now: datetime, token: str, after: int = 0, *, suspects: bool = False
) -> Claim:
    """Lease ready items of ``topic`` to ``token``, from the caller's commit on.

    At most one item per key, none whose key is already leased, and at most ``shop_cap`` leased items of a
    shop over all workers. ``suspects`` takes one row with ``SUSPECT_SENDS`` messages or more.
    """
    pauses = find_active_pauses(tx, topic, now)
    shops = find_ready_shops(tx, topic, now, pauses, after, topic.batch_size)
    if not shops:
        return Claim([], more=False)
    locked = tx.exec_driver_sql(_LOCKED_BY_SHOP, {"topic": topic.name})
    leased = {row.shop_id: row.leased for row in locked}
    share = 1 if suspects else -(-topic.batch_size // len(shops))
    cap = max(topic.shop_cap, 1)
    shares = {s: n for s in shops if (n := pauses.cap(min(share, cap - leased.get(s, 0)))) > 0}
    if suspects:
        shares = dict(list(shares.items())[:1])
    if not shares:
        return Claim([], more=False)
    candidates, more = _take(tx, topic, now, shares, sends=(SUSPECT_SENDS if suspects else 0, _NO_LIMIT))
    oldest: dict[tuple[int, str], WorkItem] = {}
    # The oldest item of each key: it may have been tried already, and later items depend on it.
    for item in sorted(candidates, key=lambda item: item.id):
        oldest.setdefault((item.shop_id, item.key or f"#{item.id}"), item)
    chosen = _lock_keys(tx, topic, list(oldest.values()))
    if not chosen:
        return Claim([], more=False)
    values = {
        "now": now, "token": token, "lease_until": now + topic.lease, "id": [i.id for i in chosen],
    }  # fmt: skip
    ids = set(tx.exec_driver_sql(_LEASE, values).scalars())
    items = [item for item in chosen if item.id in ids]
    pauses.spend(tx, len(items), now)
    return Claim(items, more and bool(items), shops[-1])


def _take(
    tx: Connection, topic: Topic, now: datetime, shares: dict[int, int], *, sends: tuple[int, int]
) -> tuple[list[WorkItem], bool]:
    """Lock up to ``shares`` ready rows of each shop, skipping locked rows; return them and whether more wait.

    ``sends`` is the range of ``dispatch_count``.
    """
    values = {
        "topic": topic.name, "now": now, "shops": list(shares), "shares": list(shares.values()),
        "low": sends[0], "high": sends[1],
    }  # fmt: skip
    taken: dict[int, int] = {}
    items: list[WorkItem] = []
    body_bytes = 0
    for item in map(make_work_item, fetch_binary(tx, _TAKE, values)):
        taken[item.shop_id] = taken.get(item.shop_id, 0) + 1
        body_bytes += len(item.body)
        if items and body_bytes > MAX_BODY_BYTES:
            return items, True
        items.append(item)
    return items, any(taken.get(shop, 0) >= share for shop, share in shares.items())


def _lock_keys(tx: Connection, topic: Topic, items: list[WorkItem]) -> list[WorkItem]:
    """Lock the keys of ``items`` until the commit; return the items whose key no other claim has locked."""
    keyed = [item for item in items if item.key]
    if not keyed:
        return items
    values = {
        "topic": topic.name, "key": [i.key for i in keyed], "shop_id": [i.shop_id for i in keyed],
    }  # fmt: skip
    free = {(key, shop_id) for key, shop_id in tx.exec_driver_sql(_TRY_KEYS, values)}
    return [item for item in items if not item.key or (item.key, item.shop_id) in free]
