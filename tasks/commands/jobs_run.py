"""``fleet jobs run``: runs a job in this process, with the same rows as beat and the workers.

The work is leased to this process when it is created, so that no worker takes it. If this process dies, the
lease expires and a worker takes the work.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from random import SystemRandom
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection

from services.cli.base import notify_workers
from services.cli.incident_link import link_incident
from services.core.clock import utc_now
from services.core.db import get_engine, transaction, transaction_or_plan
from services.core.log import configure_logging
from services.core.sentry import init_sentry
from services.core.settings import get_settings
from services.jobs.complete_run import format_stats, sync_run_status
from services.jobs.definition import Job
from services.jobs.history import RunLine, list_runs
from services.jobs.runs import StartOutcome, StartResult, trigger_job
from services.jobs.store import JobUnknown
from services.ledger.accept import WorkRef
from services.ledger.lease import lease_items, release_items
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import report_dead_work
from services.ledger.topics import TOPICS
from services.shops.shops import get_shop

PLANS = MappingProxyType(
    {
        StartOutcome.STARTED: "it would start",
        StartOutcome.RUNNING: "it has started, and would run here unless a worker has locked it",
        StartOutcome.ALREADY_DONE: "it is done, and would run again only with --again",
    }
)
"""What ``run_here`` would do, by outcome."""

IDLE_SECONDS = 0.5
"""How often a run whose work others do is looked up."""

_log = logging.getLogger("jobs")


class RunResult(NamedTuple):
    """The result of one run.

    ``status`` is ``done``, ``already_done``, ``failed``, ``waiting`` for a retry, or ``running`` elsewhere.
    """

    slug: str | None
    line: RunLine
    status: str

    @property
    def is_good(self) -> bool:
        """Whether the period is done, and nothing that the run counts as ``failed`` or ``waiting``."""
        return self.is_done and not any(
            self.line.stats.get(name) for name in ("failed", "failed_segments", "waiting")
        )

    @property
    def is_done(self) -> bool:
        return self.status in ("done", "already_done")

    def document(self) -> dict[str, Any]:
        """Return the result for the last line of the output."""
        line = self.line
        document: dict[str, Any] = {
            "job": line.job,
            "shop": self.slug,
            "period": line.period,
            "status": self.status,
            "stats": line.stats,
            "duration_seconds": None if line.duration_seconds is None else round(line.duration_seconds, 3),
            "run": line.id,
        }
        if not self.is_good:
            document |= {"error": line.error, "next_try_at": line.next_try_at, "locked_by": line.locked_by}
        return document


def run_here(
    job: Job,
    slugs: Collection[str],
    period: str | None,
    *,
    force: bool,
    by: str,
    request_id: str,
    log_fd: int,
    incident: int | None = None,
) -> list[RunResult]:
    """Run ``job`` at ``slugs`` (none: at every place) in this process, one shop after the other.

    Writes log lines to ``log_fd``. The timeline of ``incident`` has the runs. Raises as ``trigger_job`` does.
    """
    # Imported here, because it loads every handler and Celery.
    from tasks.handlers import CONTINUED, EXTERNAL

    settings = get_settings()
    configure_logging(settings, "jobs", fd=log_fd)
    init_sentry(settings, "jobs")
    if job.topic not in EXTERNAL:
        raise JobUnknown(f"{job.name} needs the topic {job.topic}, which is not in this version of shopfleet")
    topic, effect = TOPICS[job.topic], EXTERNAL[job.topic]
    name = f"cli@{socket.gethostname()}:{os.getpid()}"
    runner, token = ExternalRunner(get_engine(), name, SystemRandom()), f"{name}:{uuid4().hex[:12]}"
    with transaction() as tx:
        now = utc_now()
        author = {"by": by, "now": now, "request_id": request_id}
        triggered = _trigger(tx, job, slugs, period, incident, force=force, **author)
        leased = lease_items(tx, topic, [one.ref.id for one in triggered if one.ref], token, now)
    results: list[RunResult] = []
    refs: list[WorkRef] = []
    notify_workers([ref for one in triggered for ref in one.checkins])
    try:
        if threading.current_thread() is threading.main_thread():
            # A service manager sends SIGTERM; as with Ctrl-C, leases are released.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        for number, one in enumerate(triggered, 1):
            work_id = one.ref.id if one.ref else None
            if work_id in leased:
                _log_run("run_started", job, one, number=f"{number} of {len(triggered)}")
                done = runner.run_leased(topic, effect, work_id, token)
                report_dead_work(done)
                refs += done.refs
                leased.discard(work_id)
            with transaction() as tx:
                refs += sync_run_status(tx, utc_now())
                (line,) = list_runs(tx, [one.run_id])
            if job.topic in CONTINUED and line.status == "running" and line.next_try_at is None:
                line = _finish(one.run_id, CONTINUED[job.topic], runner)
            results.append(RunResult(one.shop.slug if one.shop else None, line, _classify(one, line)))
            _log_run("run_finished", job, one, line, results[-1].status)
    finally:
        if leased:  # interrupted: workers do the remaining runs, including the interrupted one
            with transaction() as tx:
                release_items(tx, leased, token)
        note = notify_workers(refs)
    if note:
        _log.warning("workers_not_notified", extra={"fields": {"next": note}})
    return results


def _finish(run_id: int, topics: Sequence[str], external: ExternalRunner) -> RunLine:
    """Work on ``topics`` beside the workers until the run has ended; return it.

    A machine without workers does all of it here. The run's follower sets a limit to the time.
    """
    from tasks.collectors import FOLLOWERS
    from tasks.handlers import EXTERNAL, TRANSACTIONAL

    transactional = TransactionalRunner(get_engine(), external.worker, SystemRandom())
    while True:
        claimed = 0
        for topic in map(TOPICS.__getitem__, topics):
            if topic.name in TRANSACTIONAL:
                done = transactional.run_batch(topic, TRANSACTIONAL[topic.name])
            else:
                done = external.run_batch(topic, EXTERNAL[topic.name])
            report_dead_work(done)
            claimed += done.claimed
        if claimed:
            continue
        with transaction() as tx:
            refs = [ref for follow in FOLLOWERS.values() for ref in follow(tx, utc_now())]
            (line,) = list_runs(tx, [run_id])
        notify_workers(refs)
        if line.ended_at is not None:
            return line
        time.sleep(IDLE_SECONDS)


def plan_here(
    job: Job,
    slugs: Collection[str],
    period: str | None,
    *,
    force: bool,
    by: str,
    incident: int | None = None,
) -> Sequence[StartResult]:
    """Return what ``run_here`` would trigger, without a commit. Raises as ``trigger_job`` does."""
    with transaction_or_plan(dry_run=True) as tx:
        author = {"by": by, "now": utc_now(), "request_id": ""}
        return _trigger(tx, job, slugs, period, incident, force=force, **author)


def _trigger(
    tx: Connection,
    job: Job,
    slugs: Collection[str],
    period: str | None,
    incident: int | None,
    *,
    force: bool,
    **author: Any,
) -> list[StartResult]:
    # By id, so that all transactions lock the rows in one order.
    places = sorted({*slugs}, key=lambda slug: get_shop(tx, slug).id if slug else 0) or [""]
    found = [
        one
        for slug in places
        for one in trigger_job(tx, job, slug, period, origin="cli", force=force, **author)
    ]
    periods = ", ".join(sorted({one.period for one in found}))
    where = f" at {', '.join(slugs)}" if any(slugs) else ""
    link_incident(tx, incident, f"runs {job.name} for {periods}{where}", **author)
    return found


def summarize(job: Job, results: Sequence[RunResult]) -> dict[str, Any]:
    """Return the result for all shops: the worst status, and each run."""
    counted = Counter(result.status for result in results)
    worst = next((s for s in ("failed", "waiting", "running", "done", "already_done") if counted[s]), "done")
    periods = {result.line.period for result in results}
    return {
        "job": job.name,
        "shop": None,
        "period": periods.pop() if len(periods) == 1 else None,
        "status": worst,
        "stats": counted,
        "duration_seconds": round(sum(result.line.duration_seconds or 0.0 for result in results), 3),
        "runs": [result.document() for result in results],
    }


def describe_result(result: RunResult, now: datetime) -> str:
    """Return the figures of a run that is done, or why it is not done and what happens next."""
    line = result.line
    what = f"{line.job} for {line.period}" + (f" at {result.slug}" if result.slug else "")
    if result.is_good:
        took = "" if line.duration_seconds is None else f" in {line.duration_seconds:.1f} s"
        before = " before: --again runs it again" if result.status == "already_done" else ""
        return f"{what} was done{before or took}; {format_stats(line.stats)}"
    if result.is_done:
        return (
            f"{what} was done, but not every mail was sent; {format_stats(line.stats)}: `fleet incidents "
            "list` and `fleet mail list --status refused` have the causes"
        )
    if result.status == "waiting" and line.next_try_at is not None:
        seconds = max(0, round((line.next_try_at - now).total_seconds()))
        return f"{what} waits for another try in {seconds} s, which a worker makes: {line.error}"
    if result.status == "failed":
        return f"{what} failed: {line.error}"
    return f"{what} is locked by {line.locked_by or 'a worker'}: `fleet jobs history` shows its end"


def _classify(triggered: StartResult, line: RunLine) -> str:
    if triggered.found is StartOutcome.ALREADY_DONE:
        return StartOutcome.ALREADY_DONE.value
    if line.status in ("done", "failed"):
        return str(line.status)
    return "waiting" if line.next_try_at is not None else "running"


def _log_run(
    event: str, job: Job, triggered: StartResult, line: RunLine | None = None, status: str = "", **more: str
) -> None:
    fields: dict[str, Any] = {
        **more,
        "job": job.name,
        "shop": triggered.shop.slug if triggered.shop else "",
        "period": triggered.period,
        "run": triggered.run_id,
    }
    if line is not None:
        fields |= {"status": status, "request_id": line.request_id, "stats": format_stats(line.stats)}
        fields["error"] = line.error or ""
    _log.info(event, extra={"fields": fields})
