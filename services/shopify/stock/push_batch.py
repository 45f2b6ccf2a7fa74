"""Which levels one call sets and to what: stored with the work items, so that a retry asks for the same.

An idempotency key is valid for exactly the input that it was first used with. The items of one call may come
back in parts (claims are shared between shops, and a person may discard an item). So a retry reads the input
from all items of the call, not from those in hand.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row

from services.core.pg_arrays import int_array
from services.ledger.work import WorkItem
from services.shopify.stock.levels import Level

NAMESPACE = UUID("7b6c2a0e-5d0f-4f53-9a55-0d1c5f4f6a11")
"""Idempotency keys are UUIDs in this namespace of the items of a call, their figures and its time."""

BATCH_ITEMS = 250
"""Most quantities in one call. Source: Shopify's limit on input arrays."""

KEY_GOOD_FOR = timedelta(hours=1)
"""How long a key is relied on. Shopify does not document how long it keeps them."""

INTENT = ("batch", "asked_at", "members", "quantity", "change_from_quantity")
"""The keys in a payload of a call that may have been sent."""

LOST = "lost"
"""The key in a payload of an earlier push's call whose outcome is unknown: its quantity and the one it
replaced."""

_MEMBERS = """
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


class BatchMember(NamedTuple):
    """One level of a call, as it was requested."""

    id: int
    key: str
    quantity: int
    change_from: int | None


class LostCall(NamedTuple):
    """A call without an answer: it may have set a level from ``change_from`` to ``quantity``.

    ``given_up`` are the ids of the items that sent it and are not tried again.
    """

    quantity: int
    change_from: int | None
    given_up: tuple[int, ...] = ()


class PlannedPush(NamedTuple):
    """A work item and what its call requests.

    ``known``, ``known_at`` and ``doubts`` are the level's ``shopify_available``, ``known_at`` and ``doubts``
    at planning; ``lost_call`` is an earlier item's call.
    """

    item: WorkItem
    level: Level
    quantity: int
    change_from: int | None
    known: int | None
    known_at: datetime | None = None
    doubts: int = 0
    lost_call: LostCall | None = None


class PushBatch(NamedTuple):
    """One call: all levels that it sets, and the pushes in hand.

    ``members`` is empty where the call's input cannot be repeated, or nothing is to be set: then the levels
    are read. ``is_fresh``: the call was never sent.
    """

    shop_id: int
    asked_at: str
    members: Sequence[BatchMember]
    pushes: Sequence[PlannedPush]
    is_fresh: bool

    @property
    def items(self) -> list[WorkItem]:
        """The items in hand."""
        return [push.item for push in self.pushes]

    @property
    def payloads(self) -> list[dict[str, Any] | None]:
        """The payloads to store before the call, one per item; None where it is stored already."""
        if not self.is_fresh:
            return [None] * len(self.pushes)
        leader = self.pushes[0].item.id
        ids = [member.id for member in self.members]
        return [
            push.item.payload
            | {
                "batch": leader,
                "asked_at": self.asked_at,
                "quantity": push.quantity,
                "change_from_quantity": push.change_from,
            }
            | ({"members": ids} if push.item.id == leader else {})
            for push in self.pushes
        ]


def may_have_been_sent(item: WorkItem) -> bool:
    """Whether a call for ``item`` may have been sent already."""
    return "quantity" in item.payload


def plan_batches(pushes: Sequence[PlannedPush], now: datetime) -> list[PushBatch]:
    """Return fresh calls for ``pushes``: per shop, up to ``BATCH_ITEMS`` each, in the order of keys. Pure."""
    batches: list[PushBatch] = []
    for shop_id, group in _by_shop(pushes):
        for start in range(0, len(group), BATCH_ITEMS):
            part = group[start : start + BATCH_ITEMS]
            members = [BatchMember(p.item.id, p.item.key, p.quantity, p.change_from) for p in part]
            batches.append(PushBatch(shop_id, now.isoformat(), members, part, is_fresh=True))
    return batches


def plan_reads(pushes: Sequence[PlannedPush]) -> list[PushBatch]:
    """Return, per shop, a batch that only reads the levels: Shopify's figures are not known. Pure."""
    return [PushBatch(shop_id, "", [], group, is_fresh=False) for shop_id, group in _by_shop(pushes)]


def find_batches(tx: Connection, pushes: Sequence[PlannedPush], now: datetime) -> list[PushBatch]:
    """Return the earlier calls of ``pushes`` with their original input.

    A batch has no members where an item of the call is missing, dead or discarded, where it has another call
    since, or where the key is older than ``KEY_GOOD_FOR``.
    """
    if not pushes:
        return []
    payloads = [push.item.payload for push in pushes]
    leaders = sorted({int(payload["batch"]) for payload in payloads if "batch" in payload})
    stored: dict[int, list[Row[Any]]] = {}
    for row in tx.exec_driver_sql(_MEMBERS, {"leader": int_array(leaders)}):
        stored.setdefault(row.leader, []).append(row)
    batches: list[PushBatch] = []
    for (shop_id, leader, asked_at), group in groupby(sorted(pushes, key=_batch_of), key=_batch_of):
        part, rows = list(group), stored.get(leader, [])
        is_whole = {push.item.id for push in part} <= {row.id for row in rows}
        is_good = bool(asked_at) and now - datetime.fromisoformat(asked_at) < KEY_GOOD_FOR
        members = []
        if is_whole and is_good and all(row.is_unchanged for row in rows):
            members = [BatchMember(row.id, row.key, row.quantity, row.change_from) for row in rows]
        batches.append(PushBatch(shop_id, asked_at, members, part, is_fresh=False))
    return batches


def make_key(asked_at: str, members: Sequence[BatchMember]) -> UUID:
    """Return the idempotency key for a call that sets ``members``: the same at every retry.

    After a refusal the call for the other members has another key.
    """
    content = ",".join(f"{m.id}={m.quantity}<{m.change_from}" for m in members)
    return uuid5(NAMESPACE, f"inventory_push:{asked_at}:{content}")


def _by_shop(pushes: Sequence[PlannedPush]) -> list[tuple[int, list[PlannedPush]]]:
    ordered = sorted(pushes, key=lambda push: (push.item.shop_id, push.item.key))
    return [(shop_id, list(group)) for shop_id, group in groupby(ordered, lambda push: push.item.shop_id)]


def _batch_of(push: PlannedPush) -> tuple[int, int, str]:
    payload = push.item.payload
    return push.item.shop_id, int(payload.get("batch", 0)), str(payload.get("asked_at", ""))
