"""What goes wrong during the demo, on purpose."""

import time
from dataclasses import asdict, dataclass

import redis
from sqlalchemy import text

from services.core.db import transaction
from services.fleet.processes import Supervisor

WAIT_FOR_WORK_SECONDS = 5.0

_IN_HAND = text(
    "select count(*) from work_queue where topic = :topic and locked_by like :worker"
    " and locked_at is not null and status in ('pending', 'error')"
)


@dataclass(frozen=True, slots=True)
class Throttle:
    """A bucket of cost points as the sandbox takes it; one call that pushes costs 10.

    It begins overdrawn: so few calls carry a day's pushes that a small bucket would throttle none of them.
    """

    maximum: float = 100.0
    restore_per_second: float = 60.0
    available: float = -300.0

    def as_control(self, domain: str) -> dict[str, object]:
        """Return what the sandbox is told to have ``domain`` throttle at once."""
        return {"shop": domain, "bucket": asdict(self)}


def flush_broker(url: str) -> int:
    """Everything the broker held is gone. Returns how many keys that were."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        count = int(client.dbsize())
        client.flushall()
    return count


def kill_with_work_in_hand(supervisor: Supervisor, name: str, topic: str) -> int:
    """Worker ``name`` gets SIGKILL while it holds items of ``topic``, if it does within a few seconds.

    Returns how many it held at the last look; the supervisor starts it again.
    """
    deadline = time.monotonic() + WAIT_FOR_WORK_SECONDS
    held = 0
    while not held and time.monotonic() < deadline:
        with transaction() as tx:
            held = int(tx.scalar(_IN_HAND, {"topic": topic, "worker": f"{name}@%"}) or 0)
        time.sleep(0.01)
    supervisor.kill(name)
    return held
