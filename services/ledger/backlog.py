"""What waits, per queue and topic, and how far the broker's messages are from the ledger's rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from services.ledger.topics import QUEUES, TOPICS


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicBacklog:
    """One topic's rows that are not final. ``waiting``: pending, in no worker's hand; ``due`` may run now."""

    queue: str
    topic: str
    waiting: int = 0
    due: int = 0
    locked: int = 0
    error: int = 0
    dead: int = 0
    oldest_waiting_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDrift:
    """Rows that are due in the ledger beside messages in the broker; ``messages`` None: the broker is away.

    One message may stand for a set of rows, so a drift above zero is usual under load. What is wrong is a
    drift that stays while the queue stands still: then the sweep is not sending. Below zero, messages
    outlived their rows and will find nothing to claim.
    """

    queue: str
    due: int
    messages: int | None

    @property
    def drift(self) -> int | None:
        """Due rows less messages, or None when nobody can tell."""
        return None if self.messages is None else self.due - self.messages


# Three parts, each with the very predicate of a partial index: the final rows, which may be a hundred
# million, are never read.
_BACKLOG = text(
    """
    select queue, topic, sum(waiting)::int as waiting, sum(due)::int as due, sum(locked)::int as locked,
           sum(error)::int as error, sum(dead)::int as dead,
           extract(epoch from cast(:now as timestamptz) - min(oldest))::float8 as oldest_waiting_seconds
      from (
        select queue, topic, count(*) filter (where status = 'pending') as waiting,
               count(*) filter (where coalesce(next_retry_at, created_at) <= :now) as due, 0 as locked,
               count(*) filter (where status = 'error') as error, 0 as dead,
               min(created_at) filter (where status = 'pending') as oldest
          from work_queue where status in ('pending', 'error') and locked_at is null group by 1, 2
        union all
        select queue, topic, 0, 0, count(*), 0, 0, null
          from work_queue where status in ('pending', 'error') and locked_at is not null group by 1, 2
        union all
        select queue, topic, 0, 0, 0, 0, count(*), null
          from work_queue where status in ('dead', 'discarded') and status = 'dead' group by 1, 2
      ) parts
     group by queue, topic
    """
)


def read_backlog(tx: Connection, now: datetime) -> list[TopicBacklog]:
    """Return every topic's backlog in the order of the topic table; a topic with nothing to do has zeros.

    A topic that this version no longer knows is listed last, under the queue its rows name.
    """
    rows = tx.execute(_BACKLOG, {"now": now}).mappings()
    found = {(row["queue"], row["topic"]): TopicBacklog(**row) for row in rows}
    known = {(topic.queue, topic.name) for topic in TOPICS.values()}
    listed = [
        found.get((topic.queue, topic.name), TopicBacklog(queue=topic.queue, topic=topic.name))
        for topic in sorted(TOPICS.values(), key=lambda topic: QUEUES.index(topic.queue))
    ]
    return listed + [found[place] for place in sorted(found) if place not in known]


def with_broker(backlog: Sequence[TopicBacklog], depths: Mapping[str, int] | None) -> list[QueueDrift]:
    """Return due rows and messages side by side for every queue. Pure."""
    names = [*QUEUES, *sorted({row.queue for row in backlog} - set(QUEUES))]
    return [
        QueueDrift(
            queue=name,
            due=sum(row.due for row in backlog if row.queue == name),
            messages=None if depths is None else depths.get(name, 0),
        )
        for name in names
    ]
