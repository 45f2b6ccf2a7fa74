"""What pauses mean to a claim: which shops are held, and how fast a resumed backlog drains."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from services.ledger.topics import Topic

BURST_SECONDS = 2.5
"""A drain saves up tokens for this long: the sweep sends for a draining topic every two seconds."""

_FIND = """
select id, mode, shop_id, rate_per_second, drain_tokens, drained_at from pauses
 where (queue is null or queue = %(queue)s) and (topic is null or topic = %(topic)s) order by id
"""

_SPEND = "update pauses set drain_tokens = %(tokens)s, drained_at = %(now)s where id = %(id)s"


@dataclass(slots=True)
class ActivePauses:
    """The pauses of one topic: ``hold`` and ``refuse`` stop it, a drain limits it."""

    all_held: bool = False
    held_shops: set[int] = field(default_factory=set)
    drains: dict[int, float] = field(default_factory=dict)
    """Tokens by pause id."""

    def cap(self, share: int) -> int:
        """Return how many of ``share`` items the slowest drain lets through now."""
        return min([share, *map(int, self.drains.values())])

    def spend(self, tx: Connection, count: int, now: datetime) -> None:
        """Take ``count`` tokens from every drain."""
        for pause_id, tokens in self.drains.items():
            tx.exec_driver_sql(_SPEND, {"id": pause_id, "tokens": max(tokens - count, 0.0), "now": now})


def find_active_pauses(tx: Connection, topic: Topic, now: datetime) -> ActivePauses:
    """Return the pauses of ``topic``. Drains are locked, so that workers share their rate."""
    pauses = ActivePauses()
    values = {"queue": topic.queue, "topic": topic.name}
    rows = tx.exec_driver_sql(_FIND, values).all()
    if any(row.mode == "drain" for row in rows):
        rows = tx.exec_driver_sql(f"{_FIND} for update", values).all()
    for row in rows:
        if row.mode == "drain":
            rate = row.rate_per_second or 0.0
            elapsed = max((now - (row.drained_at or now)).total_seconds(), 0.0)
            most = max(rate * BURST_SECONDS, 1.0)
            pauses.drains[row.id] = min(row.drain_tokens + elapsed * rate, most)
        elif row.shop_id is None:
            pauses.all_held = True
        else:
            pauses.held_shops.add(row.shop_id)
    return pauses
