"""``/jobs``: one line for each job and place where it runs, the worst first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row

from services.console.formatting import describe_age
from services.console.shared_reader import DEADLINE_SECONDS, KEEP_SECONDS, QUICK_SECONDS, SharedReader
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.pg_arrays import arrays
from services.jobs.conditions import FAILED_LINES, OVERDUE_LINES
from services.jobs.definition import CatchUp
from services.jobs.schedule import explain_schedule, find_slots, plan_catch_up
from services.jobs.store import EffectiveSchedule, list_schedules

STATES = ("failing", "overdue", "catching up", "running", "paused", "fine")
"""Of a line, the worst first. Catching up: more than one run has not ended."""

CATCH_UP_WORDS = {
    CatchUp.SKIP: "a run that is late by more than the grace is skipped",
    CatchUp.ONCE: "one run, for the newest time that passed",
    CatchUp.ALL: "one run for each time that passed",
}
"""What beat starts for times that passed while it did not run."""

KEEP_TIMES_COST = 25
"""A reading is reused for this many times its duration: any number of viewers costs 4% of a core."""

_FIND_LATE = f"""
select kind, label as job, shop_id from ({FAILED_LINES} union all {OVERDUE_LINES}) lines
"""  # noqa: S608 - constants only
_FIND_OPEN = "select job, shop_id, count(*) as open from job_runs where ended_at is null group by 1, 2"

# The newest run of each place by the index of the history; ``is not distinct from`` would use none.
_LAST_RUN = """
select period, status, due_at, started_at, ended_at,
       extract(epoch from ended_at - started_at)::float8 as duration_seconds
  from job_runs r where r.job = v.job and {is_place} and (started_at is not null or ended_at is not null)
 order by due_at desc limit 1
"""
_FIND_LAST = f"""
select v.job, v.shop_id, last.* from unnest(%(job)s::text[], %(shop_id)s::int[]) as v(job, shop_id)
 cross join lateral (({_LAST_RUN.format(is_place="r.shop_id = v.shop_id")}) union all
                     ({_LAST_RUN.format(is_place="v.shop_id is null and r.shop_id is null")})) last
"""  # noqa: S608 - constants only

_Place = tuple[str, int | None]


class JobPlaceLine(NamedTuple):
    """A job at one place. ``open_runs`` have not ended."""

    schedule: EffectiveSchedule
    state: str
    open_runs: int

    @property
    def words(self) -> str:
        """The schedule in words."""
        return explain_schedule(self.schedule.schedule)


class JobsReading(NamedTuple):
    """The lines of all places, the worst first, as they were ``at``."""

    at: datetime
    lines: Sequence[JobPlaceLine]


class JobsReader(SharedReader[JobsReading]):
    """Reads the lines for all viewers of a process."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS, keep_times_cost: float = KEEP_TIMES_COST) -> None:
        quick_seconds = QUICK_SECONDS if keep_seconds else DEADLINE_SECONDS
        super().__init__(
            "jobs",
            _read_lines,
            keep_seconds=keep_seconds,
            keep_times_cost=keep_times_cost,
            quick_seconds=quick_seconds,
        )


def _read_lines() -> JobsReading:
    now = utc_now()
    with transaction() as tx:
        return JobsReading(now, list_lines(tx, list_schedules(tx), now))


def list_lines(tx: Connection, schedules: Sequence[EffectiveSchedule], now: datetime) -> list[JobPlaceLine]:
    """Return a line for each of ``schedules``, the worst first."""
    late: dict[_Place, set[str]] = {}
    for row in tx.exec_driver_sql(_FIND_LATE, {"now": now}):
        late.setdefault((row.job, row.shop_id), set()).add(row.kind)
    open_runs: dict[_Place, int] = {
        (row.job, row.shop_id): row.open for row in tx.exec_driver_sql(_FIND_OPEN)
    }

    def plan_line(one: EffectiveSchedule) -> JobPlaceLine:
        place = one.job.name, one.shop_id
        kinds, count = late.get(place, ()), open_runs.get(place, 0)
        states = {
            "failing": "runs_failed" in kinds,
            "overdue": "jobs_overdue" in kinds,
            "catching up": count > 1,
            "running": count == 1,
            "paused": not one.enabled,
        }
        return JobPlaceLine(one, next((name for name, holds in states.items() if holds), "fine"), count)

    lines = [plan_line(one) for one in schedules]
    return sorted(lines, key=lambda one: (STATES.index(one.state), one.schedule.job.name, one.schedule.slug))


def find_last_places(tx: Connection, lines: Sequence[JobPlaceLine]) -> dict[_Place, Row[Any]]:
    """Return the newest run that has started or ended, by job and shop, of each of ``lines``."""
    places = [(one.schedule.job.name, one.schedule.shop_id) for one in lines]
    found = tx.exec_driver_sql(_FIND_LAST, arrays("job shop_id", places))
    return {(row.job, row.shop_id): row for row in found}


def describe_catch_up(one: EffectiveSchedule, now: datetime) -> str:
    """Return what beat does with times that passed without it, and how many it would start and skip now."""
    job = one.job
    grace = describe_age(job.grace.total_seconds())
    text = f"After a time without beat: {CATCH_UP_WORDS[job.catch_up]} (grace {grace})."
    if not one.enabled or one.next_due_at is None or one.next_due_at > now:
        return f"{text} Nothing is missed now."
    missed = [one.next_due_at, *find_slots(one.schedule, ZoneInfo(one.zone), one.next_due_at, now)]
    starts, skips = plan_catch_up(job.catch_up, missed, now, job.grace)
    left = len(missed) - len(starts) - len(skips)
    dropped = f" and leaves {left} out" if left else ""
    return (
        f"{text} Missed times: {len(missed)}. When beat plans them, it starts "
        f"{format_count(len(starts), 'run')}, skips {len(skips)}{dropped}."
    )
