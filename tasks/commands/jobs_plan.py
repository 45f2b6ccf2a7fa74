"""The names of jobs, and the tables of ``fleet jobs list`` and ``fleet jobs next``."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.cli.output import Columns
from services.cli.params import NameType
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.times import format_time
from services.jobs.definition import START_WITHIN, Job
from services.jobs.history import RunLine, find_last_runs
from services.jobs.schedule import explain_schedule, list_next_slots, period_of
from services.jobs.store import EffectiveSchedule, find_jobs, list_schedules, record_jobs

MAX_NAMED_SHOPS = 3
"""For more shops the table shows only their number."""


def _find_names(tx: Connection) -> Iterator[str]:
    """Yield the recorded jobs; then those of ``beat_schedule`` that beat has not recorded yet, recorded."""
    known = find_jobs(tx)
    yield from known
    # Imported here, because it loads Celery and is rarely needed.
    from beat_schedule import JOBS

    if new := [job.name for job in JOBS if job.name not in known]:
        record_jobs(tx, JOBS, utc_now())
        yield from new


def ensure_jobs(tx: Connection) -> None:
    """Record the jobs of ``beat_schedule`` if beat has not run yet."""
    if not find_jobs(tx):
        deque(_find_names(tx), 0)


JOB = NameType("job", _find_names)


class JobLine(NamedTuple):
    """A job with its schedules at all shops."""

    job: Job
    places: Sequence[EffectiveSchedule]
    next_due_at: datetime | None
    next_zone: str
    is_overdue: bool
    last: Sequence[RunLine]

    @property
    def overrides(self) -> int:
        """How many shops have their own schedule."""
        return sum(place.is_own for place in self.places)

    @property
    def schedule(self) -> str:
        """The most common schedule in use; without shops the job's default."""
        used = [place.schedule for place in self.places if not place.is_own] or [self.job.schedule]
        return max(used, key=used.count)

    def document(self) -> dict[str, Any]:
        """Return the line for programs."""
        return {
            "job": self.job.name,
            "title": self.job.title,
            "topic": self.job.topic,
            "schedule": self.schedule,
            "schedule_in_words": explain_schedule(self.schedule),
            "zone": self.job.zone,
            "per_shop": self.job.per_shop,
            "covers": self.job.covers.value,
            "grace_seconds": self.job.grace.total_seconds(),
            "catch_up": self.job.catch_up.value,
            "evidence": self.job.evidence,
            "next_due_at": self.next_due_at,
            "next_due_zone": self.next_zone or None,
            "overdue": self.is_overdue,
            "places": len(self.places),
            "places_on": sum(place.enabled for place in self.places),
            "own_schedules": self.overrides,
            "last_runs": [{name: getattr(run, name) for name in _RUN} for run in self.last],
        }


_RUN = ("shop_id", "period", "status", "ended_at")


def _describe_due(line: JobLine) -> str:
    due = "-" if line.next_due_at is None else format_local(line.next_due_at, line.next_zone)
    return due + (" OVERDUE" if line.is_overdue else "")


def _describe_state(line: JobLine) -> str:
    off = [place.slug or "the fleet" for place in line.places if not place.enabled]
    if not off:
        return "on"
    return "paused" if len(off) == len(line.places) else f"paused at {format_shops(off)}"


def _describe_last_run(line: JobLine) -> str:
    if not line.last:
        return "never"
    period = max(line.last, key=lambda run: run.due_at).period
    same = [run.status for run in line.last if run.period == period]
    ended = max((run.ended_at for run in line.last if run.ended_at), default=None)
    counted = [f"{count} {status}" for status, count in sorted(Counter(same).items())]
    text = f"{period}: {same[0] if len(same) == 1 else ', '.join(counted)}"
    return f"{text}, {format_time(ended)}" if ended else text


JOB_COLUMNS: Columns = {
    "job": "job.name",
    "what": "job.title",
    "when": lambda line: explain_schedule(line.schedule),
    "cron": "schedule",
    "zone": lambda line: "each shop's" if line.job.zone == "shop" else line.next_zone or line.job.zone,
    "covers": "job.covers.value",
    "grace": lambda line: f"{line.job.grace.total_seconds() / 60:g} min",
    "catch-up": "job.catch_up.value",
    "next due": _describe_due,
    "on": _describe_state,
    "own times": "overrides",
    "last run": _describe_last_run,
}


