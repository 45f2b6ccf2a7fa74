"""Completes a run: stores its stats, resolves its incidents, and reports an unusual duration or volume."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

import orjson
from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.chain import Entry, Mutation
from services.jobs.telemetry import EndedRun, plan_completed, to_ended_run
from services.ledger.describe import format_money
from services.ledger.work import FollowUp

NOT_RUN = "cron_did_not_run"
FAILED = "job_failed"
TOO_SHORT = "run_too_short"
TOO_SMALL = "volume_too_small"

MIN_HISTORY = 5
"""Earlier runs without which nothing is called unusual."""
SHORT_SHARE, SHORT_MIN_SECONDS = 0.1, 5.0
"""A run is short below this share of the usual duration; jobs of less than 5 s are not checked."""
SMALL_SHARE, SMALL_MIN_VOLUME = 0.25, 8.0
"""A volume is small below this share of the usual one; jobs that usually do less than 8 are not checked."""

_CENTS = re.compile(r"(.+)_([a-zA-Z]{3})_cents")
"""The name of a figure that is money: its subject and its currency."""

_END = """
update job_runs r set status = 'done', ended_at = %(now)s, started_at = coalesce(r.started_at, %(now)s),
       stats = %(stats)s::jsonb, error = null
  from jobs j
 where r.id = %(id)s and j.name = r.job
returning r.id, r.job, r.shop_id, r.period, r.origin, r.started_by, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - r.started_at)::float8 as seconds, j.min_run_seconds, j.volume
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
    row = tx.exec_driver_sql(_END, values).one()
    run = to_ended_run(row)
    for rule in (NOT_RUN, FAILED):
        resolve_incident(
            tx, run.shop_id, f"{rule}:{run.job}", run.period, now, f"It ended at {now:%Y-%m-%d %H:%M} UTC."
        )
    record_incidents(tx, _find_anomalies(tx, run, stats, row.min_run_seconds, row.volume), now)
    mutation = Mutation(
        "job_runs",
        str(run.id),
        f"{run.job} for {run.period} done: {format_stats(stats)}",
        None,
        {"status": "done", "stats": _as_text(stats), "origin": run.origin},
    )
    entry = Entry(run.shop_id, f"job {run.job}", run.job, run.request_id, [mutation], run.work_id)
    return FollowUp(plan_completed(run, stats, now), [entry])


def format_stats(stats: Mapping[str, Any]) -> str:
    """Return ``stats`` as text: "120 ours, 2 breaks, 31.00 CAD charge" (``charge_cad_cents``)."""
    return ", ".join(_format_figure(name, value) for name, value in stats.items()) or "no figures"


def _format_figure(name: str, value: Any) -> str:
    money = _CENTS.fullmatch(name)
    if money is None or type(value) is not int:
        return f"{value} {name.replace('_', ' ')}"
    return f"{format_money(value, money[2].upper())} {money[1].replace('_', ' ')}"


def _find_anomalies(
    tx: Connection, run: EndedRun, stats: Mapping[str, Any], min_run_seconds: float, volume: str
) -> Sequence[Incident]:
    past = tx.exec_driver_sql(_PAST, run._asdict() | {"volume": volume}).all()
    short = check_duration(run.seconds, min_run_seconds, [row.seconds for row in past])
    volumes = [number for row in past if (number := _number(row.volume)) is not None]
    done = _number(stats.get(volume))
    small = check_volume(volume, done, volumes) if done is not None else ""
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


def check_duration(seconds: float, min_seconds: float, past_seconds: Sequence[float]) -> str:
    """Return why a run of ``seconds`` was too short, or nothing."""
    if seconds < min_seconds:
        return f"ended after {seconds:.1f} s, which is less than the {min_seconds:g} s it needs at least"
    usual = median(past_seconds) if len(past_seconds) >= MIN_HISTORY else 0.0
    if usual >= SHORT_MIN_SECONDS and seconds < usual * SHORT_SHARE:
        return f"ended after {seconds:.1f} s, and usually takes {usual:.1f} s"
    return ""


def check_volume(name: str, volume: float, past_volumes: Sequence[float]) -> str:
    """Return why a run that did ``volume`` did too little, or nothing. ``name`` is the counted figure."""
    usual = median(past_volumes) if len(past_volumes) >= MIN_HISTORY else 0.0
    if usual >= SMALL_MIN_VOLUME and volume < usual * SMALL_SHARE:
        return f"only {volume:g} {name}, where {usual:g} are usual"
    return ""


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _as_text(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``stats`` with an exact form for each figure: a float's is its text."""
    return {name: str(value) if isinstance(value, float) else value for name, value in stats.items()}
