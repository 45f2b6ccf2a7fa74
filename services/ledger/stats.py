"""What waits, what is in hand and what was lately done, per topic: counted in the ledger's own rows."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from services.ledger.topics import TOPICS

RATE_WINDOW = timedelta(minutes=5)
LAST_WINDOW = timedelta(hours=24)
"""How far back "last processed" looks; older is as good as never, and costs a long scan."""
FIGURES_TIMEOUT_MS = 1000
"""A backlog too long to count within this is left uncounted: the answer itself must come within 2 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFigures:
    """What waits, is in hand, and was lately done for one topic. Rates are over ``RATE_WINDOW``."""

    topic: str
    queue: str
    pending: int = 0
    error: int = 0
    dead: int = 0
    in_hand: int = 0
    leased_until: datetime | None = None
    """The latest lease in force; whoever works renews it, so a dead worker's is over within seconds."""
    due_since: datetime | None = None
    """When the longest-waiting item became ready to be taken; None when none is ready."""
    last_processed_at: datetime | None = None
    done_per_minute: float = 0.0
    failed_per_minute: float = 0.0


# Three parts, because each fits one partial index of the hot table; together they read no final row.
_WAITING = text("""
select topic, queue,
       count(*) filter (where status = 'pending' and locked_at is null) as pending,
       count(*) filter (where status = 'error' and locked_at is null) as error,
       count(*) filter (where status = 'dead') as dead,
       count(*) filter (where locked_at is not null and status <> 'dead') as in_hand,
       max(lease_until) filter (where locked_at is not null and status <> 'dead') as leased_until,
       min(coalesce(next_retry_at, created_at)) filter (
           where status <> 'dead' and locked_at is null
             and coalesce(next_retry_at, created_at) <= :now) as due_since
  from (select topic, queue, status, locked_at, lease_until, next_retry_at, created_at
          from work_queue
         where status in ('pending', 'error') and locked_at is null
        union all
        select topic, queue, status, locked_at, lease_until, next_retry_at, created_at
          from work_queue
         where status in ('pending', 'error') and locked_at is not null
        union all
        select topic, queue, status, locked_at, lease_until, next_retry_at, created_at
          from work_queue
         where status = 'dead') as open_items
 group by topic, queue
""")

_LATELY = text("""
select topic, max(last_at) as last_at,
       coalesce(sum(done) filter (where minute >= :rate_start), 0) as done,
       coalesce(sum(retried + dead) filter (where minute >= :rate_start), 0) as failed
  from work_stats where minute >= :last_start group by topic
""")


def find_figures(tx: Connection, now: datetime) -> tuple[TopicFigures, ...]:
    """Return each topic's figures; nothing when the backlog is too long to be counted in time."""
    rate_start = now.replace(second=0, microsecond=0) - RATE_WINDOW
    minutes = (now - rate_start) / timedelta(minutes=1)
    try:
        with tx.begin_nested():
            tx.execute(text(f"set local statement_timeout = {FIGURES_TIMEOUT_MS}"))
            waiting = {row.topic: row for row in tx.execute(_WAITING, {"now": now})}
            lately = {
                row.topic: row
                for row in tx.execute(_LATELY, {"rate_start": rate_start, "last_start": now - LAST_WINDOW})
            }
    except OperationalError as fault:
        if getattr(fault.orig, "sqlstate", None) == "57014":  # query_canceled: the timeout above
            return ()
        raise
    names = [*TOPICS, *sorted((waiting.keys() | lately.keys()) - TOPICS.keys())]
    return tuple(_figures(name, waiting.get(name), lately.get(name), minutes) for name in names)


def _figures(topic: str, waiting: Any, lately: Any, minutes: float) -> TopicFigures:
    return TopicFigures(
        topic=topic,
        queue=TOPICS[topic].queue if topic in TOPICS else getattr(waiting, "queue", ""),
        pending=getattr(waiting, "pending", 0),
        error=getattr(waiting, "error", 0),
        dead=getattr(waiting, "dead", 0),
        leased_until=getattr(waiting, "leased_until", None),
        in_hand=getattr(waiting, "in_hand", 0),
        due_since=getattr(waiting, "due_since", None),
        last_processed_at=getattr(lately, "last_at", None),
        done_per_minute=int(getattr(lately, "done", 0)) / minutes,
        failed_per_minute=int(getattr(lately, "failed", 0)) / minutes,
    )