class PlannedRun(NamedTuple):
    """A time at which a job will run, with its shops."""

    job: Job
    due_at: datetime
    zone: str
    shops: tuple[str, ...]

    @property
    def local(self) -> str:
        """The time in the job's zone."""
        return format_local(self.due_at, self.zone)

    @property
    def period(self) -> str:
        """The period that the run covers."""
        return period_of(self.job.covers, self.due_at, ZoneInfo(self.zone))

    @property
    def where(self) -> str:
        """The shops, or the fleet."""
        return format_shops(self.shops) if self.job.per_shop else "the fleet"

    def document(self) -> dict[str, Any]:
        """Return the line for programs."""
        return {
            "job": self.job.name,
            "due_at": self.due_at,
            "due_at_local": self.due_at.astimezone(ZoneInfo(self.zone)).isoformat(),
            "zone": self.zone,
            "period": self.period,
            "shops": list(self.shops) if self.job.per_shop else None,
        }


PLANNED_COLUMNS: Columns = {
    "job": "job.name",
    "due": "local",
    "UTC": lambda run: format_time(run.due_at, UTC),
    "for": "period",
    "where": "where",
}


def find_job_lines(tx: Connection, shop_id: int | None, now: datetime) -> list[JobLine]:
    """Return every job, or only those that run at the shop, by name."""
    last = find_last_runs(tx, shop_id)
    by_job: dict[str, list[EffectiveSchedule]] = {}
    for place in _find_places(tx, None, shop_id):
        by_job.setdefault(place.job.name, []).append(place)
    return [
        _line(job, by_job.get(name, []), last.get(name, []), now)
        for name, job in find_jobs(tx).items()
        if shop_id is None or name in by_job
    ]


def find_planned(
    tx: Connection, job: str | None, shop_id: int | None, now: datetime, count: int
) -> list[PlannedRun]:
    """Return the next runs by time: ``count`` for each schedule of ``job``, or ``count`` of all jobs."""
    together: dict[tuple[str, str, str], list[EffectiveSchedule]] = {}
    for place in _find_places(tx, job, shop_id):
        if place.enabled:
            together.setdefault((place.job.name, place.schedule, place.zone), []).append(place)
    planned = [
        PlannedRun(places[0].job, slot, zone, tuple(place.slug for place in places))
        for (_, schedule, zone), places in together.items()
        for slot in list_next_slots(schedule, ZoneInfo(zone), now, count)
    ]
    planned.sort(key=lambda one: (one.due_at, one.job.name, one.shops))
    return planned if job else planned[:count]


def describe_schedules(schedules: Sequence[EffectiveSchedule]) -> str:
    """Return when a job of ``schedules`` runs, and where it is paused. Pure."""
    paused = [one.slug or "the fleet" for one in schedules if not one.enabled]
    if not schedules:
        return "changed for future shops: there are none yet"
    if len(paused) == len(schedules):
        return "paused"
    times = sorted({f"{explain_schedule(s.schedule)} ({s.schedule})" for s in schedules if s.enabled})
    text = "run " + "; ".join(time[0].lower() + time[1:] for time in times)
    return text + (f"; paused at {', '.join(paused)}" if paused else "")


def format_local(at: datetime, zone: str) -> str:
    """Return ``at`` in ``zone``: ``Mon 2026-11-23 00:00 -07:00 (America/Vancouver)``."""
    local = ZoneInfo(zone)
    return f"{at.astimezone(local):%a} {format_time(at, local)} ({zone})"


def format_shops(slugs: Sequence[str]) -> str:
    """Return the names of up to three shops, or the number of more shops."""
    return ", ".join(slugs) if len(slugs) <= MAX_NAMED_SHOPS else format_count(len(slugs), "shop")


def _find_places(tx: Connection, job: str | None, shop_id: int | None) -> list[EffectiveSchedule]:
    places = list_schedules(tx, job)
    return [place for place in places if shop_id is None or place.shop_id == shop_id]


def _line(job: Job, places: Sequence[EffectiveSchedule], last: Sequence[RunLine], now: datetime) -> JobLine:
    """Return the line of a job. A due slot that is not planned yet comes before the next one."""
    on = [place for place in places if place.enabled]
    due = [
        (slot, zone)
        for schedule, zone in {(place.schedule, place.zone) for place in on}
        for slot in list_next_slots(schedule, ZoneInfo(zone), now)
    ]
    due += [(p.next_due_at, p.zone) for p in on if p.next_due_at is not None and p.next_due_at <= now]
    next_due_at, next_zone = min(due) if due else (None, places[0].zone if places else "")
    is_overdue = next_due_at is not None and next_due_at + min(job.grace, START_WITHIN) < now
    return JobLine(job, places, next_due_at, next_zone, is_overdue, last)
