"""Registers a Celery task for every topic. A message only wakes a worker, which runs all ready work."""

import logging
import os
import socket
import time
from functools import lru_cache
from random import SystemRandom

from celery.exceptions import Retry

from services.core.clock import utc_now
from services.core.db import get_engine, is_connection_fault, transaction
from services.core.log import log_batch_settled
from services.ledger.accept import WorkRef
from services.ledger.claim import list_ready_topics
from services.ledger.dispatch import send_messages
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult, report_dead_work
from services.ledger.steps import log_steps
from services.ledger.topics import TOPICS, HandlerMode, Topic
from tasks.celery import app
from tasks.handlers import EXTERNAL, TRANSACTIONAL

log = logging.getLogger(__name__)

BUDGET_SECONDS = 2.0
"""How long one message runs a backlog before it sends another message and lets other queues run."""


class WorkFailed(Exception):
    """Items of the batch are dead. Flower shows FAILURE."""


class WorkDeferred(Exception):
    """The items will be retried. Flower shows RETRY."""


def _register(topic: Topic) -> None:
    """Register the Celery task of ``topic``, under its name."""

    @app.task(
        name=topic.name,
        queue=topic.queue,
        soft_time_limit=topic.soft_time_limit_seconds,
        time_limit=topic.time_limit_seconds,
        throws=(WorkFailed,),
    )
    def serve(ids: list[int]) -> dict[str, int]:
        return run_message(topic, ids)


def run_message(topic: Topic, ids: list[int]) -> dict[str, int]:
    """Run the ready work of ``topic`` and, while there is a backlog, of its queue's other topics in turn.

    ``ids`` are only information for people: a lost, repeated or late message changes nothing. Raises Celery's
    ``Retry`` if items wait for a retry, ``WorkFailed`` if some are dead.
    """
    started = time.monotonic()
    try:
        total = _serve(topic)
        while total.more and time.monotonic() - started < BUDGET_SECONDS:
            total.more = False
            for ready_topic in _find_ready(topic.queue):
                total.add(_serve(ready_topic))
    except Exception as fault:
        if is_connection_fault(fault):
            raise Retry("the database is unreachable; the sweep sends the work again", exc=fault) from fault
        raise
    if total.more:
        send_messages([WorkRef(ids[0] if ids else 0, topic.queue, topic.name)])
    return _summarize(total)


def _find_ready(queue: str) -> list[Topic]:
    """Return the queue's topics with ready work. Most have none, and an empty claim costs 0.7 ms."""
    with transaction() as tx:
        return list_ready_topics(tx, [each for each in TOPICS.values() if each.queue == queue], utc_now())


def _summarize(total: BatchResult) -> dict[str, int]:
    counts = {"done": total.done, "retried": len(total.retried), "dead": len(total.dead)}
    if total.dead:
        worst = total.dead[0]
        raise WorkFailed(f"{counts}: item {worst.item.id} is dead: {worst.error_code}: {worst.last_error}")
    if total.retried and not total.done:
        first = total.retried[0]
        why = WorkDeferred(f"{counts}: item {first.item.id} waits: {first.error_code}: {first.last_error}")
        raise Retry(str(why), exc=why, when=first.next_retry_at)
    return counts


def _serve(topic: Topic) -> BatchResult:
    started = time.perf_counter()
    worker, transactional, external = _runners(os.getpid())
    if topic.mode is HandlerMode.TRANSACTIONAL:
        report = transactional.run_batch(topic, TRANSACTIONAL[topic.name])
        if report.none_claimable:
            report = transactional.run_suspect(topic, TRANSACTIONAL[topic.name])
    else:
        report = external.run_batch(topic, EXTERNAL[topic.name])
    if report.refs:
        send_messages(report.refs)
        report.refs = []
    if report.claimed:
        _log_batch(topic, report, worker, (time.perf_counter() - started) * 1000)
    return report


def _log_batch(topic: Topic, report: BatchResult, worker: str, duration_ms: float) -> None:
    log_batch_settled(
        topic=topic.name,
        count=report.claimed,
        done=report.done,
        retried=len(report.retried),
        dead=len(report.dead),
        duration_ms=duration_ms,
        request_ids=report.request_ids,
        worker=worker,
    )
    if report.step_ends:
        log_steps(report.step_ends)
    _log_failed(report)
    report_dead_work(report)


def _log_failed(report: BatchResult) -> None:
    """Write a line of level debug for each item of ``report`` that is not done."""
    for one in [*report.retried, *report.dead] if log.isEnabledFor(logging.DEBUG) else ():
        item = one.item
        fields = {
            "id": item.id,
            "topic": item.topic,
            "status": one.status,
            "error_code": one.error_code,
            "last_error": one.last_error,
            "next_retry_at": one.next_retry_at,
            "request_id": item.request_id,
        }
        log.debug("item_failed", extra={"fields": fields})


@lru_cache(maxsize=1)
def _runners(pid: int) -> tuple[str, TransactionalRunner, ExternalRunner]:
    """Return this process's worker name and its runners, created at first use, which is after the fork."""
    name = f"{os.environ.get('FLEET_PROCESS', 'worker')}@{socket.gethostname()}:{pid}"
    return (
        name,
        TransactionalRunner(get_engine(), name, SystemRandom()),
        ExternalRunner(get_engine(), name, SystemRandom()),
    )


for _topic in TOPICS.values():
    _register(_topic)
