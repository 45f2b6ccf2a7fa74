"""Settle: writes the outcome of a try to its row. Every status change by a worker is made here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from services.audit.append import append_all
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Deferred, Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.core.latency import add_sql
from services.core.log_redaction import redact_text
from services.core.pg_arrays import int_array
from services.core.sentry import capture_bug, capture_dead_work
from services.ledger import steps
from services.ledger.accept import WorkRef, record_work
from services.ledger.tables import TOTAL
from services.ledger.timings import count_timings
from services.ledger.topics import Topic, plan_next_try
from services.ledger.work import FLEET, GAVE_UP, Done, FollowUp, Outcome, WorkItem
from services.shops.shops import ShopUnknown, get_shop_by_id

BUG_TRIES = 5
"""Tries after an exception that is not a ``WorkError``: it is a bug, and more tries seldom help."""


class InternalError(WorkError):
    """An exception that is not a ``WorkError``. Its traceback is in Sentry."""


class Settlement(NamedTuple):
    """The new state of one item's row."""

    item: WorkItem
    status: str
    result: str | None = None
    error_code: str | None = None
    last_error: str | None = None
    next_retry_at: datetime | None = None
    counts: bool = True
    """Whether a failed try is counted."""


@dataclass(slots=True)
class BatchResult:
    """The settlements of a batch by status, the new work, and whether the topic has more ready work."""

    claimed: int = 0
    done: int = 0
    retried: list[Settlement] = field(default_factory=list)
    dead: list[Settlement] = field(default_factory=list)
    lost: int = 0
    """Items whose lease was lost: nothing was written for them."""
    refs: list[WorkRef] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    """Request ids of the first ten items, for the log."""
    step_ends: list[steps.StepEnd] = field(default_factory=list)
    """Items that are steps of workflows, for the log."""
    more: bool = False
    none_claimable: bool = False

    def add(self, other: "BatchResult") -> None:
        """Add ``other`` to this result."""
        self.claimed += other.claimed
        self.done += other.done
        self.retried += other.retried
        self.dead += other.dead
        self.lost += other.lost
        self.refs += other.refs
        self.request_ids += other.request_ids[: 10 - len(self.request_ids)]
        self.step_ends += other.step_ends
        self.more = self.more or other.more


def to_internal_error(
    fault: Exception, topic: str, *, shop_id: int | None = None, request_id: str = ""
) -> WorkError:
    """Return ``fault`` if it is a ``WorkError``; else report it to Sentry and return an ``InternalError``."""
    if isinstance(fault, WorkError):
        return fault
    capture_bug(fault, topic=topic, shop=partial(find_slug, shop_id or FLEET), request_id=request_id)
    name = type(fault).__name__
    return InternalError(f"bug.{name}", f"{name}: {redact_text(str(fault))[:500]}")


def find_slug(shop_id: int) -> str:
    """Return the slug, read in a transaction of its own; the id if it cannot be read, ``""`` for 0."""
    try:
        with transaction() as tx:
            return get_shop_by_id(tx, shop_id).slug
    except (ShopUnknown, SQLAlchemyError):
        return str(shop_id or "")


def report_dead_work(result: BatchResult) -> None:
    """Report the dead items of ``result`` to Sentry."""
    for dead in result.dead:
        capture_dead_work(
            topic=dead.item.topic,
            work_id=dead.item.id,
            code=dead.error_code or "",
            shop=partial(find_slug, dead.item.shop_id),
            request_id=dead.item.request_id,
            last_error=dead.last_error or "",
        )


def plan_settlement(topic: Topic, item: WorkItem, outcome: Outcome, now: datetime, rng: Random) -> Settlement:
    """Return the new state of ``item`` after ``outcome``. Pure."""
    tries = topic.tries
    wait = None
    match outcome:
        case Done(result=result):
            return Settlement(item, "done", result)
        case Refused() | Misconfigured():
            return Settlement(item, "dead", error_code=outcome.code, last_error=outcome.detail)
        case Deferred():
            return Settlement(
                item,
                "error" if item.retry_count else "pending",
                error_code=outcome.code,
                last_error=outcome.detail,
                next_retry_at=now + (outcome.wait or timedelta()),
                counts=False,
            )
        case RetryLater():
            wait = outcome.wait
        case OutcomeUnknown():
            pass
        case _:
            tries = min(tries, BUG_TRIES)
    failed = item.retry_count + 1
    if failed >= tries:
        detail = f"{GAVE_UP} {format_count(failed, 'try')}: {outcome.detail}"
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

# ``tries`` is 0 for an item that is deferred; its time is not a backoff.
_SETTLE_FAILED = """
update work_queue w set status = v.status, error_code = v.error_code, last_error = v.last_error,
       next_retry_at = %(now)s::timestamptz + (v.next_retry_at - %(now)s::timestamptz) * case v.tries
         when 0 then 1 else coalesce((select factor from topic_backoffs b where b.topic = w.topic), 1) end,
       retry_count = w.retry_count + v.tries,
       finished_at = case when v.status = 'dead' then %(now)s::timestamptz end,
       locked_at = null, locked_by = null, lease_until = null, dispatched_at = null
from unnest(%(id)s::bigint[], %(status)s::text[], %(error_code)s::text[], %(last_error)s::text[],
            %(next_retry_at)s::timestamptz[], %(tries)s::int[])
       as v(id, status, error_code, last_error, next_retry_at, tries)
where w.id = v.id and w.id = any(%(id)s::bigint[])
  and w.status in ('pending', 'error') and w.locked_by is not distinct from %(token)s
returning w.id
"""

