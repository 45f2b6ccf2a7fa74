"""The end of a run: its stats, its incidents, and one analytics event per ended run."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.posthog import plan_capture
from services.alerts.recorded_rules import JOB_FAILED, NOT_RUN
from services.audit.chain import AuditEntry, Mutation
from services.jobs.sentry_monitors import close_checkins
from services.ledger.accept import WorkRef, record_work
from services.ledger.audit_text import format_money
from services.ledger.work import FollowUp, NewWork

TOO_SHORT = "run_too_short"
TOO_SMALL = "volume_too_small"

MIN_HISTORY = 5
"""With fewer earlier runs nothing counts as unusual."""
SHORT_SHARE, SHORT_MIN_SECONDS = 0.1, 5.0
"""A run is short below this share of the usual duration; jobs of less than 5 s are not checked."""
SMALL_SHARE, SMALL_MIN_VOLUME = 0.25, 8.0
"""A volume is small below this share of the usual one; jobs that usually do less than 8 are not checked."""

_CENTS = re.compile(r"(.+)_([a-zA-Z]{3})_cents")
"""The name of a figure in money, such as ``charge_cad_cents``."""


_END = """
update job_runs r set status = 'done', ended_at = %(now)s, started_at = coalesce(r.started_at, %(now)s),
       stats = %(stats)s::jsonb, error = null
  from jobs j
 where r.id = %(id)s and j.name = r.job
returning r.id, r.job, r.shop_id, r.period, r.origin, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - r.started_at)::float8 as seconds, j.min_run_seconds, j.volume
"""

_FAIL = """
update job_runs r
   set status = 'failed', ended_at = coalesce(w.finished_at, %(now)s),
       error = coalesce(w.error_code || ': ' || w.last_error, w.result, w.status)
  from work_queue w
 where w.id = r.work_id and r.ended_at is null and w.status in ('dead', 'discarded')
returning r.id, r.job, r.shop_id, r.period, r.origin, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - coalesce(r.started_at, r.ended_at))::float8 as seconds,
          w.status = 'dead' as is_dead, coalesce(w.error_code, '') as error_code, r.error
"""

_PAST = """
select extract(epoch from ended_at - started_at)::float8 as seconds, stats ->> %(volume)s as volume
  from job_runs
 where job = %(job)s and shop_id is not distinct from %(shop_id)s::int and status = 'done' and id <> %(id)s
   and started_at is not null
 order by due_at desc limit 10
"""


def complete_run(
    tx: Connection, run_id: int, stats: Mapping[str, int | float | str], now: datetime
) -> FollowUp:
    """Set the run to ``done`` with ``stats``, resolve its incidents and open new ones for anomalies."""
    values = {"id": run_id, "now": now, "stats": orjson.dumps(dict(stats)).decode()}
    run = tx.exec_driver_sql(_END, values).one()
    ended = "The run has ended."
    for rule in (NOT_RUN, JOB_FAILED):
        resolve_incident(tx, run.shop_id, f"{rule}:{run.job}", run.period, now, ended)
    record_incidents(tx, _find_anomalies(tx, run, stats), now)
    # The audit stores floats as text, because a float has no exact JSON form.
    exact = {name: str(value) if isinstance(value, float) else value for name, value in stats.items()}
    mutation = Mutation(
        "job_runs",
        str(run.id),
        f"{run.job} for {run.period} done; {format_stats(stats)}",
        None,
        {"status": "done", "stats": exact, "origin": run.origin},
    )
    entry = AuditEntry(run.shop_id, f"job {run.job}", run.job, run.request_id, [mutation], run.work_id)
    return FollowUp(_plan_analytics(run, stats, now), [entry])


def sync_run_status(tx: Connection, now: datetime) -> list[WorkRef]:
    """Set runs whose work is dead or discarded to ``failed``, and close check-ins whose runs have ended.

    Dead work opens an incident, which stays open until the run is done; discarded work opens none. Returns
    the work to notify workers of. A failed run whose work is requeued runs again.
    """
    failed = tx.exec_driver_sql(_FAIL, {"now": now}).all()
    incidents = [
        Incident(
            run.shop_id,
            f"{JOB_FAILED}:{run.job}",
            run.period,
            "P2",
            f"{run.job} for {run.period} failed: {run.error}"[:500],
            {"run": run.id, "code": run.error_code},
        )
        for run in failed
        if run.is_dead
    ]
    record_incidents(tx, incidents, now)
    events = [new for run in failed for new in _plan_analytics(run, {}, now)]
    return record_work(tx, [*events, *close_checkins(tx, now)], now)


def _plan_analytics(run: Row[Any], stats: Mapping[str, Any], now: datetime) -> list[NewWork]:
    """Return the work that sends the event of ``run`` to PostHog; none without ``POSTHOG_KEY``."""
    properties = {
        "job": run.job,
        "period": run.period,
        "status": run.status,
        "duration_seconds": round(run.seconds, 3),
        "origin": run.origin,
        "stats": dict(stats),
    }
    return plan_capture(
        "cron_job_completed",
        run.shop_id,
        f"{run.id}:{run.work_id}:{run.status}",
        properties,
        now,
        key=f"run:{run.id}",
        origin="job",
        request_id=run.request_id,
    )


def format_stats(stats: Mapping[str, Any]) -> str:
    """Return ``stats`` as text: "ours: 120, breaks: 2, charge: 31.00 CAD" (``charge_cad_cents``)."""
    return ", ".join(_format_figure(name, value) for name, value in stats.items()) or "no figures"


def _format_figure(name: str, value: Any) -> str:
    money = _CENTS.fullmatch(name)
    if money is None or type(value) is not int:
        return f"{name.replace('_', ' ')}: {value}"
    return f"{money[1].replace('_', ' ')}: {format_money(value, money[2].upper())}"


def _find_anomalies(tx: Connection, run: Row[Any], stats: Mapping[str, Any]) -> Sequence[Incident]:
    past = tx.exec_driver_sql(_PAST, run._asdict()).all()
    short = _check_duration(run.seconds, run.min_run_seconds, [row.seconds for row in past])
    volumes = [number for row in past if (number := _number(row.volume)) is not None]
    done = _number(stats.get(run.volume))
    small = _check_volume(run.volume, done, volumes) if done is not None else ""
    return [
        Incident(
            run.shop_id,
            f"{rule}:{run.job}",
            run.period,
            "P3",
            f"{run.job} for {run.period} {why}: check its stats, and whether its source is complete",
            {"run": run.id, "seconds": run.seconds, "stats": dict(stats)},
        )
        for rule, why in ((TOO_SHORT, short), (TOO_SMALL, small))
        if why
    ]


def _check_duration(seconds: float, min_seconds: float, past_seconds: Sequence[float]) -> str:
    if seconds < min_seconds:
        return f"ended after {seconds:.1f} s, but needs at least {min_seconds:g} s"
    usual = median(past_seconds) if len(past_seconds) >= MIN_HISTORY else 0.0
    if usual >= SHORT_MIN_SECONDS and seconds < usual * SHORT_SHARE:
        return f"ended after {seconds:.1f} s, but usually takes {usual:.1f} s"
    return ""


def _check_volume(name: str, volume: float, past_volumes: Sequence[float]) -> str:
    usual = median(past_volumes) if len(past_volumes) >= MIN_HISTORY else 0.0
    if usual >= SMALL_MIN_VOLUME and volume < usual * SMALL_SHARE:
        return f"has only {name}: {volume:g}, but usually {usual:g}"
    return ""


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
