"""Record the results of push calls when their items settle: once per call, not once per level."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.chain import Entry, Mutation
from services.core.locks import lock_objects
from services.ledger.limits import block_bucket, record_throttle
from services.ledger.topics import TOPICS
from services.ledger.work import FollowUp, NewWork, WorkItem
from services.providers.shopify_answers import ThrottleStatus
from services.shopify.entities import EPOCH
from services.shopify.stock.audit_text import describe_push
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import (
    PUSH_TOPIC,
    Level,
    LevelKey,
    SkuKey,
    item_lock,
    lock_levels,
    lock_stock,
)
from services.shopify.stock.pool_store import WrittenLevel, record_written
from services.shopify.stock.pools import PoolRead, plan_read_payload, record_pool_reads
from services.shopify.stock.push_batch import LostCall, PlannedPush, may_have_been_sent
from services.shopify.stock.push_plan import PushCause, plan_pushes, push_cause
from services.shopify.stock.push_store import (
    find_shopify_figures,
    forget_calls,
    record_shopify_figures,
    release_waiting,
)
from services.shopify.stock.store import find_known_levels, list_skus

WEBHOOK_WAIT = timedelta(seconds=15)
"""Time for the webhook of a change to arrive that is newer than what was read."""

IS_READ = "is_read"
"""In the payload of a push whose level was just read: it is sent without another read."""


class ObservedLevel(NamedTuple):
    """A level that was read at Shopify.

    ``observed_at`` is None where the figure is no observation of Shopify's: without a time, or equal to what
    an unanswered call of ours asked for. ``changed_at`` is Shopify's last change of the level; ``moves`` how
    often its stock moved before a push; ``lost_call`` a call that may have happened.
    """

    push: PlannedPush
    available: int
    observed_at: datetime | None
    result: str
    moves: int
    changed_at: datetime | None = None
    lost_call: LostCall | None = None


class AppliedPush(NamedTuple):
    """Shopify holds what the push requested, since ``changed_at`` where it states a time."""

    push: PlannedPush
    changed_at: datetime | None


@dataclass(slots=True, kw_only=True)
class CallOutcome:
    """The results of one call and of the read after it. ``forget``: items that may send another call."""

    shop_id: int
    ended_at: datetime = EPOCH
    applied: list[AppliedPush] = field(default_factory=list)
    observed: list[ObservedLevel] = field(default_factory=list)
    forget: set[int] = field(default_factory=set)
    throttle: ThrottleStatus | None = None
    call_points: float | None = None
    wait: timedelta | None = None


def record_call_outcomes(tx: Connection, outcomes: Sequence[CallOutcome], held: Collection[int]) -> FollowUp:
    """Record the levels and the rate limits of ``outcomes``; return the work that follows.

    ``held`` are the items whose lease still holds. The results of other items are left to their new worker.
    """
    outcomes = sorted(outcomes, key=lambda call: call.shop_id)
    now = max(call.ended_at for call in outcomes)
    applied = [one for call in outcomes for one in call.applied if one.push.item.id in held]
    observed = [one for call in outcomes for one in call.observed if one.push.item.id in held]
    pushes: list[NewWork] = []
    entries: list[Entry] = []
    pooled = _lock_levels(tx, applied, observed)
    if observed:
        _record_observed(tx, observed, pooled, now, pushes, entries)
    if applied:
        _record_applied(tx, applied, now, pushes, entries)
    if forget := {item_id for call in outcomes for item_id in call.forget} & set(held):
        forget_calls(tx, forget)
    done = [one.push for group in (applied, observed) for one in group]
    if answered := [push for push in done if may_have_been_sent(push.item)]:
        release_waiting(tx, answered, now)
    for call in outcomes:
        _record_rate(tx, call, now)
    return FollowUp(pushes, entries)


def _lock_levels(
    tx: Connection, applied: Sequence[AppliedPush], observed: Sequence[ObservedLevel]
) -> set[LevelKey]:
    """Lock everything that is written here, of all shops at once; return the levels of pools.

    The order is that of a level webhook, which is how observations are recorded: the items, then the stock
    of their shops, whose SKUs stay while the items are locked, then the rows (see ``Lock``).
    """
    keys = {one.push.level.key for one in observed}
    levels = keys | {one.push.level.key for one in applied}
    lock_objects(tx, {(key.shop_id, item_lock(key.inventory_item_id)) for key in keys})
    skus = list_skus(find_known_levels(tx, keys))
    lock_stock(tx, {key.shop_id for key in keys})
    return lock_levels(tx, levels, items={key.item for key in keys}, skus=skus).pooled


def _record_applied(
    tx: Connection, applied: Sequence[AppliedPush], now: datetime, pushes: list[NewWork], entries: list[Entry]
) -> None:
    """Record what Shopify holds now. A level that changed during the call is pushed once more."""
    done = [one.push for one in applied]
    calls = [
        WrittenLevel(push.level, push.quantity, push.change_from, changed_at)
        for push, changed_at in applied
        if push.change_from is not None
    ]
    written = record_written(tx, calls, now)
    others = [(push, push.quantity) for push in done if push.level.key not in written]
    learned = record_shopify_figures(tx, others)
    learned |= {push.level for push in done if push.level.key in written}
    for push in done:
        known = push.known if push.level in learned else push.quantity
        entries += _describe(push, "pushed", push.quantity, known)
    pushes += plan_pushes(tx, [push.level for push in done], _causes(done), now)


def _record_observed(
    tx: Connection,
    observed: Sequence[ObservedLevel],
    pooled: Collection[LevelKey],
    now: datetime,
    pushes: list[NewWork],
    entries: list[Entry],
) -> None:
    """Record what was read as an observation, like a webhook's; push our figure where it differs.

    Where a webhook has recorded something newer, or Shopify gave no time, the figure is recorded like an
    answer's, and the push waits ``WEBHOOK_WAIT`` for the webhook that explains it.
    """
    dated = [_observation(one) for one in observed if one.observed_at is not None]
    result = ingest_inventory_levels(tx, dated, now)
    entries += result.audit
    described = {entry.work_id for entry in result.audit}
    keys = {(one.push.item.shop_id, one.push.item.key) for one in observed}
    pushes += [new for new in result.new_work if (new.shop_id, new.key) not in keys]

    _record_pools(tx, [one for one in observed if one.push.level.key in pooled], now, pushes, entries)
    levels = {one.push.level: one for one in observed if one.push.level.key not in pooled}
    figures = find_shopify_figures(tx, list(levels))
    older = {level for level, one in levels.items() if figures.get(level) != one.available}
    for level in record_shopify_figures(tx, [(levels[key].push, levels[key].available) for key in older]):
        one = levels[level]
        if one.push.item.id not in described:
            entries += _describe(one.push, one.result, one.available, one.push.known)

    groups: dict[tuple[int, bool], list[Level]] = {}
    for level, one in levels.items():
        groups.setdefault((one.moves, level in older), []).append(level)
    causes = _causes([one.push for one in levels.values()])
    for (moves, is_older), group in groups.items():
        payload: dict[str, Any] = {IS_READ: True} | ({"hops": moves} if moves else {})
        not_before = now + WEBHOOK_WAIT if is_older or moves else None
        pushes += plan_pushes(tx, group, causes, now, follow_up=payload, not_before=not_before)


def _record_pools(
    tx: Connection,
    observed: Sequence[ObservedLevel],
    now: datetime,
    pushes: list[NewWork],
    entries: list[Entry],
) -> None:
    """Move the pools by what was read of their levels, and push the new figures to the other shops."""
    reads = {
        one.push.level.key: PoolRead(
            one.push.known,
            one.push.known_at,
            one.push.doubts,
            one.available,
            one.changed_at,
            one.lost_call,
            one.push.item.id,
        )
        for one in observed
    }
    changes = record_pool_reads(tx, reads, now)
    items = {one.push.item.id: one.push.item for one in observed}
    entries += [_entry(items[work_id], rows) for work_id, rows in changes.mutations.items()]
    causes = {
        level.sku_key: PushCause(request_id=items[work_id].request_id)
        for level, work_id in changes.levels.items()
    } | _causes([one.push for one in observed])
    payloads: dict[Level, dict[str, Any]] = {}
    for one in observed:
        key = one.push.level.key
        payload = plan_read_payload(reads[key], one.moves, is_unread=key in changes.unread)
        if payload:
            payloads[one.push.level] = payload
    others = [level for level in changes.levels if level not in payloads]
    pushes += plan_pushes(tx, others, causes, now)
    for level, payload in payloads.items():
        pushes += plan_pushes(tx, [level], causes, now, follow_up=payload)
    counted = [one.lost_call for one in observed if one.push.level.key not in changes.unread]
    if given_up := [number for lost in counted if lost for number in lost.given_up]:
        forget_calls(tx, given_up, with_lost=True)


def _observation(one: ObservedLevel) -> WorkItem:
    """Return the webhook that would have reported ``one``, with the push's own id."""
    level = one.push.level
    body = {
        "inventory_item_id": level.inventory_item_id,
        "location_id": level.location_id,
        "available": one.available,
        "updated_at": one.observed_at,
    }
    return one.push.item._replace(
        event_topic="", event_provider="", payload={}, body=orjson.dumps(body), received_at=None
    )


def _causes(pushes: Collection[PlannedPush]) -> dict[SkuKey, PushCause]:
    return {push.level.sku_key: push_cause(push.item) for push in pushes}


def _describe(push: PlannedPush, result: str, available: int, known: int | None) -> list[Entry]:
    mutations = describe_push(push.level, result, available, push.change_from, known)
    return [_entry(push.item, mutations)] if mutations else []


def _entry(item: WorkItem, mutations: Sequence[Mutation]) -> Entry:
    return Entry(item.shop_id, PUSH_TOPIC, PUSH_TOPIC, item.request_id, mutations, item.id)


def _record_rate(tx: Connection, call: CallOutcome, now: datetime) -> None:
    throttle = call.throttle
    if throttle is not None:
        record_throttle(
            tx,
            call.shop_id,
            "shopify",
            maximum=throttle.maximum_available,
            available=throttle.currently_available,
            restore_per_second=throttle.restore_rate,
            now=now,
            call_points=call.call_points,
        )
    if call.wait:
        cost_points = TOPICS[PUSH_TOPIC].cost_points
        block_bucket(tx, call.shop_id, "shopify", call.wait, now, cost_points=cost_points)
