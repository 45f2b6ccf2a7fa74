"""Runs that are done, and work on the outside world that is served, as workers do it."""

from collections.abc import Sequence
from datetime import datetime
from random import Random

from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.complete_run import sync_run_status
from services.jobs.handler import JobHandler, JobResult, JobWork
from services.ledger.runner_external import ExternalRunner
from services.ledger.settle import BatchResult
from services.ledger.topics import TOPICS
from services.ledger.work import ExternalHandler


def serve(engine: Engine, topic: str, effect: ExternalHandler) -> BatchResult:
    """One set of ``topic`` is worked."""
    return ExternalRunner(engine, "tester", Random(1)).run_batch(TOPICS[topic], effect)


def finish_runs(engine: Engine, topic: str, work: JobWork = lambda _: JobResult(stats={"theirs": 3})) -> int:
    """Every run whose work waits in ``topic`` is done, one set after the other; how many."""
    done = 0
    while report := serve(engine, topic, JobHandler(work)).claimed:
        done += report
    return done


def follow(engine: Engine, now: datetime | None = None) -> None:
    """Runs have followed their work, and rounds that are over are closed."""
    with transaction(engine) as tx:
        sync_run_status(tx, now or utc_now())


def make_due(engine: Engine, topics: Sequence[str]) -> None:
    """What waits for another try in ``topics`` may be tried now."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update work_queue set next_retry_at = now() where status = 'error' and topic = any(:topics)"
            ),
            {"topics": list(topics)},
        )
