"""Changes of work by a person: requeue, discard, unlock.

Each is one statement with its audit in the caller's transaction. Rows that another transaction has locked are
skipped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.ledger.accept import WorkRef
from services.ledger.filters import FilterInvalid, WorkFilter
from services.ledger.tables import work_queue

DEFAULT_STATUSES = ("dead", "error")
"""The statuses that requeue and discard change unless the filter names others."""
MAY_REQUEUE = ("dead", "error", "discarded", "pending")
MAY_DISCARD = ("dead", "error", "pending")
_rows = work_queue.c
_SHOWN = (
    "id", "shop_id", "topic", "key", "status", "retry_count", "locked_at", "error_code", "created_at",
)  # fmt: skip
_UNLOCKED = {"locked_at": None, "locked_by": None, "lease_until": None, "dispatched_at": None}
_PENDING = _UNLOCKED | {
    "status": "pending",
    "retry_count": 0,
    "next_retry_at": None,
    "dispatch_count": 0,
    "result": None,
    "finished_at": None,
    "died_at": case((_rows.status == "dead", _rows.finished_at), else_=_rows.died_at),
}


@dataclass(frozen=True, slots=True)
class AffectedRows:
    """The number of rows that an action would change, also by shop, topic and status, and the first ten.

    ``left_out`` rows match too and stay as they are, because of their lock.
    """

    count: int
    examples: tuple[Mapping[str, Any], ...]
    groups: tuple[Mapping[str, Any], ...]
    left_out: int


def find_requeueable(tx: Connection, wanted: WorkFilter) -> AffectedRows:
    """Return the rows that ``requeue`` would change."""
    return _find(tx, _requeueable(wanted), _locked(wanted))


def requeue(tx: Connection, wanted: WorkFilter, **author: Unpack[Author]) -> tuple[WorkRef, ...]:
    """Make the rows ``pending`` and due now, with no tries counted; return them.

    ``last_error`` and ``error_code`` stay until the work is done. The caller may notify workers after its
    commit; otherwise the next sweep does.
    """
    return _change(tx, _requeueable(wanted), _PENDING, "work.requeue", "requeued", **author)


def find_discardable(tx: Connection, wanted: WorkFilter) -> AffectedRows:
    """Return the rows that ``discard`` would change."""
    return _find(tx, _discardable(wanted), _locked(wanted))


def discard(tx: Connection, wanted: WorkFilter, **author: Unpack[Author]) -> tuple[WorkRef, ...]:
    """Make the rows ``discarded``, which is final; return them. ``reason`` is required and audited."""
    if not author.get("reason", "").strip():
        raise FilterInvalid("reason is empty: give the reason why this work should not be done")
    final = {
        "status": "discarded",
        "next_retry_at": None,
        "result": "discarded",
        "finished_at": author["now"],
    }
    return _change(tx, _discardable(wanted), _UNLOCKED | final, "work.discard", "discarded", **author)


def find_stuck(tx: Connection, wanted: WorkFilter, *, older_than: timedelta, now: datetime) -> AffectedRows:
    """Return the rows that ``unlock`` would change."""
    stuck = _stuck(wanted, now - older_than)
    return _find(tx, stuck, _stuck(wanted, now) & ~stuck)


def unlock(
    tx: Connection, wanted: WorkFilter, *, older_than: timedelta, **author: Unpack[Author]
) -> tuple[WorkRef, ...]:
    """Unlock rows locked longer than ``older_than``; return them.

    The sweep frees expired leases; this is for a worker that hangs and still renews its lease. That worker
    cannot settle the rows afterwards.
    """
    stuck = _stuck(wanted, author["now"] - older_than)
    return _change(tx, stuck, _UNLOCKED, "work.unlock", "unlocked", **author)


def id_ranges(ids: Iterable[int]) -> str:
    """Return ``ids`` as ranges: ``101-164,170``. Pure."""
    runs = groupby(enumerate(sorted(ids)), key=lambda pair: pair[1] - pair[0])
    spans = [[item_id for _, item_id in run] for _, run in runs]
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _requeueable(wanted: WorkFilter) -> ColumnElement[bool]:
    why = "requeued: to repeat finished work, run `fleet events replay` for its event"
    return _unlocked(wanted, MAY_REQUEUE, why)


def _discardable(wanted: WorkFilter) -> ColumnElement[bool]:
    return _unlocked(wanted, MAY_DISCARD, "discarded: it is final")


def _unlocked(wanted: WorkFilter, allowed: tuple[str, ...], why: str) -> ColumnElement[bool]:
    for status in wanted.statuses:
        if status not in allowed:
            raise FilterInvalid(f"status={status!r} cannot be {why}; allowed are {', '.join(allowed)}")
    return _filled(wanted).where() & _rows.locked_at.is_(None)


def _locked(wanted: WorkFilter) -> ColumnElement[bool]:
    return _filled(wanted).where() & _rows.locked_at.is_not(None)


def _filled(wanted: WorkFilter) -> WorkFilter:
    return replace(wanted, statuses=wanted.statuses or DEFAULT_STATUSES)


def _stuck(wanted: WorkFilter, locked_before: datetime) -> ColumnElement[bool]:
    is_locked = _rows.status.in_(("pending", "error")) & _rows.locked_at.is_not(None)
    return wanted.where() & is_locked & (_rows.locked_at < locked_before)


def _find(tx: Connection, condition: ColumnElement[bool], left_out: ColumnElement[bool]) -> AffectedRows:
    by = [_rows.shop_id, _rows.topic, _rows.status]
    counted = select(*by, func.count().label("count")).where(condition).group_by(*by).order_by(*by)
    groups = tuple(dict(row) for row in tx.execute(counted).mappings())
    shown = [work_queue.c[name] for name in _SHOWN]
    rows = tx.execute(select(*shown).where(condition).order_by(_rows.id).limit(10)).mappings()
    others = tx.scalar(select(func.count()).select_from(work_queue).where(left_out)) or 0
    count = sum(group["count"] for group in groups)
    return AffectedRows(count, tuple(dict(row) for row in rows), groups, others)


def _change(
    tx: Connection,
    condition: ColumnElement[bool],
    values: Mapping[str, Any],
    action: str,
    done: str,
    **author: Unpack[Author],
) -> tuple[WorkRef, ...]:
    reason = author.get("reason", "")
    chosen = select(_rows.id, _rows.status).where(condition).with_for_update(skip_locked=True).cte("chosen")
    changed = tx.execute(
        update(work_queue)
        .where(_rows.id == chosen.c.id)
        .values(**values)
        .returning(_rows.id, _rows.shop_id, _rows.queue, _rows.topic, chosen.c.status.label("was"))
    ).all()
    after_status = {"status": values["status"]} if "status" in values else {"locked": False}
    # Work of the fleet has the shop id FLEET in the queue and null in the audit.
    groups: dict[tuple[int, str, str], list[int]] = {}
    for row in changed:
        groups.setdefault((row.shop_id, row.topic, row.was), []).append(row.id)
    mutations: dict[int | None, list[Mutation]] = {}
    for (shop_id, topic, was), ids in sorted(groups.items()):
        summary = f"{done} {len(ids)} of {topic} that were {was}" + (f": {reason}" if reason else "")
        after = {"ids": id_ranges(ids), "reason": reason, **after_status}
        row_id = str(ids[0]) if len(ids) == 1 else format_count(len(ids), "row")
        mutation = Mutation("work_queue", row_id, summary, {"status": was}, after)
        mutations.setdefault(shop_id or None, []).append(mutation)
    append_change(tx, action, mutations, **author)
    return tuple(WorkRef(row.id, row.queue, row.topic) for row in changed)
