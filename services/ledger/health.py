"""How the fleet is, read from what it leaves behind: heartbeats, waiting rows, and figures per minute.

Nothing here asks a process whether it is well. Each one proves it by its work: beat and the sweep by a
heartbeat, a queue's worker by having answered a canary that travelled through the broker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from services.ledger.stats import TopicFigures, find_figures
from services.ledger.topics import QUEUES

QUIET_LIMIT = timedelta(seconds=30)
"""Beat and the sweep act every few seconds; the promise is to be whole again within 60."""
LONGEST_LEASE = timedelta(minutes=10)
"""A lease further ahead than this is no sign of life."""
CANARY_LIMIT = timedelta(seconds=90)
"""Canaries fly every 15 seconds: six in a row got lost, or wait behind a worker that is stuck."""

Conditions = Mapping[str, Mapping[str, int]]
"""Counts of what needs a person, by kind and label: ``{"pauses": {"hold": 2}, "p1_open": {"P1": 1}}``."""
DEGRADING = ("pauses", "draining", "connections_broken", "p1_open", "runs_failed", "jobs_overdue")
"""The kinds of conditions with which the fleet is ``degraded``, as ``/health`` names and counts them."""
_JOBS_WITHOUT_EVIDENCE = ("runs_failed", "jobs_overdue")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """One queue's figures: the sum over its topics, and the worker's last answered canary."""

    queue: str
    depth: int
    """Items that wait: ready, or for their next try. Not those in a worker's hand."""
    in_hand: int
    dead: int
    leased_until: datetime | None
    due_since: datetime | None
    last_processed_at: datetime | None
    items_per_minute: float
    error_rate: float | None
    """Failed tries over all tries, 0 to 1; None when there was none."""
    canary_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was read. ``database_latency_ms`` is None when the database did not answer, and then nothing
    below it is known; ``queues`` is empty when the backlog was too long to count in time."""

    database_latency_ms: float | None = None
    broker_latency_ms: float | None = None
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    drift: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions | None = None
    """None when they could not be counted in time."""
    topics: tuple[TopicFigures, ...] = ()
    queues: tuple[QueueHealth, ...] = ()


def read_health(tx: Connection, now: datetime) -> Health:
    """Return the fleet's health as the database tells it; ``broker_latency_ms`` is the caller's to add."""
    return with_figures(read_pulse(tx), find_figures(tx, now))


def read_pulse(tx: Connection) -> Health:
    """Return the part of the health that is read in a moment, however much work waits."""
    started = perf_counter()
    tx.execute(text("select 1"))
    latency_ms = (perf_counter() - started) * 1000
    rows = tx.execute(text("select name, at, case when name = 'drift' then detail end from heartbeats")).all()
    return Health(
        database_latency_ms=latency_ms,
        heartbeats={name: at for name, at, _ in rows},
        drift=next((detail for name, _, detail in rows if name == "drift"), {}) or {},
    )


def with_figures(health: Health, topics: Sequence[TopicFigures]) -> Health:
    """Return ``health`` with the figures of its topics and queues; with none when they could not be had."""
    if not topics:
        return health
    return replace(health, topics=tuple(topics), queues=sum_queues(topics, health.heartbeats))


def find_missing(health: Health, now: datetime) -> list[str]:
    """Return the names of the parts that stand still, most basic first; empty in peace.

    What cannot be known is not called missing: without the database nobody's heartbeat is readable,
    and without the broker no canary can reach a worker. A worker whose hands are full for minutes lets
    canaries wait, but it renews its lease: that too is a sign of life.
    """
    missing = []
    if health.database_latency_ms is None:
        missing.append("database")
    if health.broker_latency_ms is None:
        missing.append("broker")
    if "database" in missing:
        return missing
    missing += [name for name in ("beat", "sweep") if _is_late(health.heartbeats.get(name), now, QUIET_LIMIT)]
    if "broker" not in missing:
        busy = {
            queue.queue
            for queue in health.queues
            if queue.leased_until and now < queue.leased_until < now + LONGEST_LEASE
        }
        missing += [
            f"worker:{queue}"
            for queue in QUEUES
            if queue not in busy and _is_late(health.heartbeats.get(f"queue:{queue}"), now, CANARY_LIMIT)
        ]
    return missing


def find_jobs_without_evidence(health: Health) -> list[str]:
    """Return the names of the jobs that are overdue or whose newest run failed, in order."""
    found = health.conditions or {}
    return sorted({job for kind in _JOBS_WITHOUT_EVIDENCE for job in found.get(kind, {})})


class HealthStatus(NamedTuple):
    """What a reading comes to.

    ``status`` is ``ok``, ``degraded`` (webhooks are accepted, and something needs a person) or
    ``unavailable`` (no webhook can be recorded). ``stands_still``: that, or a queue, beat or the sweep
    does nothing; only then is the answer 503.
    """

    status: str
    stands_still: bool
    missing: list[str]


def classify_health(health: Health, now: datetime) -> HealthStatus:
    """Return the verdict that every route, metric and page shows."""
    parts = find_missing(health, now)
    missing = [*parts, *(f"job:{name}" for name in find_jobs_without_evidence(health))]
    if health.conditions is None and "database" not in parts:
        missing.append("conditions")
    if "database" in parts:
        return HealthStatus("unavailable", True, missing)
    is_degraded = bool(missing) or any(sum_conditions(health).values())
    return HealthStatus("degraded" if is_degraded else "ok", bool(parts), missing)


def sum_conditions(health: Health) -> dict[str, int | None]:
    """Return the number of conditions of each kind in ``DEGRADING``; None where it could not be counted."""
    if health.conditions is None:
        return dict.fromkeys(DEGRADING)
    return {kind: sum(health.conditions.get(kind, {}).values()) for kind in DEGRADING}


def describe_health(health: Health, now: datetime) -> dict[str, Any]:
    """Return what ``GET /health`` answers: states, codes and counts, no shop, person or reason.

    Ages are whole tenths of seconds, latencies milliseconds.
    """
    verdict = classify_health(health, now)
    conditions = health.conditions or {}
    return {
        "status": verdict.status,
        "missing": verdict.missing,
        **sum_conditions(health),
        "database": {"latency_ms": _rounded(health.database_latency_ms)},
        "broker": {"latency_ms": _rounded(health.broker_latency_ms)},
        "beat": {"age_seconds": age_seconds(health.heartbeats.get("beat"), now)},
        "sweep": {"age_seconds": age_seconds(health.heartbeats.get("sweep"), now)},
        "jobs": {
            "overdue": sorted(conditions.get("jobs_overdue", ())),
            "failed": sorted(conditions.get("runs_failed", ())),
        },
        "queues": {
            queue.queue: {
                "depth": queue.depth,
                "in_hand": queue.in_hand,
                "dead": queue.dead,
                "oldest_age_seconds": age_seconds(queue.due_since, now),
                "last_processed_at": queue.last_processed_at and queue.last_processed_at.isoformat(),
                "items_per_minute": _rounded(queue.items_per_minute),
                "error_rate": queue.error_rate if queue.error_rate is None else round(queue.error_rate, 4),
                "canary_age_seconds": age_seconds(queue.canary_at, now),
            }
            for queue in health.queues
        },
        "checked_at": now.isoformat(),
    }


def age_seconds(at: datetime | None, now: datetime) -> float | None:
    """Return how long ago ``at`` was, never below zero (clocks differ); None when it never was."""
    return None if at is None else round(max(0.0, (now - at).total_seconds()), 1)


def sum_queues(topics: Sequence[TopicFigures], heartbeats: Mapping[str, datetime]) -> tuple[QueueHealth, ...]:
    """Return every queue's figures, in the order of ``QUEUES``; a queue without topics has zeros."""
    return tuple(
        _sum_queue(queue, [t for t in topics if t.queue == queue], heartbeats.get(f"queue:{queue}"))
        for queue in QUEUES
    )


def _sum_queue(queue: str, topics: Sequence[TopicFigures], canary_at: datetime | None) -> QueueHealth:
    failed = sum(t.failed_per_minute for t in topics)
    tried = failed + sum(t.done_per_minute for t in topics)
    return QueueHealth(
        queue=queue,
        depth=sum(t.pending + t.error for t in topics),
        in_hand=sum(t.in_hand for t in topics),
        dead=sum(t.dead for t in topics),
        leased_until=max((t.leased_until for t in topics if t.leased_until), default=None),
        due_since=min((t.due_since for t in topics if t.due_since), default=None),
        last_processed_at=max((t.last_processed_at for t in topics if t.last_processed_at), default=None),
        items_per_minute=tried,
        error_rate=failed / tried if tried else None,
        canary_at=canary_at,
    )


def _is_late(at: datetime | None, now: datetime, limit: timedelta) -> bool:
    # A time ahead of ours proves no more than one long past: a clock was set back, or lies.
    return at is None or abs(now - at) > limit


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
