"""The fleet's health, read from the database: heartbeats, waiting work, and figures per minute.

Beat and the sweep record heartbeats. The worker of a queue records one for each canary message it receives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from services.ledger.topics import QUEUES

HEARTBEAT_LIMIT = timedelta(seconds=30)
"""Beat and the sweep record a heartbeat every few seconds; recovery is promised within 60 s."""
LONGEST_LEASE = timedelta(minutes=10)
"""A lease that ends later than this does not prove that its worker is alive."""
CANARY_LIMIT = timedelta(seconds=90)
"""Canaries are sent every 15 s: after this time six in a row had no answer."""

Conditions = Mapping[str, Mapping[str, int]]
"""Counts of conditions by kind and label: ``{"pauses": {"hold": 2}, "p1_open": {"P1": 1}}``."""
DEGRADING = ("pauses", "draining", "connections_broken", "p1_open", "runs_failed", "jobs_overdue")
"""The kinds of conditions that make the fleet ``degraded``, with their names in ``/health``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """The sums over the topics of one queue, and the time of its worker's last canary."""

    queue: str
    depth: int
    """Unlocked items that are not final, including those that wait for a retry."""
    locked: int
    dead: int
    leased_until: datetime | None
    due_since: datetime | None
    last_processed_at: datetime | None
    items_per_minute: float
    error_rate: float | None
    """Failed tries divided by all tries, 0 to 1; None if there were no tries."""
    canary_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A reading. If ``database_latency_ms`` is None, the database did not answer and the rest is unknown."""

    database_latency_ms: float | None = None
    broker_latency_ms: float | None = None
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    drift: Mapping[str, Any] = field(default_factory=dict)
    conditions: Conditions | None = None
    """None if they could not be counted in time."""
    topics: Sequence[Row[Any]] = ()
    """See ``services.ledger.figures.list_topic_figures``; empty if they could not be counted in time."""

    @property
    def queues(self) -> list[QueueHealth]:
        """Every queue, in the order of ``QUEUES``; none if ``topics`` is empty."""
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
    """The status of a reading.

    ``status`` is ``ok``, ``degraded`` (webhooks are accepted, but something needs a person) or
    ``unavailable`` (no webhook can be recorded). ``is_down``: the database, the broker, a queue, beat or the
    sweep does not work, so the response is 503.
    """

    status: str
    is_down: bool
    missing: list[str]


def read_heartbeats(tx: Connection) -> Health:
    """Return the part of the health whose reading time does not depend on the backlog."""
    started = perf_counter()
    tx.execute(text("select 1"))
    latency_ms = (perf_counter() - started) * 1000
    rows = tx.execute(text("select name, at, case when name = 'drift' then detail end from heartbeats")).all()
    return Health(
        database_latency_ms=latency_ms,
        heartbeats={name: at for name, at, _ in rows},
        drift=next((detail for name, _, detail in rows if name == "drift"), {}) or {},
    )


def list_components_down(health: Health, now: datetime) -> list[str]:
    """Return the names of the components that do not work, database and broker first.

    A component whose state cannot be read is not missing: heartbeats need the database, canaries the broker.
    A worker that renews a lease is alive, even while canaries wait behind its work.
    """
    if health.database_latency_ms is None:
        return ["database"] + (["broker"] if health.broker_latency_ms is None else [])
    beats = health.heartbeats
    missing = [name for name in ("beat", "sweep") if _is_late(beats.get(name), now, HEARTBEAT_LIMIT)]
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
    """Return the status for routes, metrics and pages."""
    parts = list_components_down(health, now)
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
    """Return the number of conditions of each kind in ``DEGRADING``; None if they could not be counted."""
    if health.conditions is None:
        return dict.fromkeys(DEGRADING)
    return {kind: sum(health.conditions.get(kind, {}).values()) for kind in DEGRADING}


def describe_health(health: Health, now: datetime) -> dict[str, Any]:
    """Return the response of ``GET /health``, without shops, persons and reasons.

    Ages are in seconds with one decimal, latencies in milliseconds.
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
    """Return how long ago ``at`` was, never below zero (clocks differ); None if ``at`` is None."""
    return None if at is None else round(max(0.0, (now - at).total_seconds()), 1)


def _is_late(at: datetime | None, now: datetime, limit: timedelta) -> bool:
    # A time in the future proves nothing: a clock is wrong or was set back.
    return at is None or abs(now - at) > limit


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
