"""External runner: claims a batch in a short transaction, makes its calls, settles in a second transaction.

A lease protects the rows and is renewed while the batch runs; a worker that lost its lease cannot settle.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from random import Random
from uuid import uuid4

import orjson
from sqlalchemy import Connection, Engine

from services.core.clock import utc_now
from services.core.db import is_connection_fault, transaction
from services.core.errors import OutcomeUnknown, WorkError
from services.core.pg_arrays import int_array, text_array
from services.ledger.call_results import (
    CallResult,
    items_of,
    make_call,
    partition_results,
    plan_settlements,
    record_results,
)
from services.ledger.claim import claim_leased
from services.ledger.lease import delay_items, find_leased, is_key_waiting, release_items, renew_lease
from services.ledger.rate_limits import apply_rate_limit
from services.ledger.settle import BatchResult, InternalError, settle, to_internal_error
from services.ledger.topics import Topic
from services.ledger.work import Call, ExternalHandler, FollowUp, PreparedBatch, PreparedCall, WorkItem
from services.shops.connections import record_provider_calls
from services.shops.secret_uses import SecretUses, list_accepted

GATHER_SECONDS = 0.05
"""Calls that end within this time are settled in one commit."""

_STORE_PAYLOADS = """
update work_queue w set payload = v.payload::jsonb
from unnest(%(id)s::bigint[], %(payload)s::text[]) as v(id, payload) where w.id = v.id
"""


class ExternalRunner:
    """Runs the external topics of one worker process."""

    def __init__(self, engine: Engine, worker: str, rng: Random) -> None:
        self._engine, self._rng = engine, rng
        self.worker = worker
        self._last_shop: dict[str, int] = {}
        self._uses = SecretUses()

    def run_batch(self, topic: Topic, handler: ExternalHandler) -> BatchResult:
        """Run one batch of ``topic``; finished calls are settled while others still run."""
        token = f"{self.worker}:{uuid4().hex[:12]}"
        with transaction(self._engine) as tx:
            now = utc_now()
            claim = claim_leased(tx, topic, now, token, self._last_shop.get(topic.name, 0))
            self._last_shop[topic.name] = claim.last_shop_id
            ready, delayed = apply_rate_limit(tx, topic, claim.items, now)
            delay_items(tx, delayed, token)
        if not ready:
            return BatchResult()
        with self._renewing(topic, token):
            batch = _Batch(self._engine, self.worker, self._rng, self._uses, topic, token, now)
            batch.run(handler, ready)
        batch.result.more = claim.more
        if not claim.more:
            # Items whose key was leased could not be claimed, and their messages are gone: run them next.
            with transaction(self._engine) as tx:
                batch.result.more = is_key_waiting(tx, topic, ready, utc_now())
        return batch.result

    def run_leased(self, topic: Topic, handler: ExternalHandler, item_id: int, token: str) -> BatchResult:
        """Run item ``item_id`` if ``token`` holds its lease (see ``lease.lease_items``).

        All leases of ``token`` for ``topic`` are renewed meanwhile.
        """
        with self._renewing(topic, token):
            with transaction(self._engine) as tx:
                item = find_leased(tx, item_id, token)
            batch = _Batch(self._engine, self.worker, self._rng, self._uses, topic, token, utc_now())
            if item is not None:
                batch.run(handler, [item])
        return batch.result

    @contextmanager
    def _renewing(self, topic: Topic, token: str) -> Iterator[None]:
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(topic.lease.total_seconds() / 3):
                try:
                    with transaction(self._engine) as tx:
                        renew_lease(tx, topic, token, utc_now())
                except Exception as fault:  # noqa: BLE001 - a lost lease only means that nothing is settled
                    to_internal_error(fault, topic.name)

        thread = threading.Thread(target=renew, name=f"lease-{token}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()


class _Batch:
    """Items leased to one token: prepares, calls and settles them, and counts them in ``result``."""

    def __init__(
        self,
        engine: Engine,
        worker: str,
        rng: Random,
        uses: SecretUses,
        topic: Topic,
        token: str,
        claimed_at: datetime,
    ) -> None:
        self._uses = uses
        self._engine, self._worker, self._rng = engine, worker, rng
        self._topic, self._token, self._claimed_at = topic, token, claimed_at
        self.result = BatchResult()

    def run(self, handler: ExternalHandler, items: list[WorkItem]) -> None:
        calls = self._prepare(handler, items)
        if len(calls) == 1 and isinstance(calls[0], PreparedCall):
            self._settle([make_call(calls[0], self._topic)])
        elif calls:
            self._call_all(calls)

    def _prepare(self, handler: ExternalHandler, items: list[WorkItem]) -> list[Call]:
        """Return the calls of ``items``; settle items without a call. If it fails, prepare one by one."""
        calls: dict[int, Call] = {}
        finished: list[CallResult] = []
        try:
            with transaction(self._engine) as tx:
                for item, plan in zip(items, handler.prepare(tx, items, utc_now()), strict=True):
                    if isinstance(plan, PreparedCall | PreparedBatch):
                        calls.setdefault(id(plan), plan)
                    else:
                        finished.append(CallResult([(item, plan)]))
                _store_payloads(tx, list(calls.values()))
            self._settle(finished)
            return list(calls.values())
        except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
            if len(items) == 1:
                self._settle([CallResult([(items[0], self._to_error(fault, items[0]))])])
                return []
        return [call for item in items for call in self._prepare(handler, [item])]

    def _call_all(self, calls: list[Call]) -> None:
        threads = min(self._topic.calls_at_once, len(calls))
        pool = ThreadPoolExecutor(threads, thread_name_prefix=self._topic.name)
        running: dict[Future[CallResult], Call] = {
            pool.submit(make_call, call, self._topic): call for call in calls
        }
        try:
            while running:
                wait(running, return_when=FIRST_COMPLETED)
                finished, _ = wait(running, timeout=GATHER_SECONDS)
                results = [future.result() for future in finished]
                for future in finished:
                    del running[future]
                self._settle(results)
        except BaseException:
            self._interrupt(running)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _interrupt(self, running: dict[Future[CallResult], Call]) -> None:
        """At a time limit or a shutdown: release calls that have not begun, settle the others as unknown.

        The latter are retried under the same idempotency key.
        """
        idle = [item.id for future, call in running.items() if future.cancel() for item in items_of(call)]
        with transaction(self._engine) as tx:
            release_items(tx, idle, self._token)
        unknown = OutcomeUnknown(
            "worker.interrupted", "the worker was stopped while it waited for the response"
        )
        self._settle(
            [
                CallResult([(item, unknown) for item in items_of(call)])
                for future, call in running.items()
                if not future.cancelled()
            ]
        )

    def _settle(self, results: Sequence[CallResult]) -> None:
        for group in partition_results(results):
            self._settle_group(group)
        calls = [(result.pairs[0][0].shop_id, result.calls) for result in results]
        self._uses.record_calls(self._engine, list_accepted(calls), utc_now())

    def _settle_group(self, results: Sequence[CallResult]) -> None:
        """Settle ``results`` in one transaction; if it fails, one by one, so that only bad items fail."""
        try:
            self._settle_together(results)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            first = results[0]
            if len(results) > 1:
                smaller = list(results)
            elif len(first.pairs) > 1:
                smaller = [replace(first, pairs=[pair]) for pair in first.pairs]
            else:
                item, outcome = first.pairs[0]
                if isinstance(outcome, InternalError):
                    raise
                error = self._to_error(fault, item)
                smaller = [CallResult([(item, InternalError(error.code, error.detail))], calls=first.calls)]
            for one in smaller:
                self._settle_group([one])

    def _settle_together(self, results: Sequence[CallResult]) -> None:
        now = utc_now()
        settlements = [
            one for result in results for one in plan_settlements(self._topic, result, now, self._rng)
        ]
        calls = [(result.pairs[0][0].shop_id, result.calls) for result in results]
        with transaction(self._engine) as tx:

            def record(settled_ids: set[int]) -> FollowUp:
                recorded = record_results(tx, results, settled_ids)
                return replace(recorded, audit=[*recorded.audit, *record_provider_calls(tx, calls, now)])

            settled = settle(
                tx, self._topic, self._worker, settlements, now, self._token, record, self._claimed_at
            )
        self.result.add(settled)

    def _to_error(self, fault: Exception, item: WorkItem) -> WorkError:
        return to_internal_error(fault, self._topic.name, shop_id=item.shop_id, request_id=item.request_id)


def _store_payloads(tx: Connection, calls: Sequence[Call]) -> None:
    changed: list[tuple[int, str]] = []
    for call in calls:
        payloads = [call.payload] if isinstance(call, PreparedCall) else call.payloads
        changed += [
            (item.id, orjson.dumps(payload).decode())
            for item, payload in zip(items_of(call), payloads, strict=bool(payloads))
            if payload is not None
        ]
    if changed:
        values = {"id": int_array(i for i, _ in changed), "payload": text_array([p for _, p in changed])}
        tx.exec_driver_sql(_STORE_PAYLOADS, values)
