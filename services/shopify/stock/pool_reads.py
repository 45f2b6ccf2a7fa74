"""What a push that read a level of a pool at Shopify means for the pool.

Pushes of one level are worked on one at a time. So what is read includes all that our calls did, but
for a call whose answer was lost.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.shopify.merge import EPOCH
from services.shopify.stock.levels import LevelKey
from services.shopify.stock.pool_store import find_pool_levels
from services.shopify.stock.pools import PoolChanges, PoolMove, PoolObservation, record_signals
from services.shopify.stock.push_batch import LOST, LostCall


class PoolRead(NamedTuple):
    """Shopify held ``available`` when the push ``work_id`` read the level.

    ``changed_at`` is when Shopify changed it last. ``known`` and the two after it are of before.
    """

    known: int | None
    known_at: datetime | None
    doubts: int
    available: int
    changed_at: datetime | None
    doubt: LostCall | None
    work_id: int


def record_pool_reads(tx: Connection, reads: Mapping[LevelKey, PoolRead], now: datetime) -> PoolChanges:
    """Every pool has moved by what was read of its levels; one that changed meanwhile is read again.

    Where the answer of a call was lost, the call counts as done if Shopify holds what it asked for, and as
    not done if Shopify has not changed the level since it was known. Otherwise the lower figure for the pool
    is taken: what is sold twice costs more than what is not offered. Keys that are of no pool are passed
    over. The caller holds the rows.
    """
    signals: list[PoolMove] = []
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
            signals.append(PoolMove(here, known, read.available, here.known_at, until, read.work_id))
    return record_signals(tx, signals, seen, found, now)


def estimate_own_change(read: PoolRead) -> int:
    """Return how many pieces of a level's change the call in doubt made, as far as ``read`` tells."""
    if read.doubt is None or read.doubt.change_from is None:
        return 0
    change = read.doubt.quantity - read.doubt.change_from
    is_unchanged = read.known_at and read.changed_at and read.changed_at <= read.known_at
    if is_unchanged and read.available == read.known:
        return 0
    return change if read.available == read.doubt.quantity or change > 0 else 0


def plan_payload(read: PoolRead, hops: int, *, is_unread: bool) -> dict[str, Any]:
    """Return what the next push of the level has to know; nothing where it is like any other. Pure.

    Where the reading did not count (``is_unread``), a lost call of this very item is the next one's matter.
    """
    payload: dict[str, Any] = {"hops": hops} if hops else {}
    doubt = read.doubt
    if is_unread and doubt and (not doubt.given_up or read.work_id in doubt.given_up):
        payload[LOST] = {"quantity": doubt.quantity, "change_from_quantity": doubt.change_from}
    return payload
