"""What a call about stock taught us, written down when its items settle: once a call, not once a level."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.chain import Entry
from services.core.locks import lock_objects
from services.ledger.limits import block_bucket, record_throttle
from services.ledger.topics import TOPICS
from services.ledger.work import FollowUp, NewWork, WorkItem
from services.providers.shopify_answers import ThrottleStatus
from services.shopify.merge import EPOCH
from services.shopify.stock.audit_text import describe_push
from services.shopify.stock.handler import ingest_inventory_levels, item_lock
from services.shopify.stock.levels import (
    PUSH_TOPIC,
    Level,
    LevelKey,
    lock_levels,
    lock_stock,
)
from services.shopify.stock.pool_reads import PoolRead, plan_payload, record_pool_reads
from services.shopify.stock.pool_store import record_written
from services.shopify.stock.push_batch import LostCall, PlannedPush, may_have_been_sent
from services.shopify.stock.push_plan import PushCause, plan_pushes
from services.shopify.stock.push_store import find_held, forget_asked, record_held, release_waiting
from services.shopify.stock.store import find_known_levels

WEBHOOK_WAIT = timedelta(seconds=15)
"""Time for a webhook to arrive that knows more than what we read."""

IS_READ = "is_read"
"""In the payload of a push whose level was read a moment ago: it goes out without another reading."""


class ObservedLevel(NamedTuple):
    """A level that was read at Shopify. ``updated_at`` is None where the figure is not Shopify's own word.

    That is: where it gave no time, or where it is the figure that a call of ours with no answer asked for.
    ``changed_at`` is when Shopify changed it last, and ``doubt`` a call that may have happened before.
    """

    ask: PlannedPush
    available: int
    updated_at: datetime | None
    verdict: str
    hops: int
    changed_at: datetime | None = None
    doubt: LostCall | None = None


class AppliedPush(NamedTuple):
    """Shopify holds what was asked, since ``changed_at`` where it said so."""

    ask: PlannedPush
    changed_at: datetime | None


@dataclass(slots=True, kw_only=True)
class CallOutcome:
    """What one call, with all that followed from it, taught us. ``forget`` are items that ask anew."""

    shop_id: int
    ended_at: datetime = EPOCH
    applied: list[AppliedPush] = field(default_factory=list)
    seen: list[ObservedLevel] = field(default_factory=list)
    forget: set[int] = field(default_factory=set)
    throttle: ThrottleStatus | None = None
    call_points: float | None = None
    wait: timedelta | None = None


def record_call_outcomes(tx: Connection, taught: Sequence[CallOutcome], held: Collection[int]) -> FollowUp:
    """The levels and the shops' rates are as ``taught``; return what follows from that.

    ``held`` are the items that are still ours; what the others' call taught is left to their new owner.
    """
    calls = sorted(taught, key=lambda call: call.shop_id)
    now = max(call.ended_at for call in calls)
    applied = [one for call in calls for one in call.applied if one.ask.item.id in held]
    seen = [one for call in calls for one in call.seen if one.ask.item.id in held]
    pushes: list[NewWork] = []
    said: list[Entry] = []
    pooled = _lock_levels(tx, applied, seen)
    if seen:
        _record_seen(tx, seen, pooled, now, pushes, said)
    if applied:
        _record_applied(tx, applied, now, pushes, said)
    if forget := {item_id for call in calls for item_id in call.forget} & set(held):
        forget_asked(tx, forget)
    if answered := [
        one.ask for group in (applied, seen) for one in group if may_have_been_sent(one.ask.item)
    ]:
        release_waiting(tx, answered, now)
    for call in calls:
        _record_rate(tx, call, now)
    return FollowUp(pushes, said)


def _lock_levels(
    tx: Connection, applied: Sequence[AppliedPush], seen: Sequence[ObservedLevel]
) -> set[LevelKey]:
    """Everything that is written here is locked, of all shops at once; return the levels of pools.

    In the order of a webhook's own way (see ``Lock``), as what was seen is recorded in that way: the items,
    then their skus, which stay while the items are locked, then the rows.
    """
    levels = {ask.level[:3] for ask in (*(one.ask for one in seen), *(one.ask for one in applied))}
    keys = {one.ask.level[:3] for one in seen}
    lock_objects(tx, {(shop_id, item_lock(item)) for shop_id, item, _ in keys})
    known = find_known_levels(tx, keys)
    skus = {(key[0], sku) for key, row in known.items() for sku in (row.sku, row.row_sku) if sku}
    lock_stock(tx, {shop_id for shop_id, _, _ in keys})
    return lock_levels(tx, levels, items={key[:2] for key in keys}, skus=skus).pooled


def _record_applied(
    tx: Connection, applied: Sequence[AppliedPush], now: datetime, pushes: list[NewWork], said: list[Entry]
) -> None:
    """Shopify holds what was asked. A level that changed during the call is pushed once more."""
    written = record_written(
        tx,
        [
            (ask.level, ask.quantity, ask.change_from, changed_at)
            for ask, changed_at in applied
            if ask.change_from is not None
        ],
        now,
    )
    asks = [ask for ask, _ in applied]
    learned = record_held(tx, [(ask, ask.quantity) for ask in asks if ask.level[:3] not in written])
    learned |= {ask.level for ask in asks if ask.level[:3] in written}
    for ask in asks:
        known = ask.known if ask.level in learned else ask.quantity
        said += _say(ask, "pushed", ask.quantity, known)
    pushes += plan_pushes(tx, [ask.level for ask in asks], _causes(asks), now)


def _record_seen(
    tx: Connection,
    seen: Sequence[ObservedLevel],
    pooled: Collection[LevelKey],
    now: datetime,
    pushes: list[NewWork],
    said: list[Entry],
) -> None:
    """What was read is an observation like a webhook's, and our figure is pushed if it is another.

    Where a webhook knows something newer already, or Shopify gave no time, what it holds is learned as an
    answer's would be, and a push waits a little for the webhook that explains it.
    """
    dated = [one for one in seen if one.updated_at is not None]
    effects = ingest_inventory_levels(tx, [_observation(one) for one in dated], now)
    said += effects.audit
    told = {entry.work_id for entry in effects.audit}
    keys = {(one.ask.item.shop_id, one.ask.item.key) for one in seen}
    pushes += [new for new in effects.new_work if (new.shop_id, new.key) not in keys]

    _record_pools(tx, [one for one in seen if one.ask.level[:3] in pooled], now, pushes, said)
    seen = [one for one in seen if one.ask.level[:3] not in pooled]
    levels = {one.ask.level: one for one in seen}
    holds = find_held(tx, list(levels))
    older = {level for level, one in levels.items() if holds.get(level) != one.available}
    learned = record_held(tx, [(levels[level].ask, levels[level].available) for level in older])
    for level in learned:
        one = levels[level]
        if one.ask.item.id not in told:
            said += _say(one.ask, one.verdict, one.available, one.ask.known)

    differing: dict[tuple[int, bool], list[Level]] = {}
    for level, one in levels.items():
        differing.setdefault((one.hops, level in older), []).append(level)
    causes = _causes([one.ask for one in seen])
    for (hops, is_older), group in differing.items():
        payload: dict[str, Any] = {IS_READ: True} | ({"hops": hops} if hops else {})
        not_before = now + WEBHOOK_WAIT if is_older or hops else None
        pushes += plan_pushes(tx, group, causes, now, follow_up=payload, not_before=not_before)


def _record_pools(
    tx: Connection, seen: Sequence[ObservedLevel], now: datetime, pushes: list[NewWork], said: list[Entry]
) -> None:
    """What was read of levels of pools moves the pools, and is pushed on at once, to other shops too."""
    reads = {
        one.ask.level[:3]: PoolRead(
            one.ask.known,
            one.ask.known_at,
            one.ask.doubts,
            one.available,
            one.changed_at,
            one.doubt,
            one.ask.item.id,
        )
        for one in seen
    }
    changes = record_pool_reads(tx, reads, now)
    asks = {one.ask.item.id: one.ask for one in seen}
    for work_id, mutations in changes.said.items():
        item = asks[work_id].item
        said.append(Entry(item.shop_id, PUSH_TOPIC, PUSH_TOPIC, item.request_id, mutations, item.id))
    causes = {
        (level.shop_id, level.sku): PushCause(request_id=asks[work_id].item.request_id)
        for level, work_id in changes.levels.items()
    } | dict(_causes(list(asks.values())))
    unread = changes.unread
    payloads = {
        one.ask.level: plan_payload(reads[one.ask.level[:3]], one.hops, is_unread=one.ask.level[:3] in unread)
        for one in seen
    }
    plain = [level for level in changes.levels if not payloads.get(level)]
    pushes += plan_pushes(tx, plain, causes, now)
    for level, payload in payloads.items():
        if payload:
            pushes += plan_pushes(tx, [level], causes, now, follow_up=payload)
    counted = [one for one in seen if one.ask.level[:3] not in unread]
    if given_up := [number for one in counted if one.doubt for number in one.doubt.given_up]:
        forget_asked(tx, given_up, is_read=True)


def _observation(one: ObservedLevel) -> WorkItem:
    """Return ``one`` as the webhook that would have told of it, in the name of the push that looked."""
    level = one.ask.level
    body = {
        "inventory_item_id": level.inventory_item_id,
        "location_id": level.location_id,
        "available": one.available,
        "updated_at": one.updated_at,
    }
    return one.ask.item._replace(
        event_topic="", event_provider="", payload={}, body=orjson.dumps(body), received_at=None
    )


def _causes(asks: Collection[PlannedPush]) -> Mapping[tuple[int, str], PushCause]:
    return {
        (ask.level.shop_id, ask.level.sku): PushCause(ask.item.event_id, ask.item.request_id) for ask in asks
    }


def _say(ask: PlannedPush, verdict: str, there: int, known: int | None) -> list[Entry]:
    said = describe_push(ask.level, verdict, there, ask.change_from, known)
    item = ask.item
    return [Entry(item.shop_id, PUSH_TOPIC, PUSH_TOPIC, item.request_id, said, item.id)] if said else []


def _record_rate(tx: Connection, taught: CallOutcome, now: datetime) -> None:
    throttle = taught.throttle
    if throttle is not None:
        record_throttle(
            tx,
            taught.shop_id,
            "shopify",
            maximum=throttle.maximum_available,
            available=throttle.currently_available,
            restore_per_second=throttle.restore_rate,
            now=now,
            call_points=taught.call_points,
        )
    if taught.wait:
        cost_points = TOPICS[PUSH_TOPIC].cost_points
        block_bucket(tx, taught.shop_id, "shopify", taught.wait, now, cost_points=cost_points)
