"""Pauses of queues, topics, kinds of cost and shops, and drains of their backlog at a rate."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.audit.append import Author, Mutation, append_change
from services.core.times import format_time
from services.ledger.filters import FilterInvalid, check_scope
from services.ledger.tables import pauses
from services.ledger.topics import Topic

MODES = ("hold", "refuse")
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(?:/([sm]))?")

PAUSE_LINES = """
select case mode when 'drain' then 'draining' else 'pauses' end as kind, mode as label,
       coalesce(nullif(concat_ws(', ', 'queue ' || queue, 'topic ' || topic, 'cost ' || cost), ''),
                'everything') as name,
       shop_id, created_at as since, ends_at as until, created_by as by, reason as why
  from pauses
"""
"""Every pause and drain as a condition: see ``services.jobs.conditions``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseScope:
    """The queue, topic and shop that are paused. An empty field matches all.

    ``cost`` is a kind of metered cost: the topics whose specification has it, those of later versions too.
    """

    queue: str = ""
    topic: str = ""
    cost: str = ""
    shop_id: int | None = None

    def __post_init__(self) -> None:
        check_scope(self.queue, self.topic, self.cost)

    @property
    def names(self) -> tuple[str, str, str]:
        """Queue, topic and cost."""
        return self.queue, self.topic, self.cost

    @property
    def options(self) -> str:
        """The options of ``celery -A tasks resume`` that name the queue, the topic and the cost."""
        named = zip(("-Q", "--topic", "--cost"), self.names, strict=True)
        return " ".join(f"{option} {name}" for option, name in named if name)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the scope; NULL matches all."""
        texts = dict(zip(("queue", "topic", "cost"), self.names, strict=True))
        return {name: text or None for name, text in texts.items()} | {"shop_id": self.shop_id}

    def holds(self, topic: Topic) -> bool:
        """Return whether work of ``topic`` is in the scope, at its shop or at all shops."""
        of_topic = (topic.queue, topic.name, topic.cost)
        return all(name in ("", other) for name, other in zip(self.names, of_topic, strict=True))

    def where(self) -> ColumnElement[bool]:
        """Return the SQL condition for exactly this scope."""
        return and_(*(pauses.c[name].is_not_distinct_from(value) for name, value in self.columns.items()))

    def __str__(self) -> str:
        parts = [f"{name} {value}" for name, value in self.columns.items() if value is not None]
        return ", ".join(parts).replace("shop_id", "shop") or "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause in force. ``mode`` is ``hold``, ``refuse``, or ``drain`` while the backlog drains at a rate."""

    id: int
    scope: PauseScope
    mode: str
    rate_per_second: float | None
    created_at: datetime
    created_by: str
    reason: str
    ends_at: datetime | None
    """When the sweep ends it; None: a person resumes it."""


def describe_scope(scope: PauseScope, slugs: Mapping[int, str]) -> str:
    """Return ``scope`` as text with the slug of its shop. Pure."""
    slug = slugs.get(scope.shop_id or 0, "")
    return (
        str(scope).replace(f"shop {scope.shop_id}", f"shop {slug}") if scope.shop_id and slug else str(scope)
    )


def parse_rate(text: str) -> float:
    """Return items a second from ``20/s``, ``300/m`` or ``20``; raise ``FilterInvalid``. Pure."""
    match = _RATE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise FilterInvalid(
            f"{text!r} should be a number of items above 0 such as 20/s, 300/m or 0.5/s (no unit: a second)"
        )
    return float(match[1]) / (60 if match[2] == "m" else 1)


def format_rate(rate: float) -> str:
    """Return ``rate`` in items a second, or a minute if it is lower than 1: ``50 items/s``."""
    return f"{rate:g} items/s" if rate >= 1 else f"{60 * rate:g} items/min"


def check_mode(scope: PauseScope, mode: str) -> None:
    """Raise ``FilterInvalid`` unless ``scope`` can be paused in ``mode``."""
    if mode not in MODES:
        raise FilterInvalid(f"mode={mode!r} should be one of {', '.join(MODES)}")
    if scope.cost and mode != "hold":
        raise FilterInvalid(
            f"mode={mode!r} should be hold with cost={scope.cost!r}: no webhook belongs to a cost"
        )


