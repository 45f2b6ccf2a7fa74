"""The fleet's health, read from the database: heartbeats, waiting work, and figures per minute.

Beat's heartbeat is its last message to the broker. The sweep records one for each run, and the worker of a
queue one for each canary message it receives.
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

_HEARTBEATS = """
select name, at, case when name = 'drift' then detail end as detail, detail ->> 'worker' as worker,
       (detail ->> 'since')::timestamptz as since, (detail ->> 'refused_at')::timestamptz as refused_at
  from heartbeats where name <> 'release'
"""
_LEASES = """
select queue, max(lease_until) as until from work_queue
 where status in ('pending', 'error') and locked_at is not null and lease_until is not null group by queue
"""

Conditions = Mapping[str, Mapping[str, int]]
"""Counts of conditions by kind and label: ``{"pauses": {"hold": 2}, "p1_open": {"P1": 1}}``."""
DEGRADING = (
    "pauses", "draining", "connections_broken", "p1_open", "alert_channels_failed", "runs_failed",
    "jobs_overdue",
)  # fmt: skip
"""The kinds of conditions that make the fleet ``degraded``, with their names in ``/health``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """The sums over the topics of one queue, and the time of its worker's last canary."""

    queue: str
    waiting: int
    """Unlocked items that are due or not tried yet."""
    locked: int
    error: int
    """Items that wait for a retry."""
    dead: int
    leased_until: datetime | None
    due_since: datetime | None
    last_processed_at: datetime | None
    items_per_minute: float
    error_rate: float | None
    """Failed tries divided by all tries, 0 to 1; None if there were no tries."""
    canary_at: datetime | None

    @property
    def depth(self) -> int:
        """Unlocked items that are not final."""
        return self.waiting + self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A reading. If ``database_latency_ms`` is None, the database did not answer and the rest is unknown."""

    database_latency_ms: float | None = None
    broker_latency_ms: float | None = None
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    sending_since: datetime | None = None
    """Since when beat's messages reach the broker, without a gap longer than ``HEARTBEAT_LIMIT``."""
    refused_at: datetime | None = None
    """When the broker last took no message of beat; None since it took one."""
    drift: Mapping[str, Any] = field(default_factory=dict)
    workers: Mapping[str, str] = field(default_factory=dict)
    """Node name and process id of the worker that last answered a canary, by queue: ``ops@vm:12``."""
    leases: Mapping[str, datetime] = field(default_factory=dict)
    """The end of the latest lease by queue, for a reading without ``topics``."""
    conditions: Conditions | None = None
    """None if they could not be counted in time."""
    topics: Sequence[Row[Any]] = ()
    """See ``services.ledger.backlog.list_topic_figures``; empty if they could not be counted in time."""

    @property
    def queues(self) -> list[QueueHealth]:
        """Every queue, in the order of ``QUEUES``; none if ``topics`` is empty."""
        return [self._sum_queue(queue) for queue in QUEUES] if self.topics else []

    def find_node(self, queue: str) -> str:
        """Return the node name of the worker that last answered a canary of ``queue``; empty: none did."""
        return self.workers.get(queue, "").rpartition(":")[0]

    def _sum_queue(self, queue: str) -> QueueHealth:
        topics = [topic for topic in self.topics if topic.queue == queue]
        failed = sum(topic.failed_per_minute for topic in topics)
        tried = failed + sum(topic.done_per_minute for topic in topics)

        def times(name: str) -> list[datetime]:
            return [at for topic in topics if (at := getattr(topic, name)) is not None]

        return QueueHealth(
            queue=queue,
            waiting=sum(topic.waiting for topic in topics),
            locked=sum(topic.locked for topic in topics),
            error=sum(topic.error for topic in topics),
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

    ``status`` is ``ok``, ``degraded`` (all parts work, but something needs a person), ``down`` (webhooks are
    accepted, but the broker, a queue, beat or the sweep does not work) or ``unavailable`` (no webhook can be
    recorded). ``is_down``: it is one of the last two, so the response is 503.
    """

    status: str
    is_down: bool
    failing: list[str]
    """Components that do not work, jobs (``job:<job>``) with a failed or overdue run, and failing channels
    of the alerts (``alerts:<channel>``)."""


def read_heartbeats(tx: Connection) -> Health:
    """Return the part of the health whose reading time does not depend on the backlog."""
    started = perf_counter()
    tx.execute(text("select 1"))
    latency_ms = (perf_counter() - started) * 1000
    rows = {row.name: row for row in tx.exec_driver_sql(_HEARTBEATS)}
    beat, drift = rows.get("beat"), rows.get("drift")
    return Health(
        database_latency_ms=latency_ms,
        heartbeats={name: row.at for name, row in rows.items()},
        sending_since=beat.since if beat else None,
        refused_at=beat.refused_at if beat else None,
        drift=(drift.detail if drift else None) or {},
        workers={name.removeprefix("queue:"): row.worker for name, row in rows.items() if row.worker},
    )


def read_leases(tx: Connection) -> Mapping[str, datetime]:
    """Return the end of the latest lease of each queue. Reads only locked items."""
    return {row.queue: row.until for row in tx.exec_driver_sql(_LEASES)}


def list_components_down(health: Health, now: datetime) -> list[str]:
    """Return the names of the components that do not work, database and broker first.

    A component whose state cannot be read does not count. Heartbeats need the database. The sweep and the
    workers need beat's messages, and beat needs the broker: if beat is late, they count only if they were
    late before; if the broker takes no message of a beat that tries, the broker counts. A
    worker that renews a lease is alive, even while the canaries of all its queues wait behind its work.
    """
    if health.database_latency_ms is None:
        return ["database"] + (["broker"] if health.broker_latency_ms is None else [])
    if health.broker_latency_ms is None:
        return ["broker"]
    beats, until, down = health.heartbeats, now, []
    if _is_late(beats.get("beat"), now, HEARTBEAT_LIMIT):
        down = ["beat" if _is_late(health.refused_at, now, HEARTBEAT_LIMIT) else "broker"]
        if "beat" not in beats:
            return down
        until = min(now, beats["beat"])

    def is_late(name: str, limit: timedelta) -> bool:
        at = beats.get(name)
        if at is None or at > now:
            return _is_late(at, now, limit)
        return until - max(at, health.sending_since or at) > limit

    if is_late("sweep", HEARTBEAT_LIMIT):
        down.append("sweep")
    leases = {queue.queue: queue.leased_until for queue in health.queues} | {**health.leases}
    busy = [queue for queue, until in leases.items() if until and now < until < now + LONGEST_LEASE]
    return down + [
        f"worker:{queue}"
        for queue in QUEUES
        if is_late(f"queue:{queue}", CANARY_LIMIT) and not _is_behind(health, queue, busy)
    ]


def _is_behind(health: Health, queue: str, busy: Sequence[str]) -> bool:
    """Return whether canaries of ``queue`` wait behind work of ``busy`` queues, as those do too."""
    node, beats = health.find_node(queue), health.heartbeats
    return queue in busy or any(
        node and node == health.find_node(other) and beats[f"queue:{other}"] - at <= HEARTBEAT_LIMIT
        for other in busy
        if (at := beats.get(f"queue:{queue}"))
    )


def classify_health(health: Health, now: datetime) -> HealthStatus:
    """Return the status for routes, metrics and pages."""
    parts = list_components_down(health, now)
    conditions = health.conditions or {}
    jobs = sorted({*conditions.get("runs_failed", ()), *conditions.get("jobs_overdue", ())})
    failing = [*parts, *(f"job:{name}" for name in jobs)]
    failing += [f"alerts:{channel}" for channel in sorted(conditions.get("alert_channels_failed", ()))]
    if health.conditions is None and "database" not in parts:
        failing.append("conditions")
    if "database" in parts:
        return HealthStatus("unavailable", True, failing)
    if parts:
        return HealthStatus("down", True, failing)
    is_degraded = bool(failing) or any(sum_conditions(health).values())
    return HealthStatus("degraded" if is_degraded else "ok", False, failing)


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
        "failing": status.failing,
        "missing": status.failing,  # the former name, until 0.3
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
                "waiting": queue.waiting,
                "locked": queue.locked,
                "error": queue.error,
                "dead": queue.dead,
                "in_hand": queue.locked,  # the former name, until 0.3
                "has_worker": f"worker:{queue.queue}" not in status.failing,
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
