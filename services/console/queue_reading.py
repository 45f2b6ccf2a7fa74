"""Reads the queues for ``/queues``: the ledger's figures and the messages of the broker."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from services.console.shared_reader import KEEP_SECONDS, QUICK_SECONDS, SharedReader
from services.core.broker import Sender
from services.core.clock import utc_now
from services.ledger.backlog import QueueDrift, measure_drift
from services.ledger.health import Health, QueueHealth, age_seconds, classify_health
from services.ledger.health_check import HealthCheck
from services.ledger.topics import QUEUES

KEEP_TIMES_COST = 200
"""A reading is reused for this many times its duration: any number of viewers costs 0.5% of a core.

Each request of a viewer reads pauses and the person too: 20 viewers cost 0.7% of a core more.
"""

CountMessages = Callable[[Sequence[str]], Mapping[str, int] | None]
"""Counts the messages of queues; None without the broker."""


class QueuesReading(NamedTuple):
    """The health of the fleet and the messages in the broker, as they were ``at``."""

    at: datetime
    health: Health
    messages: Mapping[str, int] | None


class QueueLine(NamedTuple):
    """A queue or one of its topics; ages in seconds. A topic has no ``drift`` and no ``worker_age``."""

    name: str
    ready: int
    locked: int
    retrying: int
    dead: int
    oldest: float | None
    done_per_minute: float
    failed_per_minute: float
    last: float | None
    drift: QueueDrift | None = None
    worker_age: float | None = None
    worker: str = ""
    has_worker: bool = True

    @property
    def is_idle(self) -> bool:
        """Whether no work is open or dead, and none was tried in the last minutes."""
        return not any(self[1:5]) and not self.done_per_minute and not self.failed_per_minute


class QueueReader(SharedReader[QueuesReading]):
    """Reads the queues for all viewers of a process."""

    def __init__(
        self,
        probe: HealthCheck,
        keep_seconds: float = KEEP_SECONDS,
        keep_times_cost: float = KEEP_TIMES_COST,
        quick_seconds: float = QUICK_SECONDS,
        count_messages: CountMessages | None = None,
    ) -> None:
        count = count_messages or Sender().count_messages

        def read() -> QueuesReading:
            return QueuesReading(utc_now(), probe.read(), count(QUEUES))

        super().__init__(
            "queues",
            read,
            keep_seconds=keep_seconds,
            keep_times_cost=keep_times_cost,
            quick_seconds=quick_seconds,
        )


def list_queue_lines(reading: QueuesReading) -> list[tuple[QueueLine, list[QueueLine]]]:
    """Return each queue with its topics; nothing if they could not be counted in time. Pure."""
    health, at = reading.health, reading.at
    failing = classify_health(health, at).failing
    drifts = {one.queue: one for one in measure_drift(health.topics, reading.messages)}
    return [
        (
            _queue_line(queue, health, drifts[queue.queue], at, failing),
            [_topic_line(topic, at) for topic in health.topics if topic.queue == queue.queue],
        )
        for queue in health.queues
    ]


def _queue_line(
    queue: QueueHealth, health: Health, drift: QueueDrift, at: datetime, failing: Sequence[str]
) -> QueueLine:
    failed = queue.items_per_minute * (queue.error_rate or 0.0)
    return QueueLine(
        queue.queue, drift.due, queue.locked, queue.error, queue.dead,
        age_seconds(queue.due_since, at), queue.items_per_minute - failed, failed,
        age_seconds(queue.last_processed_at, at), drift, age_seconds(queue.canary_at, at),
        health.workers.get(queue.queue, ""), f"worker:{queue.queue}" not in failing,
    )  # fmt: skip


def _topic_line(topic: Row[Any], at: datetime) -> QueueLine:
    return QueueLine(
        topic.topic, topic.due, topic.locked, topic.error, topic.dead,
        age_seconds(topic.due_since, at), topic.done_per_minute, topic.failed_per_minute,
        age_seconds(topic.last_processed_at, at),
    )  # fmt: skip