# Two rows: the minute, and the total, which stays when old minutes are deleted and has the histograms.
_STATS = f"""
insert into work_stats as s (minute, topic, worker, done, retried, dead, last_at, timings)
select minute, %(topic)s, %(worker)s, %(done)s, %(retried)s, %(dead)s, %(now)s,
       case minute when %(total)s then %(timings)s::bigint[] else '{{}}' end
  from unnest(array[date_trunc('minute', %(now)s::timestamptz), %(total)s::timestamptz]) as minute
on conflict (minute, topic, worker) do update set done = s.done + excluded.done,
   retried = s.retried + excluded.retried, dead = s.dead + excluded.dead, last_at = excluded.last_at,
   timings = case excluded.timings when '{{}}' then s.timings
     else {add_sql("s.timings", "excluded.timings")} end
"""  # noqa: S608 - constants only


def settle(
    tx: Connection,
    topic: Topic,
    worker: str,
    settlements: Sequence[Settlement],
    now: datetime,
    token: str | None,
    record: Callable[[set[int]], FollowUp],
    claimed_at: datetime,
) -> BatchResult:
    """Write ``settlements``, the result of ``record`` for the settled ids, and the topic's stats.

    Plans the next step of each item that is a step of a workflow and is done.
    """
    settled_ids = settle_batch(tx, settlements, now, token)
    follow_up = record(settled_ids)
    settled = [s for s in settlements if s.item.id in settled_ids]
    is_step = topic.name in steps.FIRST_STEPS or any("workflow" in s.item.payload for s in settled)
    next_steps = steps.plan_next_steps([s.item for s in settled if s.status == "done"]) if is_step else []
    refs = record_work(tx, [*follow_up.new_work, *next_steps], now)
    result = BatchResult(
        claimed=len(settlements),
        done=sum(s.status == "done" for s in settled),
        retried=[s for s in settled if s.status in ("error", "pending")],
        dead=[s for s in settled if s.status == "dead"],
        lost=len(settlements) - len(settled),
        refs=refs,
        request_ids=[s.item.request_id for s in settlements[:10]],
    )
    if is_step:
        ends = [(s.item, s.status, s.result or "", s.error_code or "") for s in settled]
        seconds = (now - claimed_at).total_seconds()
        result.step_ends = steps.list_step_ends(ends, follow_up.new_work, seconds)
    record_stats(tx, topic, worker, result, now, _measure(settled, claimed_at, now))
    append_all(tx, follow_up.audit, now)
    return result


def settle_batch(
    tx: Connection, settlements: Sequence[Settlement], now: datetime, token: str | None
) -> set[int]:
    """Write ``settlements`` in a few statements; return the ids of the rows that were written.

    A row that is not leased to ``token`` any more is not written. None means that this transaction holds the
    row locks.
    """
    settled_ids: set[int] = set()
    done = [s for s in settlements if s.status == "done"]
    failed = [s for s in settlements if s.status != "done"]
    # One statement per result: a list of ids needs no join that could get a bad plan.
    for result in {s.result for s in done}:
        ids = [s.item.id for s in done if s.result == result]
        updated = tx.exec_driver_sql(
            _SETTLE_DONE, {"id": int_array(ids), "result": result, "now": now, "token": token}
        )
        settled_ids.update(ids if updated.rowcount == len(ids) else updated.scalars())
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
        settled_ids.update(tx.exec_driver_sql(_SETTLE_FAILED, values).scalars())
    return settled_ids


def _measure(settled: Sequence[Settlement], claimed_at: datetime, now: datetime) -> list[int]:
    """Return the histograms of a batch; each of its items ran from the claim to now."""
    claimed, ended = claimed_at.timestamp(), now.timestamp()
    waits = [claimed - one.item.ready_at.timestamp() for one in settled if one.item.ready_at]
    effects = [
        ended - one.item.received_at.timestamp()
        for one in settled
        if one.item.received_at and one.status == "done"
    ]
    return count_timings(waits, [ended - claimed] * len(settled), effects)


def record_stats(
    tx: Connection,
    topic: Topic,
    worker: str,
    counts: BatchResult,
    now: datetime,
    timings: Sequence[int] = (),
) -> None:
    """Add ``counts`` and ``timings`` to the topic's stats. Each worker has its own rows: none waits."""
    values = {
        "now": now, "topic": topic.name, "worker": worker, "done": counts.done,
        "retried": len(counts.retried), "dead": len(counts.dead), "total": TOTAL,
        "timings": int_array(timings),
    }  # fmt: skip
    tx.exec_driver_sql(_STATS, values)
