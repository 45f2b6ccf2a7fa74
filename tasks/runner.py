"""The one runner of every topic: a message rings, and the worker serves what is ready."""

import os
import socket
import time
from random import SystemRandom
from typing import Any

from celery import Task
from celery.exceptions import Retry

from services.core.clock import utc_now
from services.core.db import get_engine, is_connection_fault, transaction
from services.core.log import log_batch_settled
from services.core.sentry import capture_dead_work
from services.ledger.claim import find_ready_topics
from services.ledger.dispatch import send_messages
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.settle import BatchResult
from services.ledger.topics import TOPICS, Mode, Topic
from services.ledger.work import ExternalHandler, Handler, TransactionalHandler
from tasks.celery import app

BUDGET_SECONDS = 2.0
"""How long one message may go on serving a backlog before it rings again and lets others in."""

HANDLERS: dict[str, Handler] = {}
"""What each topic does. Filled by the task modules; a test holds it against ``TOPICS``."""


class WorkFailed(Exception):
    """Some of the set gave up or was refused. Flower shows FAILURE; a person finds it in the backlog."""


class WorkDeferred(Exception):
    """The set will be tried again at its time. Flower shows RETRY."""


def work_task(name: str, effect: Handler) -> Task[..., Any]:
    """Register ``effect`` under its topic's name, and return the Celery task that runs it."""
    topic = TOPICS[name]
    HANDLERS[name] = effect

    @app.task(
        name=name,
        queue=topic.queue,
        soft_time_limit=topic.soft_time_limit_seconds,
        time_limit=topic.time_limit_seconds,
        throws=(WorkFailed,),
    )
    def serve(ids: list[int]) -> dict[str, int]:
        return run_message(topic, ids)

    return serve


def run_message(topic: Topic, ids: list[int]) -> dict[str, int]:
    """What is ready of ``topic`` is worked, and while there is a backlog, its queue's other topics in turn.

    ``ids`` tell people what rang; what is done is whatever is ready, fairly over shops and topics, so
    that a lost, repeated or late message changes nothing. Raises Celery's ``Retry`` when items wait
    for another try, ``WorkFailed`` when some gave up: that is how Flower shows them.
    """
    started = time.monotonic()
    try:
        total = _serve(topic)
        while total.more and time.monotonic() - started < BUDGET_SECONDS:
            total.more = False
            for neighbour in _find_waiting(topic.queue):
                total.add(_serve(neighbour))
    except Exception as fault:
        if is_connection_fault(fault):
            raise Retry("the database is away; the sweep will ring again", exc=fault) from fault
        raise
    if total.more:
        runners.ring(topic, ids)
    return _answer(total)


def _find_waiting(queue: str) -> list[Topic]:
    """Return the queue's topics with ready work. Most have none, and each claim of nothing costs 0.7 ms."""
    with transaction() as tx:
        return find_ready_topics(tx, [each for each in TOPICS.values() if each.queue == queue], utc_now())


def _answer(total: BatchResult) -> dict[str, int]:
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
    effect = HANDLERS[topic.name]
    started = time.perf_counter()
    if topic.mode is Mode.TRANSACTIONAL:
        report = runners.own().run_batch(topic, own(effect))
        if report.passed_over:
            report = runners.own().run_suspect(topic, own(effect))
    else:
        report = runners.outside().run_batch(topic, outside(effect))
    if report.refs:
        send_messages(report.refs)
        report.refs = []
    if report.claimed:
        _tell(topic, report, (time.perf_counter() - started) * 1000)
    return report


def _tell(topic: Topic, report: BatchResult, duration_ms: float) -> None:
    log_batch_settled(
        topic=topic.name,
        count=report.claimed,
        done=report.done,
        retried=len(report.retried),
        dead=len(report.dead),
        duration_ms=duration_ms,
        request_ids=report.request_ids,
        worker=runners.name,
    )
    for gone in report.dead:
        capture_dead_work(
            topic=topic.name,
            work_id=gone.item.id,
            code=gone.error_code or "",
            shop=str(gone.item.shop_id),
            request_id=gone.item.request_id,
            last_error=gone.last_error or "",
        )


def own(effect: Handler) -> TransactionalHandler:
    """Return ``effect`` as what it must be for a topic that runs ``own``."""
    assert callable(effect)  # noqa: S101 - a test holds every topic's effect against its kind
    return effect


def outside(effect: Handler) -> ExternalHandler:
    """Return ``effect`` as what it must be for a topic that runs ``outside``."""
    assert not callable(effect)  # noqa: S101
    return effect


class _Runners:
    """The runners of this process, made at first use: after the fork."""

    def __init__(self) -> None:
        self.name = ""
        self._own: TransactionalRunner | None = None
        self._outside: ExternalRunner | None = None
        self._pid = 0

    def _fresh(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.name = f"{os.environ.get('FLEET_PROCESS', 'worker')}@{socket.gethostname()}:{self._pid}"
            self._own = TransactionalRunner(get_engine(), self.name, SystemRandom())
            self._outside = ExternalRunner(get_engine(), self.name, SystemRandom())

    def own(self) -> TransactionalRunner:
        self._fresh()
        assert self._own is not None  # noqa: S101
        return self._own

    def outside(self) -> ExternalRunner:
        self._fresh()
        assert self._outside is not None  # noqa: S101
        return self._outside

    def ring(self, topic: Topic, ids: list[int]) -> None:
        """The backlog outlasted this message's budget: ring once more, behind whoever waits."""
        from services.ledger.accept import WorkRef

        send_messages([WorkRef(ids[0] if ids else 0, topic.queue, topic.name)])


runners = _Runners()