def record_pause(
    tx: Connection,
    scope: PauseScope,
    mode: str,
    *,
    ends_at: datetime | None = None,
    **author: Unpack[Author],
) -> Pause:
    """Pause ``scope`` from the caller's commit on, until it is cleared or ``ends_at`` has passed.

    ``hold`` accepts events and starts no work; ``refuse`` also answers 503 to webhooks, so that providers
    send them again later. A pause or drain of the same scope is replaced.
    """
    now = author["now"]
    check_mode(scope, mode)
    if ends_at is not None and ends_at <= now:
        raise FilterInvalid(f"ends_at={ends_at.isoformat()} should be after now={now.isoformat()}")
    fresh = {
        "mode": mode,
        "rate_per_second": None,
        "drain_tokens": 0.0,
        "drained_at": None,
        "created_at": now,
        "created_by": author["by"],
        "reason": author.get("reason", ""),
        "ends_at": ends_at,
    }
    before = [_state(pause) for pause in _lock_pauses(tx, scope.where())]
    statement = insert(pauses).values(**scope.columns, **fresh)
    row = tx.execute(
        statement.on_conflict_do_update(constraint="uq_pauses_scope", set_=fresh).returning(pauses)
    ).one()
    made = _pause(row)
    until = f" until {format_time(ends_at, with_seconds=True)}" if ends_at else ""
    summary, after = f"paused {_name(tx, scope)} ({mode}){until}", scope.columns | _state(made)
    mutation = Mutation("pauses", str(scope), summary, before[0] if before else None, after)
    append_change(tx, "queue.pause", {scope.shop_id: [mutation]}, **author)
    return made


def clear_pauses(
    tx: Connection, scopes: Sequence[PauseScope], rate: float | None, **author: Unpack[Author]
) -> list[PauseScope]:
    """Resume ``scopes`` at once, or each at ``rate`` items a second until its backlog is gone.

    Returns the scopes that were paused.
    """
    if rate is not None and not 0 < rate <= 100_000:
        raise FilterInvalid(f"rate={rate:g} should be above 0 and at most 100000 items a second")
    if not scopes:
        return []
    return _clear(tx, or_(*(scope.where() for scope in scopes)), rate, **author)


def end_pauses(tx: Connection, now: datetime) -> list[PauseScope]:
    """End every pause whose ``ends_at`` has passed; its work is ready at once. Returns the scopes."""
    has_ended = pauses.c.ends_at <= now
    return _clear(tx, has_ended, None, now=now, by="sweep", reason="its time is over")


def list_pauses(tx: Connection) -> list[Pause]:
    """Return every pause and drain in force, oldest first."""
    return [_pause(row) for row in tx.execute(select(pauses).order_by(pauses.c.created_at, pauses.c.id))]


def _clear(
    tx: Connection, wanted: ColumnElement[bool], rate: float | None, **author: Unpack[Author]
) -> list[PauseScope]:
    held = _lock_pauses(tx, wanted)
    these = pauses.c.id.in_([pause.id for pause in held])
    if rate is None:
        tx.execute(delete(pauses).where(these))
    else:
        # The sweep ends a drain when no work older than ``created_at`` is left.
        draining = {"mode": "drain", "rate_per_second": rate, "drain_tokens": 0.0, "ends_at": None}
        began = {"drained_at": author["now"], "created_at": author["now"]}
        tx.execute(update(pauses).where(these).values(**draining, **began))
    how = "" if rate is None else f" at {format_rate(rate)}"
    after = {"mode": None if rate is None else "drain", "reason": author.get("reason", "")}
    for pause in held:
        scope = pause.scope
        mutation = Mutation(
            "pauses", str(scope), f"resumed {_name(tx, scope)}{how}", _state(pause), scope.columns | after
        )
        append_change(tx, "queue.resume", {scope.shop_id: [mutation]}, **author)
    return [pause.scope for pause in held]


def _name(tx: Connection, scope: PauseScope) -> str:
    slug = tx.exec_driver_sql("select slug from shops where id = %s", (scope.shop_id,)).scalar()
    return describe_scope(scope, {scope.shop_id or 0: slug or ""})


def _lock_pauses(tx: Connection, condition: ColumnElement[bool]) -> list[Pause]:
    """Lock the rows in the order of their ids, so that two callers do not deadlock."""
    rows = tx.execute(select(pauses).where(condition).order_by(pauses.c.id).with_for_update())
    return [_pause(row) for row in rows]


def _state(pause: Pause) -> dict[str, Any]:
    ends_at = pause.ends_at and pause.ends_at.isoformat()
    return {"mode": pause.mode, "reason": pause.reason, "ends_at": ends_at}


def _pause(row: Row[Any]) -> Pause:
    scope = PauseScope(queue=row.queue or "", topic=row.topic or "", cost=row.cost or "", shop_id=row.shop_id)
    names = [each.name for each in fields(Pause) if each.name != "scope"]
    return Pause(scope=scope, **{name: getattr(row, name) for name in names})
