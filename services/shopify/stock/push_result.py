"""Record the results of push calls when their items settle: once per call, not per level."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.chain import AuditEntry, Mutation
from services.core.locks import lock_objects
from services.ledger.rate_limits import block_bucket, record_throttle
from services.ledger.topics import TOPICS
from services.ledger.work import FollowUp, NewWork, WorkItem
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
from services.shopify.stock.pool_store import find_pool_figures, record_own_changes
from services.shopify.stock.pools import plan_read_payload, record_pool_reads
from services.shopify.stock.push_call import PushCall, may_have_been_sent
from services.shopify.stock.push_item import LevelPush
from services.shopify.stock.push_plan import PushCause, list_due_pushes, push_cause
from services.shopify.stock.push_store import delete_calls, record_shopify_figures, release_waiting
from services.shopify.stock.store import find_known_levels, list_skus

WEBHOOK_WAIT = timedelta(seconds=15)
"""Time to wait for the webhook of a change that is newer than the read figure."""

IS_READ = "is_read"
"""Payload key of a push whose level was just read: it is sent without another read."""


def record_push_calls(tx: Connection, calls: Sequence[PushCall], leased_ids: Collection[int]) -> FollowUp:
    """Record the levels and rate limits that ``calls`` returned; return the follow-up work.

    ``leased_ids`` are the items whose lease is still valid. Another worker records the others' results.
    """
    calls = sorted(calls, key=lambda call: call.shop_id)
    now = max(call.ended_at for call in calls)
    settled = [push for call in calls for push in call.pushes if push.item.id in leased_ids]
    applied = [push for push in settled if push.result == "pushed"]
    observed = [push for push in settled if push.result and push.result != "pushed"]
    pooled = _lock_levels(tx, applied, observed)
    parts = [_record_observed(tx, observed, pooled, now)] if observed else []
    parts += [_record_applied(tx, applied, now)] if applied else []
    if void := {push.item.id for push in settled if push.is_void}:
        delete_calls(tx, void)
    if answered := [push for push in (*applied, *observed) if may_have_been_sent(push.item)]:
        release_waiting(tx, answered, now)
    for call in calls:
        _record_rate(tx, call, now)
    return _join(parts)


def _join(parts: Sequence[FollowUp]) -> FollowUp:
    return FollowUp(
        [new for part in parts for new in part.new_work], [e for part in parts for e in part.audit]
    )


def _lock_levels(
    tx: Connection, applied: Sequence[LevelPush], observed: Sequence[LevelPush]
) -> set[LevelKey]:
    """Lock all levels to write, in the order of a level webhook (see ``LockKind``); return those of pools.

    The SKUs of locked items cannot change, so they are read before the stock of their shops is locked.
    """
    keys = {push.level.key for push in observed}
    levels = keys | {push.level.key for push in applied}
    lock_objects(tx, {(key.shop_id, item_lock(key.inventory_item_id)) for key in keys})
    skus = list_skus(find_known_levels(tx, keys))
    lock_stock(tx, {key.shop_id for key in keys})
    return lock_levels(tx, levels, items={key.item for key in keys}, skus=skus).pooled


def _record_applied(tx: Connection, applied: Sequence[LevelPush], now: datetime) -> FollowUp:
    """Record the pushed figures. A level that changed during the call is pushed again."""
    recorded = record_own_changes(tx, [push for push in applied if push.change_from is not None], now)
    recorded |= record_shopify_figures(tx, [push for push in applied if push.level.key not in recorded])
    entries = [
        entry
        for push in applied
        for entry in _describe(push, push.known if push.level.key in recorded else push.available)
    ]
    return FollowUp(
        list_due_pushes(tx, [push.level for push in applied], _list_causes(applied), now), entries
    )


def _record_observed(
    tx: Connection, observed: Sequence[LevelPush], pooled: Collection[LevelKey], now: datetime
) -> FollowUp:
    """Record read figures as observations, like those of webhooks; push our figure if it differs.

    If a webhook recorded a newer one, or Shopify gave no time, the figure is recorded as a call's answer, and
    the push waits ``WEBHOOK_WAIT`` for the webhook that explains it.
    """
    observations = [_make_observation(push) for push in observed if push.observed_at is not None]
    result = ingest_inventory_levels(tx, observations, now)
    described = {entry.work_id for entry in result.audit}
    keys = {(push.item.shop_id, push.item.key) for push in observed}
    as_webhooks = FollowUp(
        [new for new in result.new_work if (new.shop_id, new.key) not in keys], result.audit
    )
    of_pools = _record_pools(tx, [push for push in observed if push.level.key in pooled], now)
    others = [push for push in observed if push.level.key not in pooled]
    figures = find_pool_figures(tx, [push.level.key for push in others])
    older = {push for push in others if figures.get(push.level.key, (0, None))[1] != push.available}
    recorded = record_shopify_figures(tx, older)
    pushes: list[NewWork] = []
    entries: list[AuditEntry] = []
    for push in others:
        if push.level.key in recorded and push.item.id not in described:
            entries += _describe(push, push.known)

    groups: dict[tuple[int, bool], list[Level]] = {}
    for push in others:
        groups.setdefault((push.moves, push in older), []).append(push.level)
    causes = _list_causes(others)
    for (moves, is_older), group in groups.items():
        payload: dict[str, Any] = {IS_READ: True} | ({"hops": moves} if moves else {})
        not_before = now + WEBHOOK_WAIT if is_older or moves else None
        pushes += list_due_pushes(tx, group, causes, now, follow_up=payload, not_before=not_before)
    return _join([as_webhooks, of_pools, FollowUp(pushes, entries)])


def _record_pools(tx: Connection, observed: Sequence[LevelPush], now: datetime) -> FollowUp:
    """Change the pools by the figures read, and push the new ones to the other shops."""
    changes = record_pool_reads(tx, {push.level.key: push for push in observed}, now)
    items = {push.item.id: push.item for push in observed}
    entries = [_make_entry(items[work_id], rows) for work_id, rows in changes.mutations.items()]
    causes = {
        level.sku_key: PushCause(request_id=items[work_id].request_id)
        for level, work_id in changes.levels.items()
    } | _list_causes(observed)
    payloads: dict[Level, dict[str, Any]] = {}
    for push in observed:
        if payload := plan_read_payload(push, is_unread=push.level.key in changes.unread):
            payloads[push.level] = payload
    others = [level for level in changes.levels if level not in payloads]
    pushes = list_due_pushes(tx, others, causes, now)
    for level, payload in payloads.items():
        pushes += list_due_pushes(tx, [level], causes, now, follow_up=payload)
    counted = [push.lost_call for push in observed if push.level.key not in changes.unread]
    if given_up := [number for lost in counted if lost for number in lost.given_up]:
        delete_calls(tx, given_up, with_lost=True)
    return FollowUp(pushes, entries)


def _make_observation(push: LevelPush) -> WorkItem:
    """Return the read figure as a level webhook, with the push's own id."""
    _, item, location = push.level.key
    seen = {"available": push.available, "updated_at": push.observed_at}
    body = orjson.dumps({"inventory_item_id": item, "location_id": location, **seen})
    return push.item._replace(event_topic="", event_provider="", payload={}, body=body, received_at=None)


def _list_causes(pushes: Collection[LevelPush]) -> dict[SkuKey, PushCause]:
    return {push.level.sku_key: push_cause(push.item) for push in pushes}


def _describe(push: LevelPush, known: int | None) -> list[AuditEntry]:
    mutations = describe_push(push.level, push.result, push.available, push.change_from, known)
    return [_make_entry(push.item, mutations)] if mutations else []


def _make_entry(item: WorkItem, mutations: Sequence[Mutation]) -> AuditEntry:
    return AuditEntry(item.shop_id, PUSH_TOPIC, PUSH_TOPIC, item.request_id, mutations, item.id)


def _record_rate(tx: Connection, call: PushCall, now: datetime) -> None:
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
