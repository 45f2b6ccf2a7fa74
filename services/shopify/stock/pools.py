"""Pools: several shops sell the same goods from one stock, with one figure for all of them.

A pool's figure moves by one signal: the difference between what Shopify holds at a level of the pool and what
is known of it, less what our own calls changed. Orders never move it. Each level of the pool shows the figure
less the safety buffer, and is pushed where Shopify holds another figure.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.shopify.entities import EPOCH
from services.shopify.stock.levels import Level, LevelKey
from services.shopify.stock.payload import LevelObservation
from services.shopify.stock.pool_orders import StockSpan, explain_by_orders, update_oversold_incidents
from services.shopify.stock.pool_store import (
    KnownFigure,
    PoolItemKey,
    PoolLevel,
    find_figures,
    find_pool_levels,
    move_pool_items,
    record_known_figures,
    show_pools,
)
from services.shopify.stock.push_batch import LOST, LostCall

NEAR = timedelta(seconds=2)
"""Shopify dates levels and calls in whole seconds: of two this close, the order is not known."""


class PoolMove(NamedTuple):
    """Shopify's figure of a level changed from ``before`` to ``after``, and no call of ours did it.

    It happened between ``since`` and ``until``; the work item ``work_id`` reported it.
    """

    here: PoolLevel
    before: int
    after: int
    since: datetime | None
    until: datetime
    work_id: int


class PoolObservation(NamedTuple):
    """What is known of a level from now on. ``must_read``: it has to be read before it is pushed."""

    here: PoolLevel
    known: int
    at: datetime
    work_id: int
    must_read: bool = False


class PoolRead(NamedTuple):
    """Shopify held ``available`` when the push ``work_id`` read the level, changed last at ``changed_at``.

    ``known``, ``known_at`` and ``doubts`` are the level's from before the read.
    """

    known: int | None
    known_at: datetime | None
    doubts: int
    available: int
    changed_at: datetime | None
    lost_call: LostCall | None
    work_id: int


class PoolChanges(NamedTuple):
    """Changes of pools: ``levels`` that may have to be pushed, each with the work item that changed it.

    ``mutations`` are the audit's, by work item. ``figures`` are ours and Shopify's of the given levels.
    ``unread`` are the levels that have to be read again.
    """

    levels: Mapping[Level, int]
    mutations: Mapping[int, Sequence[Mutation]]
    figures: Mapping[LevelKey, tuple[int, int]]
    unread: Collection[LevelKey] = ()


NO_POOL_CHANGES = PoolChanges({}, {}, {})


def observe_pools(
    tx: Connection,
    observations: Mapping[LevelKey, LevelObservation],
    unclear: Collection[LevelKey],
    back: Collection[LevelKey],
    now: datetime,
) -> PoolChanges:
    """Move the pools by what webhooks report of their levels; where that is not clear, plan a read.

    ``unclear`` levels have two figures in one second. Those ``back`` were disconnected before: what such a
    level holds is no sale and no restock. The caller has locked the rows of the pool's levels.
    """
    moves: list[PoolMove] = []
    seen: list[PoolObservation] = []
    found = find_pool_levels(tx, observations)
    for key, here in found.items():
        event = observations[key]
        at, work_id = event.observed_at, event.item.id
        if key in back:
            seen.append(PoolObservation(here, event.available, at, work_id))
        elif key in unclear or _is_unclear(here, event):
            seen.append(PoolObservation(here, here.known, EPOCH, work_id, must_read=True))
        elif here.known_at is None or at > here.known_at + NEAR:
            seen.append(PoolObservation(here, event.available, at, work_id))
            if event.available != here.known:
                moves.append(PoolMove(here, here.known, event.available, here.known_at, at, work_id))
    return _record_moves(tx, moves, seen, found, now)


def record_pool_reads(tx: Connection, reads: Mapping[LevelKey, PoolRead], now: datetime) -> PoolChanges:
    """Move the pools by what pushes read of their levels; a level that changed meanwhile is read again.

    Pushes of one level run one at a time, so a read includes all calls of ours except a lost one. See
    ``estimate_own_change`` for that. Keys that belong to no pool are ignored. The caller has locked the rows.
    """
    moves: list[PoolMove] = []
    seen: list[PoolObservation] = []
    found = find_pool_levels(tx, reads)
    for key, here in found.items():
        read = reads[key]
        if (here.known, here.known_at, here.doubts) != (read.known, read.known_at, read.doubts):
            seen.append(PoolObservation(here, here.known, EPOCH, read.work_id, must_read=True))
            continue
        known = here.known + estimate_own_change(read)
        seen.append(PoolObservation(here, read.available, read.changed_at or EPOCH, read.work_id))
        if read.available != known:
            until = max(read.changed_at or now, here.known_at or EPOCH)
            moves.append(PoolMove(here, known, read.available, here.known_at, until, read.work_id))
    return _record_moves(tx, moves, seen, found, now)


def estimate_own_change(read: PoolRead) -> int:
    """Return how many pieces the lost call changed, as far as ``read`` tells. Pure.

    The call counts as done if Shopify holds what it requested, and as not done if Shopify did not change the
    level since it was known. Else the lower figure for the pool counts: overselling costs more than offering
    too little.
    """
    lost = read.lost_call
    if lost is None or lost.change_from is None:
        return 0
    change = lost.quantity - lost.change_from
    is_unchanged = read.known_at and read.changed_at and read.changed_at <= read.known_at
    if is_unchanged and read.available == read.known:
        return 0
    return change if read.available == lost.quantity or change > 0 else 0


def plan_read_payload(read: PoolRead, moves: int, *, is_unread: bool) -> dict[str, Any]:
    """Return the payload of the level's next push; empty where it is like any other. Pure.

    Where the read did not count (``is_unread``), the next push inherits a lost call of this item.
    """
    payload: dict[str, Any] = {"hops": moves} if moves else {}
    lost = read.lost_call
    if is_unread and lost and (not lost.given_up or read.work_id in lost.given_up):
        payload[LOST] = {"quantity": lost.quantity, "change_from_quantity": lost.change_from}
    return payload


def _is_unclear(here: PoolLevel, event: LevelObservation) -> bool:
    """Whether ``event`` may be from before or after what is known, or from an open call."""
    if here.known_at is None:
        return here.has_open_call
    if here.has_open_call:
        return event.observed_at >= here.known_at - NEAR
    return event.available != here.known and abs(event.observed_at - here.known_at) <= NEAR


def _record_moves(
    tx: Connection,
    moves: Sequence[PoolMove],
    seen: Sequence[PoolObservation],
    keys: Collection[LevelKey],
    now: datetime,
) -> PoolChanges:
    """Record ``seen`` and move the pools by ``moves``. ``keys`` are levels of pools."""
    if not keys:
        return NO_POOL_CHANGES
    figures = [KnownFigure(one.here.level, one.known, one.at, one.must_read) for one in seen]
    record_known_figures(tx, figures, now)
    levels = {one.here.level: one.work_id for one in seen}
    mutations: dict[int, list[Mutation]] = {}
    if moves:
        causes = {one.here.item: one.work_id for one in moves}
        mutations = _move_items(tx, moves, now)
        levels |= {level: causes[item] for level, item in show_pools(tx, causes, now).items()}
        update_oversold_incidents(tx, causes, now)
    unread = {one.here.level.key for one in seen if one.must_read}
    return PoolChanges(levels, mutations, find_figures(tx, keys), unread)


def _move_items(tx: Connection, moves: Sequence[PoolMove], now: datetime) -> dict[int, list[Mutation]]:
    """Move the figures of the pools; return the audit's rows by work item."""
    deltas: dict[PoolItemKey, int] = {}
    for one in moves:
        deltas[one.here.item] = deltas.get(one.here.item, 0) + one.after - one.before
    figures = move_pool_items(tx, deltas, now)
    spans = [StockSpan(one.here.level, one.since, one.until, one.after - one.before) for one in moves]
    mutations: dict[int, list[Mutation]] = {}
    for one, orders in zip(moves, explain_by_orders(tx, spans), strict=True):
        pool, sku = one.here.item
        before = figures[one.here.item]
        figures[one.here.item] = after = before + one.after - one.before
        where = f"Shopify went {one.before} -> {one.after} at location {one.here.level.location_id}"
        row = Mutation(
            "stock_pool_items",
            f"{pool}:{sku}",
            f"pool {pool}: {sku} {before} -> {after}, as {where}; {orders}",
            {"available": before},
            {"available": after},
        )
        mutations.setdefault(one.work_id, []).append(row)
    return mutations
