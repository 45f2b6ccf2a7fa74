"""A job done in this process, by the road that beat and workers go: ``fleet jobs run``.

The run is a row and its work is an item of the ledger, leased to this process at its birth so that no
worker takes it. If this process dies, the lease ends and a worker goes on: nothing is lost, none run twice.
"""

import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from datetime import datetime
from random import SystemRandom
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import uuid4

from services.cli.base import notify_workers
from services.core.clock import utc_now
from services.core.db import get_engine, rolled_back, transaction
from services.core.log import configure_logging
from services.core.sentry import init_sentry
from services.core.settings import get_settings
from services.jobs.complete_run import format_stats
from services.jobs.definition import Job
from services.jobs.history import RunLine, find_runs
from services.jobs.runs import StartOutcome
from services.jobs.store import JobUnknown
from services.jobs.sync_run_status import sync_run_status
from services.jobs.trigger import TriggeredRun, trigger_job
from services.ledger.accept import WorkRef
from services.ledger.lease import lease_items, release_items
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS

SAID = MappingProxyType(
    {
        StartOutcome.STARTED: "it would start",
        StartOutcome.RUNNING: "it is under way, and would be done here unless a worker has it in hand",
        StartOutcome.ALREADY_DONE: "it is done already, and would only run with --force",
    }
)
"""What ``plan_here`` found, in words."""

_log = logging.getLogger("jobs")


class Result(NamedTuple):
    """What asking for a run came to. ``status``: ``done``, ``already_done``, ``failed``, ``waiting`` for
    another try, or ``running`` somewhere else."""

    slug: str | None
    line: RunLine
    status: str

    @property
    def is_good(self) -> bool:
        """Whether the period is done."""
        return self.status in ("done", "already_done")

    def document(self) -> dict[str, Any]:
        """Return it as the last line of the output has it."""
        line = self.line
        told: dict[str, Any] = {
            "job": line.job,
            "shop": self.slug,
            "period": line.period,
            "status": self.status,
            "stats": line.stats,
            "duration_seconds": None if line.seconds is None else round(line.seconds, 3),
            "run": line.id,
        }
        if not self.is_good:
            told |= {"error": line.error, "next_try_at": line.next_try_at, "locked_by": line.locked_by}
        return told


def run_here(
    job: Job, slug: str, period: str | None, *, force: bool, by: str, request_id: str
) -> list[Result]:
    """The runs of ``job`` are done by this process, one shop after the other. Raises as ``trigger_job`` does.

    One that a worker has in hand is left to it. Log lines go to standard output.
    """
    # Loaded here: these modules bring every effect and Celery with them.
    from tasks.celery import TASK_MODULES
    from tasks.runner import HANDLERS, outside

    settings = get_settings()
    configure_logging(settings, "jobs")
    init_sentry(settings, "jobs")
    for module in TASK_MODULES:
        importlib.import_module(module)
    if job.topic not in HANDLERS:
        raise JobUnknown(f"{job.name} needs the topic {job.topic}, which is not in this version of shopfleet")
    topic, effect = TOPICS[job.topic], outside(HANDLERS[job.topic])
    name = f"cli@{socket.gethostname()}:{os.getpid()}"
    runner, token = ExternalRunner(get_engine(), name, SystemRandom()), f"{name}:{uuid4().hex[:12]}"
    with transaction() as tx:
        now = utc_now()
        asked = trigger_job(
            tx, job, slug, period, origin="cli", by=by, now=now, force=force, request_id=request_id
        )
        held = lease_items(tx, topic, [one.start.ref.id for one in asked if one.start.ref], token, now)
    results: list[Result] = []
    refs: list[WorkRef] = []
    notify_workers([ref for one in asked for ref in one.start.told])  # that it begins is told while it runs
    try:
        _stop_politely()
        for one in asked:
            work_id = one.start.ref.id if one.start.ref else None
            if work_id in held:
                _tell("run begins", job, one)
                refs += runner.run_leased(topic, effect, work_id, token).refs
                held.discard(work_id)
            with transaction() as tx:
                refs += sync_run_status(tx, utc_now())
                (line,) = find_runs(tx, [one.start.run_id])
            results.append(Result(one.shop.slug if one.shop else None, line, _judge(one, line)))
            _tell(f"run {results[-1].status}", job, one, line)
    finally:
        if held:  # told to stop: workers do the rest, the one that was under way among it
            with transaction() as tx:
                release_items(tx, held, token)
        said = notify_workers(refs)
    if said:
        _log.warning(said)
    return results


def _stop_politely() -> None:
    """SIGTERM, as a service manager sends it, ends this process as Ctrl-C does: what is held is released."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def plan_here(job: Job, slug: str, period: str | None, *, force: bool, by: str) -> Sequence[TriggeredRun]:
    """Return what ``run_here`` would find, by doing it and taking it back. Raises as ``trigger_job`` does."""
    with transaction() as tx, rolled_back(tx):
        return trigger_job(tx, job, slug, period, origin="cli", by=by, now=utc_now(), force=force)


def sum_up(job: Job, results: Sequence[Result]) -> dict[str, Any]:
    """Return the last line for all shops: the worst status, and each shop's own document."""
    worst = next((s for s in ("failed", "waiting", "running") if any(r.status == s for r in results)), "done")
    if results and all(result.status == "already_done" for result in results):
        worst = "already_done"
    counted: dict[str, int] = {}
    for result in results:
        counted[result.status] = counted.get(result.status, 0) + 1
    periods = {result.line.period for result in results}
    return {
        "job": job.name,
        "shop": None,
        "period": periods.pop() if len(periods) == 1 else None,
        "status": worst,
        "stats": counted,
        "duration_seconds": round(sum(result.line.seconds or 0.0 for result in results), 3),
        "runs": [result.document() for result in results],
    }


def say_not_done(result: Result, now: datetime) -> str:
    """Return why a run is not done, and what happens next."""
    line = result.line
    what = f"{line.job} for {line.period}" + (f" at {result.slug}" if result.slug else "")
    if result.status == "waiting" and line.next_try_at is not None:
        seconds = max(0, round((line.next_try_at - now).total_seconds()))
        return f"{what} waits for another try in {seconds} s, which a worker makes: {line.error}"
    if result.status == "failed":
        return f"{what} failed: {line.error}"
    return f"{what} is in the hands of {line.locked_by or 'a worker'}: `fleet jobs history` shows its end"


def _judge(asked: TriggeredRun, line: RunLine) -> str:
    if asked.start.found is StartOutcome.ALREADY_DONE:
        return StartOutcome.ALREADY_DONE.value
    if line.status in ("done", "failed"):
        return line.status
    return "waiting" if line.next_try_at is not None else "running"


def _tell(event: str, job: Job, asked: TriggeredRun, line: RunLine | None = None) -> None:
    fields: dict[str, Any] = {
        "job": job.name,
        "shop": asked.shop.slug if asked.shop else "",
        "period": asked.start.period,
        "run": asked.start.run_id,
    }
    if line is not None:
        fields |= {"request_id": line.request_id, "said": format_stats(line.stats), "error": line.error or ""}
    _log.info(event, extra={"fields": fields})
