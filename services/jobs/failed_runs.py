"""Failed runs: which job, at which shop, has no good run since its newest one failed."""

FAILED_LINES = """
select 'runs_failed' as kind, r.job as label, r.job || ' ' || r.period as name, r.shop_id,
       r.ended_at as since, null::timestamptz as until, r.started_by as by, coalesce(r.error, '') as why
  from job_runs r
  join jobs j on j.name = r.job and j.retired_at is null
  left join work_queue w on w.id = r.work_id
 where r.status = 'failed' and r.ended_at > %(now)s::timestamptz - interval '35 days'
   and w.status is distinct from 'discarded'
   and not exists (select from job_runs u where u.job = r.job and u.shop_id = r.shop_id
                      and u.period > r.period and u.status in ('done', 'failed'))
   and not exists (select from job_runs u where u.job = r.job and u.shop_id is null and r.shop_id is null
                      and u.period > r.period and u.status in ('done', 'failed'))
"""
"""The failed run of each (job, shop) whose newest ended period failed, as a condition.

One row for each job and shop at most. It disappears when a run of a later period ends well, when the same
period is run again (``pending`` and ``running`` are watched by the dead-man), when a person discards its
work, or 35 days after its end: a monthly job stays named until its next run. ``skipped`` runs do not count.
The periods of one job have one format, so they sort as text. Two ``not exists``, because ``is not distinct
from`` uses no index.
"""
