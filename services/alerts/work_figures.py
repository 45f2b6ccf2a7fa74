"""Figures of work: a backlog that grows, and archives that cannot be written."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from services.alerts.figures import CollectFigures, Figure, Figures, make_figure
from services.core.pg_arrays import arrays
from services.ledger.backlog import list_topic_figures
from services.ledger.pause import list_pauses
from services.ledger.queue_samples import record_samples
from services.ledger.topics import TOPICS, Topic

MINUTE = timedelta(minutes=1)
GROWS_FOR = 15 * MINUTE
KEPT = 20 * MINUTE
ARCHIVES = ("audit_anchor", "audit_archive", "retention")
"""Topics that write to the archive store."""

_SAMPLE = """
insert into topic_backlogs (minute, topic, ready)
select %(minute)s, v.topic, v.ready from unnest(%(topic)s::text[], %(ready)s::int[]) as v(topic, ready)
on conflict do nothing
"""
_DELETE_OLD = "delete from topic_backlogs where minute < %(until)s or minute > %(now)s"
# The newest sample that is old enough.
_FIND_EARLIER = """
select topic, ready from topic_backlogs
 where minute = (select max(minute) from topic_backlogs where minute <= %(until)s)
"""
# Each part has the predicate of a partial index, because most rows are done.
_ARCHIVE_FAILED = """
select count(*) as value, nullif(shop_id, 0) as shop_id, topic as subject, topic, max(error_code) as code
  from (
    select shop_id, topic, error_code from work_queue
     where status in ('pending', 'error') and locked_at is null and topic = any(%(topic)s::text[])
       and status = 'error'
    union all
    select shop_id, topic, error_code from work_queue
     where status in ('pending', 'error') and locked_at is not null and topic = any(%(topic)s::text[])
       and status = 'error'
    union all
    select shop_id, topic, error_code from work_queue
     where status in ('dead', 'discarded') and topic = any(%(topic)s::text[]) and status = 'dead'
  ) failed
 group by shop_id, topic
"""


def _collect_archives(tx: Connection, _now: datetime) -> Figures:
    failed = tx.exec_driver_sql(_ARCHIVE_FAILED, {"topic": [*ARCHIVES]})
    return {"archive_failed": [make_figure(row) for row in failed]}


def _collect_backlog(tx: Connection, now: datetime) -> Figures:
    """Return the figures of the backlog, none if it cannot be counted in time; record samples of it."""
    topics = list_topic_figures(tx, now)
    if topics:
        record_samples(tx, topics, now)
    return {"backlog_growing": _find_growing(tx, topics, now)} if topics else {}


def _find_growing(tx: Connection, topics: Sequence[Row[Any]], now: datetime) -> list[Figure]:
    """Return a figure for each topic with more ready work than 15 minutes ago: minutes past its limit."""
    minute = now.replace(second=0, microsecond=0)
    tx.exec_driver_sql(_DELETE_OLD, {"until": now - KEPT, "now": now})
    earlier = {row.topic: row.ready for row in tx.exec_driver_sql(_FIND_EARLIER, {"until": now - GROWS_FOR})}
    samples = [(row.topic, row.due) for row in topics]
    tx.exec_driver_sql(_SAMPLE, {**arrays("topic ready", samples), "minute": minute})
    paused = [one.scope for one in list_pauses(tx) if one.scope.shop_id is None]
    figures = []
    for row in topics:
        of_other_version = Topic(name=row.topic, queue=row.queue, max_age=timedelta(hours=1))
        topic = TOPICS.get(row.topic, of_other_version)
        limit = topic.max_age
        is_growing = row.topic in earlier and row.due > earlier[row.topic]
        is_paused = any(scope.holds(topic) for scope in paused)
        if row.due_since is None or not is_growing or is_paused:
            continue
        late = (now - row.due_since - limit) / MINUTE
        detail = {
            "topic": row.topic,
            "waiting": row.due,
            "earlier": earlier[row.topic],
            "limit_minutes": limit / MINUTE,
        }
        figures.append(Figure(late, subject=row.topic, detail=detail))
    return figures


COLLECTORS: Mapping[str, CollectFigures] = {
    "archive_failed": _collect_archives,
    "backlog_growing": _collect_backlog,
}
