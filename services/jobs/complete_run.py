"""The end of a run: its evidence, what looks odd about it, and who is told."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.chain import Entry, Mutation
from services.jobs.anomalies import judge_run_time, judge_volume
from services.jobs.telemetry import EndedRun, plan_completed
from services.ledger.describe import format_money
from services.ledger.work import FollowUp

NOT_RUN = "cron_did_not_run"
FAILED = "job_failed"
TOO_SHORT = "run_too_short"
TOO_SMALL = "volume_too_small"

_CENTS = re.compile(r"(.+)_([a-zA-Z]{3})_cents")
"""The name of a figure that is money: what it is of, and its currency."""

_END = """
update job_runs r set status = 'done', ended_at = %(now)s, started_at = coalesce(r.started_at, %(now)s),
       stats = %(stats)s::jsonb, error = null
  from jobs j
 where r.id = %(id)s and j.name = r.job
returning r.id, r.job, r.shop_id, r.period, r.origin, r.started_by, r.request_id, r.work_id, r.status,
          extract(epoch from r.ended_at - r.started_at)::float8, j.min_run_seconds, j.volume
"""

_PAST = """
select extract(epoch from ended_at - started_at)::float8, stats ->> %(volume)s
  from job_runs
 where job = %(job)s and shop_id is not distinct from %(shop_id)s::int and status = 'done' and id <> %(id)s
   and started_at is not null
 order by due_at desc limit 10
"""


def complete_run(
    tx: Connection, run_id: int, stats: Mapping[str, int | float | str], now: datetime
) -> FollowUp:
    """The run is ``done`` with ``stats``; what was missing is resolved, and what is odd is an incident."""
    values = {"id": run_id, "now": now, "stats": orjson.dumps(dict(stats)).decode()}
    *told, min_run_seconds, volume = tx.exec_driver_sql(_END, values).one()
    run = EndedRun(*told)
    how = f"It ended at {now:%Y-%m-%d %H:%M} UTC."
    for rule in (NOT_RUN, FAILED):
        resolve_incident(tx, run.shop_id, f"{rule}:{run.job}", run.period, now, how)
    record_incidents(tx, _find_odd(tx, run, stats, min_run_seconds, volume), now)
    entry = Entry(
        run.shop_id,
        f"job {run.job}",
        run.job,
        run.request_id,
        [
            Mutation(
                "job_runs",
                str(run.id),
                f"{run.job} for {run.period} done: {format_stats(stats)}",
                None,
                {"status": "done", "stats": _as_text(stats), "origin": run.origin},
            )
        ],
        run.work_id,
    )
    return FollowUp(plan_completed(run, stats, now), [entry])


def format_stats(stats: Mapping[str, Any]) -> str:
    """Return figures in words: "120 ours, 2 breaks, 31.00 CAD charge" (``charge_cad_cents``)."""
    return ", ".join(_say_figure(name, value) for name, value in stats.items()) or "no figures"


def _say_figure(name: str, value: Any) -> str:
    money = _CENTS.fullmatch(name)
    if money is None or type(value) is not int:
        return f"{value} {name.replace('_', ' ')}"
    return f"{format_money(value, money[2].upper())} {money[1].replace('_', ' ')}"


def _find_odd(
    tx: Connection, run: EndedRun, stats: Mapping[str, Any], min_run_seconds: float, volume: str
) -> Sequence[Incident]:
    past = tx.exec_driver_sql(_PAST, run._asdict() | {"volume": volume}).all()
    short = judge_run_time(run.seconds, min_run_seconds, [float(row[0]) for row in past])
    counted = [number for row in past if (number := _number(row[1])) is not None]
    did = _number(stats.get(volume))
    small = judge_volume(volume, did, counted) if did is not None else ""
    return [
        Incident(
            run.shop_id,
            f"{rule}:{run.job}",
            run.period,
            "P3",
            f"{run.job} for {run.period} {why}: look at its stats, and whether what it reads is whole",
            {"run": run.id, "seconds": run.seconds, "stats": dict(stats)},
        )
        for rule, why in ((TOO_SHORT, short), (TOO_SMALL, small))
        if why
    ]


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _as_text(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``stats`` with an exact form for each figure: a float's is its text."""
    return {name: str(value) if isinstance(value, float) else value for name, value in stats.items()}
