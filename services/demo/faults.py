"""Faults that the demo causes on purpose."""

import time
from dataclasses import asdict, dataclass

import redis
from sqlalchemy import text

from services.core.db import transaction
from services.fleet.processes import Supervisor

WAIT_FOR_WORK_SECONDS = 5.0

_LOCKED = text(
    "select count(*) from work_queue where topic = :topic and locked_by like :worker"
    " and locked_at is not null and status in ('pending', 'error')"
)


@dataclass(frozen=True, slots=True)
class Throttle:
    """A bucket of cost points for the sandbox; one call that pushes costs 10.

    It starts below zero: a day has so few push calls that a small bucket would throttle none of them.
    """

    maximum: float = 100.0
    restore_per_second: float = 60.0
    available: float = -300.0

    def as_control(self, domain: str) -> dict[str, object]:
        """Return the control request that makes ``domain`` throttle."""
        return {"shop": domain, "bucket": asdict(self)}


def flush_broker(url: str) -> int:
    """Delete everything in the broker; return the number of keys."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        count = int(client.dbsize())
        client.flushall()
    return count


def kill_with_locked_work(supervisor: Supervisor, name: str, topic: str) -> int:
    """Kill worker ``name`` while it has locked items of ``topic``, or after a few seconds without one.

    Return how many items it had locked; the supervisor restarts it.
    """
    deadline = time.monotonic() + WAIT_FOR_WORK_SECONDS
    locked = 0
    while not locked and time.monotonic() < deadline:
        with transaction() as tx:
            locked = int(tx.scalar(_LOCKED, {"topic": topic, "worker": f"{name}@%"}) or 0)
        time.sleep(0.01)
    supervisor.kill(name)
    return locked
