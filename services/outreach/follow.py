"""The result of each send and of each run, from the outbox: on each tick of beat."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from services.audit.append import append_all
from services.jobs.complete_run import complete_run
from services.ledger.accept import WorkRef, record_work
from services.mail.suppressions import SUPPRESSED
from services.outreach.plan import SKIP_REASONS
from services.outreach.series import SERIES

END_WITHIN = timedelta(minutes=25)
"""A run waits for its mails for so long; it then ends, and later results still change its figures."""
FOLLOWED = timedelta(days=3)
"""Results of a run are followed for so long."""
EVERY = timedelta(seconds=2)
"""How often the mails of one run are compared, at most: a large run has 100,000."""

_TAKE = """
update outreach_runs set followed_at = %(now)s
 where started_at > %(since)s
   and (ended_at is null or exists (select from outreach_sends s where s.run_id = outreach_runs.run_id
                                       and s.status in ('mailed','failed')))
   and coalesce(followed_at, '-infinity') <= %(before)s
returning run_id, series, not_ready, skipped, started_at, ended_at, work_ids
"""
# A mail to a suppressed address was refused and never sent: the person withdrew, or the address bounced.
_FOLLOW = """
update outreach_sends s
   set status = f.status, reason = f.reason
  from (select s.id,
               case when m.status = 'sent' then 'sent' when m.error_code = %(suppressed)s then 'skipped'
                    when m.status in ('refused','unknown') or w.status in ('dead','discarded') then 'failed'
                    else 'mailed' end as status,
               case when m.status = 'sent' then ''
                    when m.error_code = %(suppressed)s and exists (
                         select from outreach_consents c
                          where c.person_id = s.person_id and c.withdrawn_at is not null) then 'unsubscribed'
                    when m.error_code = %(suppressed)s then 'bounced'
                    when m.status in ('refused','unknown') or w.status in ('dead','discarded')
                      then coalesce(m.error_code, w.error_code, m.status) else '' end as reason
          from outreach_sends s
          join mail_outbox m on m.id = s.mail_id
          left join work_queue w on w.id = m.work_id
         where s.run_id = any(%(run_ids)s::bigint[]) and s.status in ('mailed','failed')) f
 where s.id = f.id and (s.status, s.reason) is distinct from (f.status, f.reason)
"""
_COUNT = """
select run_id, step, status, reason, starts_at is not null as is_delayed, count(*)::int as count
  from outreach_sends where run_id = any(%(run_ids)s::bigint[]) group by 1, 2, 3, 4, 5
"""
_COUNT_WORK = """
select r.run_id, count(*) filter (where w.status in ('pending','error'))::int as open,
       count(*) filter (where w.status = 'dead')::int as dead
  from outreach_runs r join work_queue w on w.id = any(r.work_ids)
 where r.run_id = any(%(run_ids)s::bigint[]) group by r.run_id
"""
_END = "update outreach_runs set ended_at = %(now)s where run_id = %(run)s"
_SET_STATS = """
update job_runs set stats = %(stats)s::jsonb
 where id = %(run)s and status = 'done' and stats <> %(stats)s::jsonb
"""


def follow_outreach(tx: Connection, now: datetime) -> list[WorkRef]:
    """Set each send to the state of its mail, end the runs whose mails have a result, and set their figures.

    Mails that wait for the end of quiet hours do not keep a run open.
    """
    values = {"now": now, "since": now - FOLLOWED, "before": now - EVERY}
    runs = tx.exec_driver_sql(_TAKE, values).all()
    if not runs:
        return []
    of_runs = {"run_ids": [run.run_id for run in runs]}
    tx.exec_driver_sql(_FOLLOW, {**of_runs, "suppressed": SUPPRESSED})
    counts: dict[int, list[Row[Any]]] = {run.run_id: [] for run in runs}
    for row in tx.exec_driver_sql(_COUNT, of_runs):
        counts[row.run_id].append(row)
    work = {row.run_id: row for row in tx.exec_driver_sql(_COUNT_WORK, of_runs)}
    refs: list[WorkRef] = []
    for run in sorted(runs, key=lambda run: run.run_id):
        of_work = work.get(run.run_id)
        stats = make_stats(run, counts[run.run_id], of_work.dead if of_work else 0)
        if run.ended_at is None:
            is_open = (of_work is not None and of_work.open) or stats["waiting"]
            if is_open and now < run.started_at + END_WITHIN:
                continue
            tx.exec_driver_sql(_END, {"run": run.run_id, "now": now})
            ended = complete_run(tx, run.run_id, stats, now)
            refs += record_work(tx, ended.new_work, now)
            append_all(tx, ended.audit, now)
        else:
            tx.exec_driver_sql(_SET_STATS, {"run": run.run_id, "stats": orjson.dumps(stats).decode()})
    return refs


def make_stats(run: Any, counted: list[Any], dead_segments: int) -> Mapping[str, int]:
    """Return the figures of a run. Pure.

    ``failed`` includes people of shops that are not ready; ``delayed`` mails wait for the end of quiet hours,
    ``waiting`` ones for another try.
    """
    stats = dict.fromkeys(("sent", "failed", "skipped", "delayed", "waiting"), 0)
    reasons = dict.fromkeys(SKIP_REASONS, 0) | run.skipped
    steps = dict.fromkeys((f"{step}_sent" for step in SERIES[run.series].steps), 0)
    for row in counted:
        if row.status == "mailed":
            stats["delayed" if row.is_delayed else "waiting"] += row.count
        elif row.status == "skipped":
            # Steps that were too late are in the run's own counts already.
            if row.reason in ("unsubscribed", "bounced"):
                reasons[row.reason] += row.count
        else:
            stats[row.status] += row.count
        if row.status == "sent" and f"{row.step}_sent" in steps:
            steps[f"{row.step}_sent"] += row.count
    stats["failed"] += run.not_ready
    stats["skipped"] = sum(reasons.values())
    if dead_segments:
        stats["failed_segments"] = dead_segments
    return {**stats, **steps, **{name: count for name, count in reasons.items() if count}}
