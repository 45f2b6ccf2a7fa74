"""What a pause means to a claim: which shops are held, and how fast a resumed backlog drains."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from services.ledger.topics import Topic

BURST_SECONDS = 2.5
"""A drain keeps the tokens of so long: the sweep sends for a draining topic every two seconds."""

_READ = """
select id, mode, shop_id, rate_per_second, drain_tokens, drained_at from pauses
 where (queue is null or queue = %(queue)s) and (topic is null or topic = %(topic)s) order by id
"""

_SPEND = """
update pauses set drain_tokens = %(left)s, drained_at = %(now)s where id = %(id)s
"""


@dataclass(slots=True)
class _Drain:
    id: int
    tokens: float


@dataclass(slots=True)
class ActivePauses:
    """The pauses that touch one topic. ``hold`` and ``refuse`` both keep workers away."""

    all_held: bool = False
    held_shops: set[int] = field(default_factory=set)
    drains: list[_Drain] = field(default_factory=list)

    def cap(self, share: int) -> int:
        """Return how much of ``share`` the slowest drain lets through now."""
        return min([share, *(int(drain.tokens) for drain in self.drains)])

    def spend(self, tx: Connection, count: int, now: datetime) -> None:
        """``count`` items went through every drain."""
        for drain in self.drains:
            left = max(drain.tokens - count, 0.0)
            tx.exec_driver_sql(_SPEND, {"id": drain.id, "left": left, "now": now})


def find_active_pauses(tx: Connection, topic: Topic, now: datetime) -> ActivePauses:
    """Return what pauses ``topic``. A drain's row is locked, so that workers share its rate."""
    scope = ActivePauses()
    values = {"queue": topic.queue, "topic": topic.name}
    rows = tx.exec_driver_sql(_READ, values).all()
    if any(row[1] == "drain" for row in rows):
        rows = tx.exec_driver_sql(_READ + " for update", values).all()
    for row in rows:
        if row[1] == "drain":
            rate, tokens, at = float(row[3] or 0), float(row[4]), row[5] or now
            elapsed = max((now - at).total_seconds(), 0.0)
            most = max(rate * BURST_SECONDS, 1.0)
            scope.drains.append(_Drain(row[0], min(tokens + elapsed * rate, most)))
        elif row[2] is None:
            scope.all_held = True
        else:
            scope.held_shops.add(int(row[2]))
    return scope
