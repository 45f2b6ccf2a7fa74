"""Which levels one call sets, and what it asks of each: stored with the items, so a later try asks the same.

An idempotency key holds for exactly what it was first used with. Items of one call may come back in parts
(claims are shared out over shops, and a person may discard one), so what was asked is never pieced together
from the items in hand: it is read again from all that were in the call.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import Connection

from services.core.pg_arrays import int_array
from services.ledger.work import WorkItem
from services.shopify.stock.levels import Level

NAMESPACE = UUID("7b6c2a0e-5d0f-4f53-9a55-0d1c5f4f6a11")
"""Idempotency keys are UUIDs made under this name of the items asked together, of what, and of when."""

BATCH_ITEMS = 250
"""Quantities that one call of Shopify's takes."""

KEY_GOOD_FOR = timedelta(hours=1)
"""How long a key is relied on. Shopify does not say how long it keeps them."""

INTENT = ("batch", "asked_at", "members", "quantity", "change_from_quantity")
"""What a payload holds of a call that may have gone out."""

LOST = "lost"
"""In a payload: the quantity and the one it replaced of an earlier push's call, of which nobody can tell yet
what became of it."""

Terms = tuple[int, int | None]
"""The quantity asked for, and the one it should replace."""

_MEMBERS = """
select b.leader, w.id, w.key, (w.payload->>'quantity')::int, (w.payload->>'change_from_quantity')::int,
       coalesce(w.status in ('pending', 'error', 'done') and w.payload->'batch' = to_jsonb(b.leader)
                and w.payload->'asked_at' = l.payload->'asked_at', false)
  from unnest(%(leader)s::bigint[]) as b(leader)
  join work_queue l on l.id = b.leader
 cross join lateral jsonb_array_elements_text(l.payload->'members') with ordinality as m(id, place)
  left join work_queue w on w.id = m.id::bigint and w.shop_id = l.shop_id and w.topic = l.topic
 order by b.leader, m.place
"""


class BatchMember(NamedTuple):
    """One level's part of a call, as it was asked."""

    id: int
    key: str
    quantity: int
    change_from: int | None


class LostCall(NamedTuple):
    """A call that may have set a level from ``change_from`` to ``quantity``: nobody knows whether it did.

    ``given_up`` are the items that say so, where no try of theirs follows.
    """

    quantity: int
    change_from: int | None
    given_up: tuple[int, ...] = ()


class PlannedPush(NamedTuple):
    """An item in hand and what is asked for it. ``known`` is what Shopify was known to hold by then.

    ``known_at`` is since when, and ``doubts`` how many there were, where the level is a pool's. ``doubt`` is
    what an earlier item may have done.
    """

    item: WorkItem
    level: Level
    quantity: int
    change_from: int | None
    known: int | None
    known_at: datetime | None = None
    doubts: int = 0
    doubt: LostCall | None = None


class PushBatch(NamedTuple):
    """One call: all it asks for, and those of its items that are in hand.

    ``members`` is empty where nobody can tell any more what was asked under its key: then the shop is
    looked at first. ``is_fresh`` says that it never went out.
    """

    shop_id: int
    asked_at: str
    members: Sequence[BatchMember]
    asks: Sequence[PlannedPush]
    is_fresh: bool

    @property
    def items(self) -> list[WorkItem]:
        """The items in hand."""
        return [ask.item for ask in self.asks]

    @property
    def payloads(self) -> list[dict[str, Any] | None]:
        """What to store with each item before the call; nothing where it is stored already."""
        if not self.is_fresh:
            return [None] * len(self.asks)
        leader = self.asks[0].item.id
        ids = [member.id for member in self.members]
        return [
            ask.item.payload
            | {
                "batch": leader,
                "asked_at": self.asked_at,
                "quantity": ask.quantity,
                "change_from_quantity": ask.change_from,
            }
            | ({"members": ids} if ask.item.id == leader else {})
            for ask in self.asks
        ]


def may_have_been_sent(item: WorkItem) -> bool:
    """Tell whether a call for ``item`` may have gone out already."""
    return "quantity" in item.payload


def plan_batches(asks: Sequence[PlannedPush], now: datetime) -> list[PushBatch]:
    """Return fresh calls for ``asks``: by shop, up to ``BATCH_ITEMS`` each, in the order of keys. Pure."""
    batches: list[PushBatch] = []
    ordered = sorted(asks, key=lambda ask: (ask.item.shop_id, ask.item.key))
    for shop_id, group in groupby(ordered, key=lambda ask: ask.item.shop_id):
        mine = list(group)
        for start in range(0, len(mine), BATCH_ITEMS):
            part = mine[start : start + BATCH_ITEMS]
            members = [BatchMember(ask.item.id, ask.item.key, ask.quantity, ask.change_from) for ask in part]
            batches.append(PushBatch(shop_id, now.isoformat(), members, part, is_fresh=True))
    return batches


def plan_reads(asks: Sequence[PlannedPush]) -> list[PushBatch]:
    """Return one reading of the levels of ``asks`` per shop: no figure is known that a call may replace."""
    ordered = sorted(asks, key=lambda ask: (ask.item.shop_id, ask.item.key))
    return [
        PushBatch(shop_id, "", [], list(group), is_fresh=False)
        for shop_id, group in groupby(ordered, key=lambda ask: ask.item.shop_id)
    ]


def find_batches(tx: Connection, asks: Sequence[PlannedPush], now: datetime) -> list[PushBatch]:
    """Return the calls that ``asks`` were part of, each as it was asked, with those of its items in hand.

    Without members: where an item of the call is gone, dead or discarded, where it has been asked anew
    since, or where the key is too old to be relied on.
    """
    if not asks:
        return []
    payloads = [ask.item.payload for ask in asks]
    leaders = sorted({int(payload["batch"]) for payload in payloads if "batch" in payload})
    told: dict[int, list[Any]] = {}
    for row in tx.exec_driver_sql(_MEMBERS, {"leader": int_array(leaders)}):
        told.setdefault(row[0], []).append(row)
    batches: list[PushBatch] = []
    ordered = sorted(asks, key=_batch_of)
    for (shop_id, leader, asked_at), group in groupby(ordered, key=_batch_of):
        mine, rows = list(group), told.get(leader, [])
        is_whole = {ask.item.id for ask in mine} <= {row[1] for row in rows} and all(row[5] for row in rows)
        is_good = bool(asked_at) and now - datetime.fromisoformat(asked_at) < KEY_GOOD_FOR
        members = [BatchMember(*row[1:5]) for row in rows] if is_whole and is_good else []
        batches.append(PushBatch(shop_id, asked_at, members, mine, is_fresh=False))
    return batches


def make_key(asked_at: str, members: Sequence[BatchMember]) -> UUID:
    """Return the idempotency key for asking ``members`` together: the same at every try.

    After a refusal the rest goes out again: fewer members, and so another key.
    """
    asked = ",".join(f"{m.id}={m.quantity}<{m.change_from}" for m in members)
    return uuid5(NAMESPACE, f"inventory_push:{asked_at}:{asked}")


def _batch_of(ask: PlannedPush) -> tuple[int, int, str]:
    payload = ask.item.payload
    return ask.item.shop_id, int(payload.get("batch", 0)), str(payload.get("asked_at", ""))
