"""Figures of jobs: runs past their limit, and what healing found."""

from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.alerts.figures import Figures, collect_each, make_figure
from services.core.pg_arrays import arrays
from services.ledger.topics import TOPICS

HEALING = "gap_heal"
"""The topic of the job that records what no webhook brought."""

# The limit is that of one try of the job's topic.
_TOO_LONG = """
select distinct on (r.job, r.shop_id) extract(epoch from %(now)s - r.started_at) / 60 - l.minutes as value,
       r.shop_id, r.job as subject, r.job, r.period, l.minutes as limit_minutes,
       r.started_at as since
  from job_runs r
  join jobs j on j.name = r.job
  join unnest(%(topic)s::text[], %(minutes)s::int[]) as l(topic, minutes) on l.topic = j.topic
 where r.ended_at is null and r.started_at is not null
 order by r.job, r.shop_id, r.started_at
"""
_HEALED = """
select (r.stats ->> 'entered')::float8 as value, s.id as shop_id, '' as subject, r.period
  from shops s cross join jobs j
 cross join lateral (
    select stats, period from job_runs
     where job = j.name and shop_id = s.id and status = 'done' order by due_at desc limit 1) r
 where j.topic = %(healing)s and j.retired_at is null and r.stats ? 'entered'
"""


def collect_figures(tx: Connection, now: datetime) -> Figures:
    """Return the figures of ``run_too_long`` and ``gap_healed``."""
    limits = [(topic.name, topic.soft_time_limit_seconds // 60) for topic in TOPICS.values()]
    values = {**arrays("topic minutes", limits), "now": now, "healing": HEALING}
    queries = {"run_too_long": _TOO_LONG, "gap_healed": _HEALED}

    def run(rule: str, tx: Connection, _now: datetime) -> Figures:
        return {rule: [make_figure(row) for row in tx.exec_driver_sql(queries[rule], values)]}

    return collect_each(tx, {rule: partial(run, rule) for rule in queries}, now)
