"""Samples of the queues for charts: one row a minute and queue, and one of all queues (``queue`` is empty).

A topic has a row (``queue`` is ``topic:`` and its name) while it is not idle: without one nothing happened.
Counters are totals since the first work: two samples give what happened between them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.pg_arrays import arrays
from services.ledger.tables import TOTAL
from services.ledger.timings import EFFECT_SLICE, estimate_percentile
from services.ledger.topics import QUEUES, TOPICS

KEPT = timedelta(days=8)
ALL_QUEUES = ""
TOPIC_PREFIX = "topic:"
SHARE = 0.95
_MINUTE = timedelta(minutes=1)

_FIND_TOTALS = "select topic, done, dead, timings from work_stats where minute = %(total)s"
_COLUMNS = "queue ready open_items locked retrying dead oldest_seconds done_total dead_total effects_total"
_RECORD = """
insert into queue_samples (minute, queue, ready, open_items, locked, retrying, dead, oldest_seconds,
                           done_total, dead_total, effects_total)
select %(minute)s, queue, ready, open_items, locked, retrying, dead, oldest_seconds, done_total, dead_total,
       effects_total::bigint[]
  from unnest(%(queue)s::text[], %(ready)s::int[], %(open_items)s::int[], %(locked)s::int[],
              %(retrying)s::int[], %(dead)s::int[], %(oldest_seconds)s::float8[], %(done_total)s::bigint[],
              %(dead_total)s::bigint[], %(effects_total)s::text[])
    as v(queue, ready, open_items, locked, retrying, dead, oldest_seconds, done_total, dead_total,
         effects_total)
on conflict do nothing
"""
_DELETE_OLD = "delete from queue_samples where queue = any(%(queue)s::text[]) and minute < %(until)s"

# Means over the samples of a step, and the figures at its end. One range of the primary key.
_FIND = """
select s.*, e.open_items, e.dead, e.done_total, e.dead_total, e.effects_total
  from (select date_bin(%(step)s, minute, %(since)s) as at, max(minute) as last, avg(ready)::float8 as ready,
               avg(locked)::float8 as locked, avg(retrying)::float8 as retrying, max(oldest_seconds) as oldest
          from queue_samples
         where queue = %(queue)s and minute >= %(since)s::timestamptz - %(step)s and minute <= %(until)s
         group by 1) s
  join queue_samples e on e.queue = %(queue)s and e.minute = s.last
 order by s.at
"""

_FIND_TIMES = """
select distinct date_bin(%(step)s, minute, %(since)s) as at from queue_samples
 where queue = '' and minute >= %(since)s::timestamptz - %(step)s and minute <= %(until)s order by 1
"""


class QueuePoint(NamedTuple):
    """One step of a chart. Counts are means over its samples; ``oldest`` is the highest, in seconds.

    ``dead`` is the number at its end. Rates are by minute; None where the step before has no sample.
    ``effect`` is the time from webhook to effect that 95% did not exceed, in seconds; None without any.
    """

    at: datetime
    ready: float
    locked: float
    retrying: float
    dead: int
    oldest: float
    in_rate: float | None
    out_rate: float | None
    effect: float | None


def record_samples(tx: Connection, topics: Sequence[Row[Any]], now: datetime) -> None:
    """Record ``topics`` (see ``list_topic_figures``) by queue for this minute, once; delete old samples."""
    active = [TOPIC_PREFIX + row.topic for row in topics if row.topic in TOPICS and not _is_idle(row)]
    names = [ALL_QUEUES, *QUEUES, *active]
    every = [ALL_QUEUES, *QUEUES, *(TOPIC_PREFIX + topic for topic in TOPICS)]
    tx.exec_driver_sql(_DELETE_OLD, {"until": now - KEPT, "queue": every})
    totals = tx.exec_driver_sql(_FIND_TOTALS, {"total": TOTAL}).all()
    samples = []
    for name in names:
        rows = [row for row in topics if name in (ALL_QUEUES, row.queue, TOPIC_PREFIX + row.topic)]
        of_queue = [
            row for row in totals if name in (ALL_QUEUES, _find_queue(row.topic), TOPIC_PREFIX + row.topic)
        ]
        due = [row.due_since for row in rows if row.due_since]
        effects = [sum(counts) for counts in zip(*_list_effects(of_queue), strict=True)]
        samples.append(
            (
                name,
                sum(row.due for row in rows),
                sum(row.waiting + row.locked + row.error for row in rows),
                sum(row.locked for row in rows),
                sum(row.error for row in rows),
                sum(row.dead for row in rows),
                max(0.0, (now - min(due)).total_seconds()) if due else 0.0,
                sum(row.done for row in of_queue),
                sum(row.dead for row in of_queue),
                f"{{{','.join(map(str, effects))}}}",
            )
        )
    minute = now.replace(second=0, microsecond=0)
    tx.exec_driver_sql(_RECORD, {**arrays(_COLUMNS, samples), "minute": minute})


def list_points(
    tx: Connection, queue: str, since: datetime, until: datetime, step: timedelta
) -> list[QueuePoint]:
    """Return the points of ``queue`` (empty: all), from ``since`` on; a step without samples has none.

    A ``queue`` that begins with ``TOPIC_PREFIX`` is a topic: it was idle in a step that only the fleet has.
    """
    values = {"queue": queue, "since": since, "until": until, "step": step}
    is_topic = queue.startswith(TOPIC_PREFIX)
    sampled = set(tx.exec_driver_sql(_FIND_TIMES, values).scalars()) if is_topic else set()
    idle = QueuePoint(since, 0, 0, 0, 0, 0, 0, 0, None)
    points = {at: idle._replace(at=at) for at in sampled if at >= since}
    before: Row[Any] | None = None
    for row in tx.exec_driver_sql(_FIND, values):
        rates: Mapping[str, float | None] = {"in_rate": None, "out_rate": None, "effect": None}
        if before is not None and (row.at - before.at == step or row.at - step in sampled):
            # A topic's counters stand still while it is idle: the difference is of this step.
            between = min(row.last - before.last, step) if is_topic else row.last - before.last
            rates = _compare(before, row, max(1.0, between / _MINUTE))
        before = row
        if row.at >= since:
            points[row.at] = QueuePoint(
                row.at, row.ready, row.locked, row.retrying, row.dead, row.oldest, **rates
            )
    return [points[at] for at in sorted(points)]


def _is_idle(topic: Row[Any]) -> bool:
    counts = (topic.waiting, topic.locked, topic.error, topic.dead)
    return not any((*counts, topic.done_per_minute, topic.failed_per_minute))


def _compare(before: Row[Any], after: Row[Any], minutes: float) -> Mapping[str, float | None]:
    """Return what came, what left (done or dead), and the time to the effect, between two samples."""
    left = after.done_total - before.done_total + after.dead_total - before.dead_total
    came = after.open_items - before.open_items + left
    old = before.effects_total or [0] * len(after.effects_total)
    effects = [new - count for new, count in zip(after.effects_total, old, strict=True)]
    return {
        "in_rate": max(0, came) / minutes,
        "out_rate": max(0, left) / minutes,
        "effect": estimate_percentile(effects, SHARE),
    }


def _find_queue(topic: str) -> str:
    return TOPICS[topic].queue if topic in TOPICS else ""


def _list_effects(totals: Sequence[Row[Any]]) -> list[Sequence[int]]:
    return [row.timings[EFFECT_SLICE] for row in totals if row.timings]
