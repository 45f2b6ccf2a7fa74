"""The fleet's health, read from rows alone: heartbeats, waiting work, and figures per minute.

No process is asked whether it is well: beat and the sweep write a heartbeat, and a queue's worker answers a
canary that travelled through the broker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from services.ledger.topics import QUEUES

QUIET_LIMIT = timedelta(seconds=30)
"""Beat and the sweep act every few seconds; the promise is to be whole again within 60."""
LONGEST_LEASE = timedelta(minutes=10)
"""A lease further ahead than this is no sign of life."""
CANARY_LIMIT = timedelta(seconds=90)
"""Canaries are sent every 15 s: six in a row were lost, or wait behind a worker that hangs."""

Conditions = Mapping[str, Mapping[str, int]]
"""Counts of what needs a person, by kind and label: ``{"pauses": {"hold": 2}, "p1_open": {"P1": 1}}``."""
DEGRADING = ("pauses", "draining", "connections_broken", "p1_open", "runs_failed", "jobs_overdue")
"""The kinds of conditions with which the fleet is ``degraded``, as ``/health`` names and counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """One queue: the sum over its topics, and its worker's last answered canary."""

    queue: str
    depth: int
    """Unlocked items: ready, or waiting for their next try."""
    locked: int
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
    """What was read. Without ``database_latency_ms`` the database did not answer, and the rest is unknown."""

    database_latency_ms: float | None = None
    broker_latency_ms: float | None = None
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    drift: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions | None = None
    """None when they could not be counted in time."""
    topics: Sequence[Row[Any]] = ()
    """See ``services.ledger.figures.find_figures``; empty when they could not be counted in time."""

    @property
    def queues(self) -> list[QueueHealth]:
        """Every queue, in the order of ``QUEUES``; none where ``topics`` is empty."""
        return [self._sum_queue(queue) for queue in QUEUES] if self.topics else []

    def _sum_queue(self, queue: str) -> QueueHealth:
        topics = [topic for topic in self.topics if topic.queue == queue]
        failed = sum(topic.failed_per_minute for topic in topics)
        tried = failed + sum(topic.done_per_minute for topic in topics)

        def times(name: str) -> list[datetime]:
            return [at for topic in topics if (at := getattr(topic, name)) is not None]

        return QueueHealth(
            queue=queue,
            depth=sum(topic.waiting + topic.error for topic in topics),
            locked=sum(topic.locked for topic in topics),
            dead=sum(topic.dead for topic in topics),
            leased_until=max(times("leased_until"), default=None),
            due_since=min(times("due_since"), default=None),
            last_processed_at=max(times("last_processed_at"), default=None),
            items_per_minute=tried,
            error_rate=failed / tried if tried else None,
            canary_at=self.heartbeats.get(f"queue:{queue}"),
        )


class HealthStatus(NamedTuple):
    """The result of a reading.

    ``status`` is ``ok``, ``degraded`` (webhooks are accepted, and something needs a person) or
    ``unavailable`` (no webhook can be recorded). ``stands_still``: that, or a queue, beat or the sweep
    does nothing; only then is the answer 503.
    """

    status: str
    stands_still: bool
    missing: list[str]


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


def find_missing(health: Health, now: datetime) -> list[str]:
    """Return the names of the parts that stand still, most basic first.

    A part whose state cannot be read is not missing: no heartbeat without the database, no canary without
    the broker. A worker that renews a lease is alive, even while canaries wait behind its work.
    """
    if health.database_latency_ms is None:
        return ["database"] + (["broker"] if health.broker_latency_ms is None else [])
    beats = health.heartbeats
    missing = [name for name in ("beat", "sweep") if _is_late(beats.get(name), now, QUIET_LIMIT)]
    if health.broker_latency_ms is None:
        return ["broker", *missing]
    busy = {
        queue.queue
        for queue in health.queues
        if queue.leased_until and now < queue.leased_until < now + LONGEST_LEASE
    }
    return missing + [
        f"worker:{queue}"
        for queue in QUEUES
        if queue not in busy and _is_late(beats.get(f"queue:{queue}"), now, CANARY_LIMIT)
    ]


def classify_health(health: Health, now: datetime) -> HealthStatus:
    """Return the status that every route, metric and page shows."""
    parts = find_missing(health, now)
    conditions = health.conditions or {}
    jobs = sorted({*conditions.get("runs_failed", ()), *conditions.get("jobs_overdue", ())})
    missing = [*parts, *(f"job:{name}" for name in jobs)]
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
    status = classify_health(health, now)
    conditions = health.conditions or {}
    return {
        "status": status.status,
        "missing": status.missing,
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
                "in_hand": queue.locked,
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


def _is_late(at: datetime | None, now: datetime, limit: timedelta) -> bool:
    # A time ahead of ours proves no more than an old one: a clock is wrong or was set back.
    return at is None or abs(now - at) > limit


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
