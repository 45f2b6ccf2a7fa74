"""JobHandler: starts a run, does its work with no transaction open, and completes the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.errors import Refused, WorkError
from services.core.log_redaction import quote_value
from services.core.settings import get_settings
from services.jobs.complete_run import complete_run
from services.jobs.definition import FLEET_ZONE, SHOP_ZONE, Covers
from services.ledger.work import Done, FollowUp, Outcome, PreparedCall, WorkItem


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """A started run. ``shop_id`` is None for a run of the fleet."""

    id: int
    job: str
    shop_id: int | None
    period: str
    covers: Covers
    zone: ZoneInfo
    request_id: str
    work_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The result of a run. ``record`` writes what it found, in the transaction that ends the run."""

    stats: Mapping[str, int | float | str] = field(default_factory=dict)
    result: str = "done"
    record: Callable[[Connection], FollowUp] | None = None
    is_ended: bool = True
    """Whether the run ends with its work; else a follower of the tick ends it with ``complete_run``."""


JobWork = Callable[[JobRun], JobResult]
"""Does one run. It opens its own transactions, and raises a ``WorkError`` if it cannot finish."""

_START = """
update job_runs r
   set status = 'running', started_at = coalesce(r.started_at, %(now)s), ended_at = null, error = null,
       work_id = %(work_id)s
  from jobs j
 where r.id = %(id)s and r.job = j.name and r.status in ('pending', 'running', 'failed')
   and coalesce(r.work_id, %(work_id)s) = %(work_id)s
returning r.job, r.shop_id, r.period, j.covers,
          case j.zone when 'shop' then (select timezone from shops s where s.id = r.shop_id)
                      else j.zone end as zone
"""


class JobHandler:
    """Handler of a job's topic: runs ``work`` for each item."""

    def __init__(self, work: JobWork) -> None:
        self._work = work

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Start the run of each item; return its call, or ``already_finished`` if the run ended before."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        run_id = item.payload.get("run")
        if not isinstance(run_id, int):
            return Refused(
                "job.no_run",
                f"run is {quote_value(run_id)}: it should be the id of a row of job_runs; use fleet jobs run",
            )
        row = tx.exec_driver_sql(_START, {"id": run_id, "now": now, "work_id": item.id}).first()
        if row is None:
            return Done("already_finished")
        run = JobRun(
            id=run_id,
            job=row.job,
            shop_id=row.shop_id,
            period=row.period,
            covers=Covers(row.covers),
            zone=get_settings().zone if row.zone in (FLEET_ZONE, SHOP_ZONE, None) else ZoneInfo(row.zone),
            request_id=item.request_id,
            work_id=item.id,
        )
        return PreparedCall(item=item, act=partial(self._act, run))

    def _act(self, run: JobRun) -> Outcome:
        try:
            finished = self._work(run)
        except WorkError as fault:
            return fault
        return Done(finished.result, partial(_end, run, finished))


def _end(run: JobRun, finished: JobResult, tx: Connection) -> FollowUp:
    recorded = finished.record(tx) if finished.record else FollowUp()
    if not finished.is_ended:
        return recorded
    end = complete_run(tx, run.id, finished.stats, utc_now())
    return FollowUp([*recorded.new_work, *end.new_work], [*recorded.audit, *end.audit])
