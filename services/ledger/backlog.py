"""Figures by topic: waiting, locked and recently settled work, and the drift between ledger and broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import OperationalError

from services.ledger.tables import TOTAL
from services.ledger.topics import QUEUES, TOPICS

RATE_WINDOW = timedelta(minutes=5)
FIGURES_TIMEOUT_MS = 1000
"""A backlog that takes longer to count is left out: ``/health`` answers within 2 s."""

_KNOWN = sorted(TOPICS.values(), key=lambda topic: QUEUES.index(topic.queue))

# Known topics with zeros, then three parts, each with exactly the predicate of a partial index, so that final
# rows (possibly a hundred million) are not read.
_WORK = """
select queue, topic, sum(waiting)::int as waiting, sum(due)::int as due, sum(locked)::int as locked,
       sum(error)::int as error, sum(dead)::int as dead,
       extract(epoch from %(now)s::timestamptz - min(oldest))::float8 as oldest_waiting_seconds,
       min(due_since) as due_since, max(leased_until) as leased_until
  from (
    select queue, topic, 0 as waiting, 0 as due, 0 as locked, 0 as error, 0 as dead,
           null::timestamptz as oldest, null::timestamptz as due_since, null::timestamptz as leased_until
      from unnest(%(queue)s::text[], %(topic)s::text[]) as known(queue, topic)
    union all
    select queue, topic, count(*) filter (where status = 'pending'),
           count(*) filter (where coalesce(next_retry_at, created_at) <= %(now)s), 0,
           count(*) filter (where status = 'error'), 0, min(created_at) filter (where status = 'pending'),
           min(coalesce(next_retry_at, created_at))
             filter (where coalesce(next_retry_at, created_at) <= %(now)s), null
      from work_queue where status in ('pending', 'error') and locked_at is null group by 1, 2
    union all
    select queue, topic, 0, 0, count(*), 0, 0, null, null, max(lease_until)
      from work_queue where status in ('pending', 'error') and locked_at is not null group by 1, 2
    union all
    select queue, topic, 0, 0, 0, 0, count(*), null, null, null
      from work_queue where status in ('dead', 'discarded') and status = 'dead' group by 1, 2
  ) parts
 group by queue, topic
"""

_ORDER = "order by array_position(%(topic)s::text[], topic), queue, topic"

_BACKLOG = f"""
select queue, topic, waiting, due, locked, error, dead, oldest_waiting_seconds from ({_WORK}) work {_ORDER}
"""  # noqa: S608 - constants only

_FIGURES = f"""
select work.*, last_processed_at, coalesce(done, 0) / %(minutes)s::float8 as done_per_minute,
       coalesce(failed, 0) / %(minutes)s::float8 as failed_per_minute
  from ({_WORK}) work
  left join (select topic, max(last_at) as last_processed_at,
                    sum(done) filter (where minute <> %(total)s) as done,
                    sum(retried + dead) filter (where minute <> %(total)s) as failed
               from work_stats where minute = %(total)s or minute >= %(rate_start)s
              group by topic) settled using (topic)
 {_ORDER}
"""  # noqa: S608 - constants only


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDrift:
    """Due rows of the ledger and messages in the broker; ``messages`` is None without the broker.

    One message may stand for many rows, so a drift above zero is normal under load. If it stays while no work
    is done, the sweep does not send. Below zero, the rows of some messages are already settled, or messages
    are canaries, which have no row.
    """

    queue: str
    due: int
    messages: int | None

    @property
    def drift(self) -> int | None:
        """Due rows minus messages; None without the broker."""
        return None if self.messages is None else self.due - self.messages


def read_backlog(tx: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Return the counts of every topic (the columns of ``_BACKLOG``), in the order of queues and topics.

    Topics that this version does not know are last.
    """
    return tx.exec_driver_sql(_BACKLOG, _topic_values(now)).all()


def list_topic_figures(tx: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Return the columns of ``_FIGURES`` per topic; nothing if the backlog cannot be counted in time.

    ``due_since`` is when the longest-waiting item became ready, ``leased_until`` the end of the latest lease.
    The rates cover ``RATE_WINDOW``.
    """
    rate_start = now.replace(second=0, microsecond=0) - RATE_WINDOW
    values = _topic_values(now) | {
        "rate_start": rate_start,
        "minutes": (now - rate_start) / timedelta(minutes=1),
        "total": TOTAL,
    }
    try:
        with tx.begin_nested():
            before = tx.scalar(text("show statement_timeout"))
            tx.execute(text(f"set local statement_timeout = {FIGURES_TIMEOUT_MS}"))
            found = tx.exec_driver_sql(_FIGURES, values).all()
            tx.execute(text(f"set local statement_timeout = '{before}'"))
            return found
    except OperationalError as fault:
        if getattr(fault.orig, "sqlstate", None) == "57014":  # query_canceled: the timeout above
            return ()
        raise


def measure_drift(backlog: Sequence[Row[Any]], depths: Mapping[str, int] | None) -> list[QueueDrift]:
    """Return due rows and messages of every queue. ``depths`` is None if the broker is unreachable. Pure."""
    names = [*QUEUES, *sorted({row.queue for row in backlog} - set(QUEUES))]
    return [
        QueueDrift(
            queue=name,
            due=sum(row.due for row in backlog if row.queue == name),
            messages=None if depths is None else depths.get(name, 0),
        )
        for name in names
    ]


def _topic_values(now: datetime) -> dict[str, Any]:
    return {"now": now, "queue": [topic.queue for topic in _KNOWN], "topic": [topic.name for topic in _KNOWN]}
