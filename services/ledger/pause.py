"""Pauses: which queue, topic or shop stands still, and how fast it drains again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Mutation, append_audit
from services.ledger.filters import FilterInvalid, check_scope
from services.ledger.tables import pauses

MODES = ("hold", "refuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseScope:
    """What stands still. An empty field means every one, so the empty scope is the whole fleet."""

    queue: str = ""
    topic: str = ""
    shop_id: int | None = None

    def __post_init__(self) -> None:
        check_scope(self.queue, self.topic)

    @property
    def columns(self) -> dict[str, Any]:
        """The scope as the table keeps it: NULL means every one."""
        return {"queue": self.queue or None, "topic": self.topic or None, "shop_id": self.shop_id}

    def where(self) -> ColumnElement[bool]:
        """Return the condition for exactly this scope, neither wider nor narrower."""
        return and_(*(pauses.c[name].is_not_distinct_from(value) for name, value in self.columns.items()))

    def __str__(self) -> str:
        parts = [f"{name} {value}" for name, value in self.columns.items() if value is not None]
        return ", ".join(parts).replace("shop_id", "shop") or "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause that is in force. ``mode`` is ``hold``, ``refuse`` or, on the way back, ``drain``."""

    id: int
    scope: PauseScope
    mode: str
    rate_per_second: float | None
    created_at: datetime
    created_by: str
    reason: str


def record_pause(
    tx: Connection,
    scope: PauseScope,
    mode: str,
    *,
    now: datetime,
    by: str,
    reason: str = "",
    request_id: str = "",
) -> Pause:
    """``scope`` stands still from the caller's commit on, and stays so until it is cleared.

    ``hold`` accepts and keeps events and starts no work; ``refuse`` also answers 503 to webhooks, so their
    providers send them again later. Pausing what is paused or draining replaces its mode.
    """
    if mode not in MODES:
        raise FilterInvalid(f"mode={mode!r} should be one of {', '.join(MODES)}")
    fresh = {
        "mode": mode,
        "rate_per_second": None,
        "drain_tokens": 0.0,
        "drained_at": None,
        "created_at": now,
        "created_by": by,
        "reason": reason,
    }
    before = _find_state(tx, scope)
    statement = insert(pauses).values(**scope.columns, **fresh)
    tx.execute(statement.on_conflict_do_update(constraint="uq_pauses_scope", set_=fresh))
    after = {**scope.columns, "mode": mode, "reason": reason}
    _audit(tx, scope, "queue.pause", f"paused {scope} ({mode})", before, after, now, by, request_id)
    return next(pause for pause in find_pauses(tx) if pause.scope == scope)


def clear_pause(
    tx: Connection,
    scope: PauseScope,
    rate: float | None,
    *,
    now: datetime,
    by: str,
    reason: str = "",
    request_id: str = "",
) -> bool:
    """``scope`` moves again: at once, or at ``rate`` items a second until what waited has drained.

    Returns False, and changes nothing, when exactly this scope is not paused.
    """
    if rate is not None and not 0 < rate <= 100_000:
        raise FilterInvalid(f"rate={rate:g} should be above 0 and at most 100000 items a second")
    before = _find_state(tx, scope)
    if before is None:
        return False
    if rate is None:
        tx.execute(delete(pauses).where(scope.where()))
        summary = f"resumed {scope}"
    else:
        # ``created_at`` marks the backlog to drain: the sweep ends a drain once all older work is gone.
        draining = {
            "mode": "drain",
            "rate_per_second": rate,
            "drain_tokens": 0.0,
            "drained_at": now,
            "created_at": now,
        }
        tx.execute(update(pauses).where(scope.where()).values(**draining))
        summary = f"resumed {scope} at {rate:g} a second"
    after = {**scope.columns, "mode": "drain" if rate else None, "reason": reason}
    _audit(tx, scope, "queue.resume", summary, before, after, now, by, request_id)
    return True


def find_pauses(tx: Connection) -> list[Pause]:
    """Return every pause and drain in force, oldest first."""
    rows = tx.execute(select(pauses).order_by(pauses.c.created_at, pauses.c.id))
    return [
        Pause(
            id=row.id,
            scope=PauseScope(queue=row.queue or "", topic=row.topic or "", shop_id=row.shop_id),
            mode=row.mode,
            rate_per_second=row.rate_per_second,
            created_at=row.created_at,
            created_by=row.created_by,
            reason=row.reason,
        )
        for row in rows
    ]


def _find_state(tx: Connection, scope: PauseScope) -> dict[str, Any] | None:
    wanted = select(pauses.c.mode, pauses.c.reason).where(scope.where()).with_for_update()
    row = tx.execute(wanted).mappings().one_or_none()
    return dict(row) if row else None


def _audit(
    tx: Connection,
    scope: PauseScope,
    action: str,
    summary: str,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    now: datetime,
    by: str,
    request_id: str,
) -> None:
    append_audit(
        tx,
        shop_id=scope.shop_id,
        staff_label=by,
        action=action,
        request_id=request_id,
        now=now,
        mutations=[Mutation("pauses", str(scope), summary, before, after)],
    )
