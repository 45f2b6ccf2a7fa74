"""Reads runs for lists: history, and the last run of each job."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from services.core.db import Page, fetch_page
from services.core.pg_arrays import int_array, text_array

STATUSES = ("pending", "running", "done", "failed", "skipped")

RunLine = Row[Any]
"""The columns of ``_LINE``: a run with its duration (null until it ended) and the state of its work.

``next_try_at`` is set while the work waits for a retry.
"""

_LINE = """
select r.id, r.job, r.shop_id, r.period, r.due_at, r.started_at, r.ended_at, r.status, r.stats,
       coalesce(r.error, w.error_code || ': ' || w.last_error) as error, r.origin, r.started_by, r.request_id,
       r.work_id, w.locked_by, extract(epoch from r.ended_at - r.started_at)::float8 as duration_seconds,
       case when w.status = 'error' and w.locked_at is null then w.next_retry_at end as next_try_at
  from job_runs r left join work_queue w on w.id = r.work_id and w.status in ('pending', 'error')
"""

_HISTORY = f"""{_LINE}
 where (%(job)s::text is null or r.job = %(job)s) and (%(shop_id)s::int is null or r.shop_id = %(shop_id)s)
   and (cardinality(%(statuses)s::text[]) = 0 or r.status = any(%(statuses)s::text[]))
 order by r.due_at desc, r.id desc limit %(limit)s
"""

_BY_ID = f"{_LINE} where r.id = any(%(id)s::bigint[]) order by r.id"

_FAILED = """
select coalesce(s.slug, '') from job_runs r left join shops s on s.id = r.shop_id
 where r.job = %(job)s and r.period = %(period)s and r.status = 'failed'
   and (r.shop_id is null or s.id is not null)
 order by r.shop_id
"""

_LAST = f"""
select last.* from jobs j left join shops s on j.per_shop
 cross join lateral ({_LINE}
   where r.job = j.name and r.shop_id is not distinct from s.id and (s.id is not null or not j.per_shop)
     and (r.started_at is not null or r.ended_at is not null)
   order by r.due_at desc, r.id desc limit 1) last
 where j.retired_at is null and (%(shop_id)s::int is null or s.id = %(shop_id)s)
"""  # noqa: S608 - constants only


def find_history(
    tx: Connection, *, job: str | None, shop_id: int | None, statuses: Sequence[str] = (), limit: int
) -> Page[RunLine]:
    """Return up to ``limit`` runs that match, newest due time first."""
    return fetch_page(tx, _HISTORY, limit, {"job": job, "shop_id": shop_id, "statuses": text_array(statuses)})


def list_runs(tx: Connection, run_ids: Iterable[int]) -> list[RunLine]:
    """Return the runs ``run_ids``, by id."""
    return [*tx.exec_driver_sql(_BY_ID, {"id": int_array(run_ids)})]


def find_failed_shops(tx: Connection, job: str, period: str) -> list[str]:
    """Return the shops whose run of (job, period) failed, by id; "" is the run of a job without shops."""
    return [*tx.exec_driver_sql(_FAILED, {"job": job, "period": period}).scalars()]


def find_last_runs(tx: Connection, shop_id: int | None = None) -> dict[str, list[RunLine]]:
    """Return the newest run that has started or ended, by job, for each shop (or only ``shop_id``)."""
    found: dict[str, list[RunLine]] = {}
    for line in tx.exec_driver_sql(_LAST, {"shop_id": shop_id}):
        found.setdefault(line.job, []).append(line)
    return found
