"""Settle: what an outcome does to its row. Every arrow that a worker makes between two states is here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.errors import Misconfigured, NotYet, OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.pg_arrays import int_array
from services.core.redact import redact_text
from services.ledger.retry import plan_next_try
from services.ledger.topics import Topic
from services.ledger.work import Done, Outcome, WorkItem

BUG_TRIES = 5
"""An error nobody named is our bug: a few tries in case it was the moment, then a person."""


class InternalError(WorkError):
    """An exception that no provider named. The traceback went to Sentry."""


class Settlement(NamedTuple):
    """What one item's row becomes."""

    item: WorkItem
    status: str
    result: str | None = None
    error_code: str | None = None
    last_error: str | None = None
    next_retry_at: datetime | None = None
    counts: bool = True
    """Whether a failed try is counted."""


@dataclass(slots=True)
class BatchCounts:
    """What a set came to, for the log, the figures and Flower."""

    done: int = 0
    retried: list[Settlement] = field(default_factory=list)
    dead: list[Settlement] = field(default_factory=list)
    lost: int = 0
    """Items whose lease had gone to another worker: nothing of theirs was written."""

    def add(self, other: "BatchCounts") -> None:
        """Count ``other`` in."""
        self.done += other.done
        self.retried += other.retried
        self.dead += other.dead
        self.lost += other.lost


def plan_settlement(topic: Topic, item: WorkItem, outcome: Outcome, now: datetime, rng: Random) -> Settlement:
    """Return what ``outcome`` makes of ``item``. Pure, and the only place that decides it."""
    tries = topic.tries
    wait = None
    match outcome:
        case Done(result=result):
            return Settlement(item, "done", result)
        case Refused() | Misconfigured():
            return Settlement(item, "dead", error_code=outcome.code, last_error=outcome.detail)
        case NotYet(wait=asked):
            turn = now + (asked or timedelta())
            return Settlement(
                item,
                "error" if item.retry_count else "pending",
                error_code=outcome.code,
                last_error=outcome.detail,
                next_retry_at=turn,
                counts=False,
            )
        case RetryLater(wait=asked):
            wait = asked
        case OutcomeUnknown():
            pass
        case _:
            tries = min(tries, BUG_TRIES)
    failed = item.retry_count + 1
    if failed >= tries:
        detail = f"gave up after {failed} tries: {outcome.detail}"
        return Settlement(item, "dead", error_code=outcome.code, last_error=detail)
    due = plan_next_try(topic, failed, wait, now, rng)
    return Settlement(item, "error", error_code=outcome.code, last_error=outcome.detail, next_retry_at=due)


_SETTLE_DONE = """
update work_queue set status = 'done', result = %(result)s, finished_at = %(now)s, next_retry_at = null,
       locked_at = null, locked_by = null, lease_until = null
where id = any(%(id)s::bigint[]) and status in ('pending', 'error')
  and locked_by is not distinct from %(token)s
returning id
"""

_SETTLE_FAILED = """
update work_queue w set status = v.status, error_code = v.error_code, last_error = v.last_error,
       next_retry_at = v.next_retry_at, retry_count = w.retry_count + v.tries,
       finished_at = case when v.status = 'dead' then %(now)s::timestamptz end,
       locked_at = null, locked_by = null, lease_until = null, dispatched_at = null
from unnest(%(id)s::bigint[], %(status)s::text[], %(error_code)s::text[], %(last_error)s::text[],
            %(next_retry_at)s::timestamptz[], %(tries)s::int[])
       as v(id, status, error_code, last_error, next_retry_at, tries)
where w.id = v.id and w.id = any(%(id)s::bigint[])
  and w.status in ('pending', 'error') and w.locked_by is not distinct from %(token)s
returning w.id
"""

_STATS = """
insert into work_stats as s (minute, topic, worker, done, retried, dead, last_at)
values (date_trunc('minute', %(now)s::timestamptz), %(topic)s, %(worker)s, %(done)s, %(retried)s, %(dead)s,
        %(now)s)
on conflict (minute, topic, worker) do update set done = s.done + excluded.done,
   retried = s.retried + excluded.retried, dead = s.dead + excluded.dead, last_at = excluded.last_at
"""


def settle_batch(
    tx: Connection, settlements: Sequence[Settlement], now: datetime, token: str | None
) -> set[int]:
    """Write ``settlements`` in a few statements; return the ids that were still ours.

    ``token`` is the fence: a row whose lease went to somebody else is left alone. None means that
    this transaction holds the row itself locked.
    """
    held: set[int] = set()
    done = [s for s in settlements if s.status == "done"]
    failed = [s for s in settlements if s.status != "done"]
    # Few results are in one set, and a list of ids needs no join: the planner cannot go wrong.
    for result in {s.result for s in done}:
        ids = [s.item.id for s in done if s.result == result]
        values: dict[str, Any] = {"id": int_array(ids), "result": result, "now": now, "token": token}
        settled = tx.exec_driver_sql(_SETTLE_DONE, values)
        held.update(ids if settled.rowcount == len(ids) else settled.scalars())
    if failed:
        values = {
            "id": [s.item.id for s in failed],
            "status": [s.status for s in failed],
            "error_code": [s.error_code for s in failed],
            "last_error": [redact_text(s.last_error or "")[:2000].replace("\0", "") for s in failed],
            "next_retry_at": [s.next_retry_at for s in failed],
            "tries": [int(s.counts) for s in failed],
            "now": now,
            "token": token,
        }
        held |= {int(i) for i in tx.exec_driver_sql(_SETTLE_FAILED, values).scalars()}
    return held


def count_settled(settlements: Sequence[Settlement], held: set[int]) -> BatchCounts:
    """Return the figures of a settled set."""
    ours = [s for s in settlements if s.item.id in held]
    return BatchCounts(
        done=sum(s.status == "done" for s in ours),
        retried=[s for s in ours if s.status in ("error", "pending")],
        dead=[s for s in ours if s.status == "dead"],
        lost=len(settlements) - len(ours),
    )


def record_stats(tx: Connection, topic: Topic, worker: str, settled: BatchCounts, now: datetime) -> None:
    """Count a settled set into its minute. One row per worker, so that workers never wait for each other."""
    values = {
        "now": now, "topic": topic.name, "worker": worker, "done": settled.done,
        "retried": len(settled.retried), "dead": len(settled.dead),
    }  # fmt: skip
    tx.exec_driver_sql(_STATS, values)
