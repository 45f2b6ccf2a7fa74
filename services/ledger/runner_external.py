"""Effects on the world: claimed in one short transaction, done with none open, settled in another.

A lease keeps the rows; it is renewed while work runs, and fenced: whoever lost it cannot settle.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from uuid import uuid4

import orjson
from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import OutcomeUnknown
from services.core.pg_arrays import int_array, text_array
from services.ledger.accept import record_work
from services.ledger.batch_result import BatchResult, is_connection_fault, to_internal_error
from services.ledger.call_results import (
    CallResult,
    act_once,
    items_of,
    partition_results,
    plan_settlements,
    record_results,
)
from services.ledger.claim import claim_leased, delay_items, find_leased, put_back, renew_lease, waits_behind
from services.ledger.handlers import ExternalHandler
from services.ledger.limits import apply_rate_limit
from services.ledger.settle import InternalError, count_settled, record_stats, settle_batch
from services.ledger.topics import Topic
from services.ledger.work import Call, PreparedBatch, PreparedCall, WorkItem
from services.shops.connections import record_calls

GATHER_SECONDS = 0.05

_STORE_PAYLOADS = """
update work_queue w set payload = v.payload::jsonb
from unnest(%(id)s::bigint[], %(payload)s::text[]) as v(id, payload) where w.id = v.id
"""


class ExternalRunner:
    """Runs sets of one worker process."""

    def __init__(self, engine: Engine, worker: str, rng: Random) -> None:
        self._engine, self._worker, self._rng = engine, worker, rng
        self._after: dict[str, int] = {}

    def run_batch(self, topic: Topic, effect: ExternalHandler) -> BatchResult:
        """One set of ``topic`` is worked; what is finished is settled while the rest still runs."""
        token = f"{self._worker}:{uuid4().hex[:12]}"
        report = BatchResult()
        with transaction(self._engine) as tx:
            now = utc_now()
            claim = claim_leased(tx, topic, now, token, self._after.get(topic.name, 0))
            self._after[topic.name] = claim.last_shop_id
            go, wait_for_token = apply_rate_limit(tx, topic, claim.items, now)
            delay_items(tx, wait_for_token, token)
        if not go:
            return report
        report.more = claim.more
        with self._renewing(topic, token):
            ready = self._prepare(topic, effect, go, token, report)
            self._act(topic, ready, token, report)
        if not report.more:
            # What was rung for while its key was in hand is rung for again only after a while.
            with transaction(self._engine) as tx:
                report.more = waits_behind(tx, topic, go, utc_now())
        return report

    def run_leased(self, topic: Topic, effect: ExternalHandler, item_id: int, token: str) -> BatchResult:
        """The one item that ``token`` has in hand already is worked; nothing where it has it no more.

        See ``claim.lease_items``. Whatever else ``token`` holds of ``topic`` stays its own meanwhile.
        """
        report = BatchResult()
        with self._renewing(topic, token):
            with transaction(self._engine) as tx:
                item = find_leased(tx, item_id, token)
            if item is not None:
                ready = self._prepare(topic, effect, [item], token, report)
                if ready:
                    self._act(topic, ready, token, report)
        return report

    def _prepare(
        self, topic: Topic, effect: ExternalHandler, items: list[WorkItem], token: str, report: BatchResult
    ) -> list[Call]:
        try:
            return self._prepare_set(topic, effect, items, token, report)
        except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
            if len(items) == 1:
                item = items[0]
                bug = to_internal_error(fault, topic.name, shop_id=item.shop_id, request_id=item.request_id)
                self._settle(topic, [CallResult([(item, bug)])], token, report)
                return []
        return [ready for item in items for ready in self._prepare(topic, effect, [item], token, report)]

    def _prepare_set(
        self, topic: Topic, effect: ExternalHandler, items: list[WorkItem], token: str, report: BatchResult
    ) -> list[Call]:
        ready: dict[int, Call] = {}
        settled: list[CallResult] = []
        with transaction(self._engine) as tx:
            for item, plan in zip(items, effect.prepare(tx, items, utc_now()), strict=True):
                if isinstance(plan, PreparedCall | PreparedBatch):
                    ready.setdefault(id(plan), plan)
                else:
                    settled.append(CallResult([(item, plan)]))
            _store_payloads(tx, list(ready.values()))
        self._settle(topic, settled, token, report)
        return list(ready.values())

    def _act(self, topic: Topic, ready: list[Call], token: str, report: BatchResult) -> None:
        if len(ready) == 1 and isinstance(ready[0], PreparedCall):
            self._settle(topic, [act_once(ready[0], topic)], token, report)
            return
        pool = ThreadPoolExecutor(min(topic.calls_at_once, len(ready) or 1), thread_name_prefix=topic.name)
        running: dict[Future[CallResult], Call] = {pool.submit(act_once, call, topic): call for call in ready}
        try:
            while running:
                wait(running, return_when=FIRST_COMPLETED)
                # Those that end at about the same time are settled together: a commit is dear.
                finished, _ = wait(running, timeout=GATHER_SECONDS)
                ended = [future.result() for future in finished]
                for future in finished:
                    del running[future]
                self._settle(topic, ended, token, report)
        except BaseException:
            # A time limit or a shutdown: what never began goes back untouched; what is under way may have
            # happened, and is tried again under the same idempotency key.
            idle = [item for future, call in running.items() if future.cancel() for item in items_of(call)]
            with transaction(self._engine) as tx:
                put_back(tx, idle, token)
            under_way = [call for future, call in running.items() if not future.cancelled()]
            unknown = OutcomeUnknown(
                "worker.interrupted", "the worker was stopped while it waited for an answer"
            )
            stopped = [CallResult([(item, unknown) for item in items_of(call)]) for call in under_way]
            self._settle(topic, stopped, token, report)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _settle(self, topic: Topic, ended: Sequence[CallResult], token: str, report: BatchResult) -> None:
        for part in partition_results(ended):
            self._settle_part(topic, part, token, report)

    def _settle_part(
        self, topic: Topic, ended: Sequence[CallResult], token: str, report: BatchResult
    ) -> None:
        try:
            self._settle_set(topic, ended, token, report)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            # What one item learned cannot be written: that item's try failed, the others' did not.
            if len(ended) > 1:
                for one in ended:
                    self._settle_part(topic, [one], token, report)
                return
            call = ended[0]
            if len(call.pairs) > 1:
                for pair in call.pairs:
                    self._settle_part(topic, [replace(call, pairs=[pair])], token, report)
                return
            item, outcome = call.pairs[0]
            if isinstance(outcome, InternalError):
                raise
            bug = to_internal_error(fault, topic.name, shop_id=item.shop_id, request_id=item.request_id)
            failed = CallResult([(item, InternalError(bug.code, bug.detail))], calls=call.calls)
            self._settle_part(topic, [failed], token, report)

    def _settle_set(self, topic: Topic, ended: Sequence[CallResult], token: str, report: BatchResult) -> None:
        now = utc_now()
        settlements = [one for call in ended for one in plan_settlements(topic, call, now, self._rng)]
        with transaction(self._engine) as tx:
            held = settle_batch(tx, settlements, now, token)
            recorded = record_results(tx, ended, held)
            refs = record_work(tx, recorded.new_work, now)
            settled = count_settled(settlements, held)
            record_stats(tx, topic, self._worker, settled, now)
            calls = [(call.pairs[0][0].shop_id, call.calls) for call in ended]
            append_all(tx, [*recorded.audit, *record_calls(tx, calls, now)], now)
        request_ids = [one.item.request_id for one in settlements[:10]]
        report.add(BatchResult(len(settlements), settled, refs, request_ids))

    @contextmanager
    def _renewing(self, topic: Topic, token: str) -> Iterator[None]:
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(topic.lease.total_seconds() / 3):
                try:
                    with transaction(self._engine) as tx:
                        renew_lease(tx, topic, token, utc_now())
                except Exception as fault:  # noqa: BLE001 - the fence guards the rows, whatever happens here
                    to_internal_error(fault, topic.name)

        thread = threading.Thread(target=renew, name=f"lease-{token}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()


def _store_payloads(tx: Connection, ready: Sequence[Call]) -> None:
    changed: list[tuple[int, str]] = []
    for call in ready:
        if isinstance(call, PreparedCall):
            payloads = [(call.item, call.payload)]
        else:
            payloads = list(zip(call.items, call.payloads, strict=True)) if call.payloads else []
        changed += [(item.id, orjson.dumps(p).decode()) for item, p in payloads if p is not None]
    if changed:
        values = {"id": int_array(i for i, _ in changed), "payload": text_array([p for _, p in changed])}
        tx.exec_driver_sql(_STORE_PAYLOADS, values)
