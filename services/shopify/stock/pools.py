"""Pools: goods that several shops sell from one shelf, with one figure for all of them.

One signal moves a pool's figure: the difference between what Shopify holds at a level of the pool and what we
knew it to hold, less what our own calls changed. Orders never move it. Each level of the pool shows the
figure less the safety buffer, and is pushed where Shopify holds another one.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.shopify.merge import EPOCH
from services.shopify.stock.levels import Level, LevelKey
from services.shopify.stock.payload import LevelObservation
from services.shopify.stock.pool_orders import explain_by_orders, update_oversold_incidents
from services.shopify.stock.pool_store import (
    PoolItemKey,
    PoolLevel,
    find_figures,
    find_pool_levels,
    move_goods,
    record_known,
    show_pools,
)

NEAR = timedelta(seconds=2)
"""Shopify dates levels and calls in whole seconds: of two this near, nobody can tell which was first."""


class PoolMove(NamedTuple):
    """Shopify's figure of a level went from ``before`` to ``after``, and no call of ours did it.

    ``since`` and ``until`` bound when. ``work_id`` is the work item that brought it.
    """

    here: PoolLevel
    before: int
    after: int
    since: datetime | None
    until: datetime
    work_id: int


class PoolObservation(NamedTuple):
    """What is known of a level from now on: ``must_read`` where it has to be read before anything else."""

    here: PoolLevel
    known: int
    at: datetime
    work_id: int
    must_read: bool = False


class PoolChanges(NamedTuple):
    """What became of pools: ``levels`` may have to be pushed, each with the work item that changed it.

    ``figures`` are ours and Shopify's of the levels that were seen. ``said`` is for the audit, by work item.
    ``unread`` are the levels that have to be read again.
    """

    levels: Mapping[Level, int]
    said: Mapping[int, Sequence[Mutation]]
    figures: Mapping[LevelKey, tuple[int, int]]
    unread: Collection[LevelKey] = ()


NO_POOLS = PoolChanges({}, {}, {})


def observe_pools(
    tx: Connection,
    observations: Mapping[LevelKey, LevelObservation],
    unclear: Collection[LevelKey],
    back: Collection[LevelKey],
    now: datetime,
) -> PoolChanges:
    """Every pool has moved by what webhooks tell of its levels; where that is not clear, it is read.

    ``unclear`` are the levels for which one second has two figures, ``back`` those that were off the shelf:
    what such a level holds is no sale and no restock. The caller holds the rows of the pool's levels.
    """
    signals: list[PoolMove] = []
    seen: list[PoolObservation] = []
    found = find_pool_levels(tx, observations)
    for key, here in found.items():
        told = observations[key]
        at, work_id = told.observed_at, told.work_id
        if key in back:
            seen.append(PoolObservation(here, told.available, at, work_id))
        elif key in unclear or _is_unclear(here, told):
            seen.append(PoolObservation(here, here.known, EPOCH, work_id, must_read=True))
        elif here.known_at is None or at > here.known_at + NEAR:
            seen.append(PoolObservation(here, told.available, at, work_id))
            if told.available != here.known:
                signals.append(PoolMove(here, here.known, told.available, here.known_at, at, work_id))
    return record_signals(tx, signals, seen, found, now)


def _is_unclear(here: PoolLevel, told: LevelObservation) -> bool:
    """Tell whether ``told`` may be of before or after what is known of the level, or a call under way."""
    if here.known_at is None:
        return here.is_in_doubt
    if here.is_in_doubt:
        return told.observed_at >= here.known_at - NEAR
    return told.available != here.known and abs(told.observed_at - here.known_at) <= NEAR


def record_signals(
    tx: Connection,
    signals: Sequence[PoolMove],
    seen: Sequence[PoolObservation],
    keys: Collection[LevelKey],
    now: datetime,
) -> PoolChanges:
    """The levels are known as ``seen``, and the pools have moved by ``signals``; ``keys`` are of pools."""
    if not keys:
        return NO_POOLS
    record_known(tx, [(one.here.level, one.known, one.at, one.must_read) for one in seen], now)
    levels = {one.here.level: one.work_id for one in seen}
    said: dict[int, list[Mutation]] = {}
    if signals:
        movers = {(one.here.pool, one.here.sku): one.work_id for one in signals}
        said = _move(tx, signals, now)
        levels |= {level: movers[goods] for level, goods in show_pools(tx, movers, now).items()}
        update_oversold_incidents(tx, movers, now)
    unread = {one.here.level[:3] for one in seen if one.must_read}
    return PoolChanges(levels, said, find_figures(tx, keys), unread)


def _move(tx: Connection, signals: Sequence[PoolMove], now: datetime) -> dict[int, list[Mutation]]:
    """The figures of the pools are moved; return what the audit says of each step, by work item."""
    deltas: dict[PoolItemKey, int] = {}
    for one in signals:
        goods = one.here.pool, one.here.sku
        deltas[goods] = deltas.get(goods, 0) + one.after - one.before
    figures = move_goods(tx, deltas, now)
    spans = [(one.here.level, one.since, one.until, one.after - one.before) for one in signals]
    said: dict[int, list[Mutation]] = {}
    for one, orders in zip(signals, explain_by_orders(tx, spans), strict=True):
        goods = one.here.pool, one.here.sku
        before = figures[goods]
        figures[goods] = after = before + one.after - one.before
        where = f"Shopify went {one.before} -> {one.after} at location {one.here.level.location_id}"
        row = Mutation(
            "stock_pool_items",
            ":".join(goods),
            f"pool {goods[0]}: {goods[1]} {before} -> {after}, as {where}; {orders}",
            {"available": before},
            {"available": after},
        )
        said.setdefault(one.work_id, []).append(row)
    return said
