"""The arrows that a person makes: back to ``pending``, to ``discarded``, out of a stuck lock.

Each is one statement and its audit in the caller's transaction. A row that a worker has in hand is
skipped, never waited for: the worker's own settling decides about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from services.audit.append import Entry, Mutation, append_all
from services.ledger.accept import WorkRef
from services.ledger.filters import FilterInvalid, WorkFilter
from services.ledger.tables import work_queue

GIVEN_UP = ("dead", "error")
"""What requeue and discard touch unless a filter names statuses."""
_MAY_REQUEUE = ("dead", "error", "discarded", "pending")
_MAY_DISCARD = ("dead", "error", "pending")
_UNHELD = {"locked_at": None, "locked_by": None, "lease_until": None, "dispatched_at": None}
_PENDING = _UNHELD | {
    "status": "pending",
    "retry_count": 0,
    "next_retry_at": None,
    "dispatch_count": 0,
    "result": None,
    "finished_at": None,
    "died_at": case((work_queue.c.status == "dead", work_queue.c.finished_at), else_=work_queue.c.died_at),
}


@dataclass(frozen=True, slots=True)
class AffectedRows:
    """What an action would touch: how many rows, and the first ten."""

    count: int
    examples: tuple[Mapping[str, Any], ...]


def find_requeueable(tx: Connection, wanted: WorkFilter) -> AffectedRows:
    """Return what ``requeue`` would touch, changing nothing."""
    return _find(tx, _requeueable(wanted))


def requeue(
    tx: Connection, wanted: WorkFilter, *, now: datetime, by: str, reason: str, request_id: str = ""
) -> tuple[WorkRef, ...]:
    """Make the rows ``pending`` and due at once, with all their tries ahead; return them.

    ``last_error`` and ``error_code`` stay as history until the work is done. The rows count as
    never dispatched: the caller may ring for them after its commit, and the next sweep will.
    """
    return _change(
        tx, _requeueable(wanted), _PENDING, "work.requeue", "requeued", now, by, reason, request_id
    )


def find_discardable(tx: Connection, wanted: WorkFilter) -> AffectedRows:
    """Return what ``discard`` would touch, changing nothing."""
    return _find(tx, _discardable(wanted))


def discard(
    tx: Connection, wanted: WorkFilter, *, now: datetime, by: str, reason: str, request_id: str = ""
) -> int:
    """Make the rows ``discarded`` for good and return how many. ``reason`` is required and audited."""
    if not reason.strip():
        raise FilterInvalid("reason is empty: say why this work is not to be done")
    values = _UNHELD | {
        "status": "discarded",
        "next_retry_at": None,
        "result": "discarded",
        "finished_at": now,
    }
    chosen = _discardable(wanted)
    return len(_change(tx, chosen, values, "work.discard", "discarded", now, by, reason, request_id))


def find_stuck(tx: Connection, wanted: WorkFilter, *, older_than: timedelta, now: datetime) -> AffectedRows:
    """Return what ``unlock`` would touch, changing nothing."""
    return _find(tx, _stuck(wanted, now - older_than))


def unlock(
    tx: Connection,
    wanted: WorkFilter,
    *,
    older_than: timedelta,
    now: datetime,
    by: str,
    reason: str,
    request_id: str = "",
) -> tuple[WorkRef, ...]:
    """Free rows locked longer than ``older_than``; return them.

    The sweep frees an expired lease by itself; this is for a worker that hangs and still renews. Such a
    worker cannot settle afterwards, because the lock no longer bears its name.
    """
    stuck = _stuck(wanted, now - older_than)
    return _change(tx, stuck, _UNHELD, "work.unlock", "unlocked", now, by, reason, request_id)


def id_ranges(ids: Iterable[int]) -> str:
    """Return ids in short: ``101-164,170``. Pure."""
    runs = groupby(enumerate(sorted(ids)), key=lambda pair: pair[1] - pair[0])
    spans = [[item_id for _, item_id in run] for _, run in runs]
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _requeueable(wanted: WorkFilter) -> ColumnElement[bool]:
    return _unheld(
        wanted, _MAY_REQUEUE, "requeued: to do finished work again, `fleet events replay` its event"
    )


def _discardable(wanted: WorkFilter) -> ColumnElement[bool]:
    return _unheld(wanted, _MAY_DISCARD, "discarded: it is final already")


def _unheld(wanted: WorkFilter, allowed: tuple[str, ...], why: str) -> ColumnElement[bool]:
    for status in wanted.statuses:
        if status not in allowed:
            raise FilterInvalid(f"status={status!r} cannot be {why}; allowed are {', '.join(allowed)}")
    filled = replace(wanted, statuses=wanted.statuses or GIVEN_UP)
    return filled.where() & work_queue.c.locked_at.is_(None)


def _stuck(wanted: WorkFilter, locked_before: datetime) -> ColumnElement[bool]:
    in_hand = work_queue.c.status.in_(("pending", "error")) & work_queue.c.locked_at.is_not(None)
    return wanted.where() & in_hand & (work_queue.c.locked_at < locked_before)


def _find(tx: Connection, condition: ColumnElement[bool]) -> AffectedRows:
    count = tx.scalar(select(func.count()).select_from(work_queue).where(condition)) or 0
    shown = (
        work_queue.c.id,
        work_queue.c.shop_id,
        work_queue.c.topic,
        work_queue.c.key,
        work_queue.c.status,
        work_queue.c.retry_count,
        work_queue.c.locked_at,
        work_queue.c.error_code,
        work_queue.c.created_at,
    )
    rows = tx.execute(select(*shown).where(condition).order_by(work_queue.c.id).limit(10)).mappings()
    return AffectedRows(count, tuple(dict(row) for row in rows))


def _change(
    tx: Connection,
    condition: ColumnElement[bool],
    values: Mapping[str, Any],
    action: str,
    done: str,
    now: datetime,
    by: str,
    reason: str,
    request_id: str,
) -> tuple[WorkRef, ...]:
    chosen = (
        select(work_queue.c.id, work_queue.c.status).where(condition).with_for_update(skip_locked=True)
    ).cte("chosen")
    changed = tx.execute(
        update(work_queue)
        .where(work_queue.c.id == chosen.c.id)
        .values(**values)
        .returning(
            work_queue.c.id,
            work_queue.c.shop_id,
            work_queue.c.queue,
            work_queue.c.topic,
            chosen.c.status.label("was"),
        )
    ).all()
    after_status = {"status": values["status"]} if "status" in values else {"locked": False}
    by_place = sorted((row.shop_id, row.topic, row.was, row.id) for row in changed)
    entries: list[Entry] = []
    for shop_id, of_shop in groupby(by_place, key=lambda place: place[0]):
        mutations = []
        for (topic, was), group in groupby(of_shop, key=lambda place: place[1:3]):
            ids = [place[3] for place in group]
            summary = f"{done} {len(ids)} of {topic} that were {was}" + (f": {reason}" if reason else "")
            before = {"status": was}
            after = {"ids": id_ranges(ids), "reason": reason, **after_status}
            row_id = str(ids[0]) if len(ids) == 1 else f"{len(ids)} rows"
            mutations.append(Mutation("work_queue", row_id, summary, before, after))
        # The fleet's own work is FLEET in the queue, null in the audit.
        entries.append(Entry(shop_id or None, by, action, request_id, mutations))
    append_all(tx, entries, now)
    return tuple(WorkRef(row.id, row.queue, row.topic) for row in changed)
