"""Helpers that process the work of runs as workers do."""

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
    """Process one batch of ``topic``."""
    return ExternalRunner(engine, "tester", Random(1)).run_batch(TOPICS[topic], effect)


def finish_runs(engine: Engine, topic: str, work: JobWork = lambda _: JobResult(stats={"theirs": 3})) -> int:
    """Process the waiting runs of ``topic`` batch by batch; return how many are done."""
    done = 0
    while report := serve(engine, topic, JobHandler(work)).claimed:
        done += report
    return done


def follow(engine: Engine, now: datetime | None = None) -> None:
    """Update runs from their work, and close finished rounds."""
    with transaction(engine) as tx:
        sync_run_status(tx, now or utc_now())


def make_due(engine: Engine, topics: Sequence[str]) -> None:
    """Make the retries of ``topics`` due now."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update work_queue set next_retry_at = now() where status = 'error' and topic = any(:topics)"
            ),
            {"topics": list(topics)},
        )
