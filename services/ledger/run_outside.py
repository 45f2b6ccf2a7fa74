"""Effects on the world: claimed in one short transaction, done with none open, settled in another.

A lease keeps the rows; it is renewed while work runs, and fenced: whoever lost it cannot settle.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from random import Random
from uuid import uuid4

import orjson
from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import OutcomeUnknown
from services.ledger.accept import record_work
from services.ledger.claim import claim_leased, delay_items, find_held, put_back, renew_lease
from services.ledger.effects import OutsideEffect
from services.ledger.limits import take_tokens
from services.ledger.report import SetReport, as_bug, is_connection_fault
from services.ledger.settle import Bug, count_settled, plan_settlement, record_stats, settle_set
from services.ledger.topics import Topic
from services.ledger.work import Done, Outcome, Prepared, Recorded, WorkItem

GATHER_SECONDS = 0.05

_STORE_PAYLOADS = """
update work_queue w set payload = v.payload::jsonb
from unnest(%(id)s::bigint[], %(payload)s::text[]) as v(id, payload) where w.id = v.id
"""


class OutsideRunner:
    """Runs sets of one worker process."""

    def __init__(self, engine: Engine, worker: str, rng: Random) -> None:
        self._engine, self._worker, self._rng = engine, worker, rng
        self._after: dict[str, int] = {}

    def run_set(self, topic: Topic, effect: OutsideEffect) -> SetReport:
        """One set of ``topic`` is worked; what is finished is settled while the rest still runs."""
        token = f"{self._worker}:{uuid4().hex[:12]}"
        report = SetReport()
        with transaction(self._engine) as tx:
            now = utc_now()
            claim = claim_leased(tx, topic, now, token, self._after.get(topic.name, 0))
            self._after[topic.name] = claim.last_shop_id
            go, wait_for_token = take_tokens(tx, topic, claim.items, now)
            delay_items(tx, wait_for_token, token)
        if not go:
            return report
        report.more = claim.more
        with self._renewing(topic, token):
            ready = self._prepare(topic, effect, go, token, report)
            self._act(topic, ready, token, report)
        return report

    def run_held(self, topic: Topic, effect: OutsideEffect, item_id: int, token: str) -> SetReport:
        """The one item that ``token`` has in hand already is worked; nothing where it has it no more.

        See ``claim.hold_items``. Whatever else ``token`` holds of ``topic`` stays its own meanwhile.
        """
        report = SetReport()
        with self._renewing(topic, token):
            with transaction(self._engine) as tx:
                item = find_held(tx, item_id, token)
            if item is not None:
                ready = self._prepare(topic, effect, [item], token, report)
                if ready:
                    self._act(topic, ready, token, report)
        return report

    def _prepare(
        self, topic: Topic, effect: OutsideEffect, items: list[WorkItem], token: str, report: SetReport
    ) -> list[Prepared]:
        try:
            return self._prepare_set(topic, effect, items, token, report)
        except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
            if len(items) == 1:
                item = items[0]
                bug = as_bug(fault, topic.name, shop_id=item.shop_id, request_id=item.request_id)
                self._settle(topic, [(item, bug)], token, report)
                return []
        return [ready for item in items for ready in self._prepare(topic, effect, [item], token, report)]

    def _prepare_set(
        self, topic: Topic, effect: OutsideEffect, items: list[WorkItem], token: str, report: SetReport
    ) -> list[Prepared]:
        ready: list[Prepared] = []
        settled: list[tuple[WorkItem, Outcome]] = []
        with transaction(self._engine) as tx:
            for item, plan in zip(items, effect.prepare(tx, items, utc_now()), strict=True):
                if isinstance(plan, Prepared):
                    ready.append(plan)
                else:
                    settled.append((item, plan))
            _store_payloads(tx, ready)
        self._settle(topic, settled, token, report)
        return ready

    def _act(self, topic: Topic, ready: list[Prepared], token: str, report: SetReport) -> None:
        if len(ready) == 1:
            self._settle(topic, [(ready[0].item, _act_once(ready[0], topic))], token, report)
            return
        pool = ThreadPoolExecutor(min(topic.calls_at_once, len(ready) or 1), thread_name_prefix=topic.name)
        running: dict[Future[Outcome], Prepared] = {pool.submit(_act_once, p, topic): p for p in ready}
        try:
            while running:
                wait(running, return_when=FIRST_COMPLETED)
                # Those that end at about the same time are settled together: a commit is dear.
                finished, _ = wait(running, timeout=GATHER_SECONDS)
                done = [(running.pop(future).item, future.result()) for future in finished]
                self._settle(topic, done, token, report)
        except BaseException:
            # A time limit or a shutdown: what never began goes back untouched; what is under way may have
            # happened, and is tried again under the same idempotency key.
            idle = [p.item for f, p in running.items() if f.cancel()]
            under_way = [p.item for f, p in running.items() if not f.cancelled()]
            with transaction(self._engine) as tx:
                put_back(tx, idle, token)
            unknown = OutcomeUnknown(
                "worker.interrupted", "the worker was stopped while it waited for an answer"
            )
            self._settle(topic, [(item, unknown) for item in under_way], token, report)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _settle(
        self, topic: Topic, outcomes: Sequence[tuple[WorkItem, Outcome]], token: str, report: SetReport
    ) -> None:
        if not outcomes:
            return
        try:
            self._settle_set(topic, outcomes, token, report)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            # What one item learned cannot be written: that item's try failed, the others' did not.
            if len(outcomes) > 1:
                for one in outcomes:
                    self._settle(topic, [one], token, report)
                return
            item, outcome = outcomes[0]
            if isinstance(outcome, Bug):
                raise
            bug = as_bug(fault, topic.name, shop_id=item.shop_id, request_id=item.request_id)
            self._settle(topic, [(item, Bug(bug.code, bug.detail))], token, report)

    def _settle_set(
        self, topic: Topic, outcomes: Sequence[tuple[WorkItem, Outcome]], token: str, report: SetReport
    ) -> None:
        now = utc_now()
        settlements = [plan_settlement(topic, item, outcome, now, self._rng) for item, outcome in outcomes]
        with transaction(self._engine) as tx:
            held = settle_set(tx, settlements, now, token)
            # By key, the order in which own effects lock what several items may have learned about.
            by_key = sorted(outcomes, key=lambda one: (one[0].shop_id, one[0].key))
            recorded = [_record(tx, outcome) for item, outcome in by_key if item.id in held]
            refs = record_work(tx, [new for told in recorded for new in told.follow_on], now)
            settled = count_settled(settlements, held)
            record_stats(tx, topic, self._worker, settled, now)
            append_all(tx, [entry for told in recorded for entry in told.audit], now)
        report.add(SetReport(len(outcomes), settled, refs, [item.request_id for item, _ in outcomes[:10]]))

    @contextmanager
    def _renewing(self, topic: Topic, token: str) -> Iterator[None]:
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(topic.lease.total_seconds() / 3):
                try:
                    with transaction(self._engine) as tx:
                        renew_lease(tx, topic, token, utc_now())
                except Exception as fault:  # noqa: BLE001 - the fence guards the rows, whatever happens here
                    as_bug(fault, topic.name)

        thread = threading.Thread(target=renew, name=f"lease-{token}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()


def _act_once(prepared: Prepared, topic: Topic) -> Outcome:
    item = prepared.item
    try:
        return prepared.act()
    except Exception as fault:  # noqa: BLE001 - every failure becomes an outcome
        return as_bug(fault, topic.name, shop_id=item.shop_id, request_id=item.request_id)


def _record(tx: Connection, outcome: Outcome) -> Recorded:
    return outcome.record(tx) if isinstance(outcome, Done) and outcome.record else Recorded()


def _store_payloads(tx: Connection, ready: Sequence[Prepared]) -> None:
    changed = [p for p in ready if p.payload is not None]
    if changed:
        values = {
            "id": [p.item.id for p in changed],
            "payload": [orjson.dumps(p.payload).decode() for p in changed],
        }
        tx.exec_driver_sql(_STORE_PAYLOADS, values)
