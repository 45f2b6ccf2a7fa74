"""Own effects: a set is claimed, done and settled in one transaction. Exactly once, or not at all."""

from collections.abc import Sequence
from datetime import datetime
from random import Random
from uuid import uuid4

from sqlalchemy import Connection, Engine

from services.audit.append import append_all
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.ledger.accept import WorkRef, record_work
from services.ledger.batch_result import BatchResult, is_connection_fault, to_internal_error
from services.ledger.claim import claim_leased, claim_locked, find_item
from services.ledger.handlers import TransactionalHandler
from services.ledger.settle import count_settled, plan_settlement, record_stats, settle_batch
from services.ledger.topics import Topic
from services.ledger.work import HandlerResult, Outcome, WorkItem

SMALL_SET = 8
"""Up to so many items a plan made once for any number serves as well as one made for these."""

# Planning a dozen statements takes longer than running them for one item. A large set needs plans of its own:
# a generic one joins two sets of 500 by brute force.
_PLAN_ONCE = "set local plan_cache_mode = force_generic_plan"


class TransactionalRunner:
    """Runs sets of one worker process."""

    def __init__(self, engine: Engine, worker: str, rng: Random) -> None:
        self._engine, self._worker, self._rng = engine, worker, rng
        self._after: dict[str, int] = {}

    def run_batch(self, topic: Topic, effect: TransactionalHandler) -> BatchResult:
        """One set of ``topic`` is settled. A poison item costs its set one more pass, and itself a try."""
        now = utc_now()
        ids: list[int] = []
        try:
            with transaction(self._engine) as tx:
                claim = claim_locked(tx, topic, now, self._after.get(topic.name, 0))
                if not claim.items:
                    return BatchResult(passed_over=claim.passed_over)
                ids = [item.id for item in claim.items]
                if len(ids) <= SMALL_SET:
                    tx.exec_driver_sql(_PLAN_ONCE)
                report = self._work(tx, topic, effect, claim.items, now)
        except Exception as fault:
            if not ids or is_connection_fault(fault):
                raise
            return self._one_by_one(topic, effect, ids)
        self._after[topic.name] = claim.last_shop_id
        report.more = claim.more
        return report

    def _work(
        self,
        tx: Connection,
        topic: Topic,
        effect: TransactionalHandler,
        items: Sequence[WorkItem],
        now: datetime,
    ) -> BatchResult:
        effects = effect(tx, items, now)
        if len(effects.outcomes) != len(items):
            raise WorkError(
                "bug.outcomes", f"{topic.name}: {len(items)} items, {len(effects.outcomes)} outcomes"
            )
        return self._settle(tx, topic, items, effects)

    def _settle(
        self, tx: Connection, topic: Topic, items: Sequence[WorkItem], effects: HandlerResult
    ) -> BatchResult:
        now = utc_now()
        settlements = [
            plan_settlement(topic, item, outcome, now, self._rng)
            for item, outcome in zip(items, effects.outcomes, strict=True)
        ]
        held = settle_batch(tx, settlements, now, None)
        refs: list[WorkRef] = record_work(tx, effects.new_work, now) if effects.new_work else []
        settled = count_settled(settlements, held)
        record_stats(tx, topic, self._worker, settled, now)
        append_all(tx, effects.audit, now)
        return BatchResult(
            claimed=len(items), settled=settled, refs=refs, request_ids=[i.request_id for i in items[:10]]
        )

    def _one_by_one(self, topic: Topic, effect: TransactionalHandler, ids: Sequence[int]) -> BatchResult:
        """The set failed as a whole: each item gets its own transaction, so one cannot spoil the rest."""
        report = BatchResult()
        for item_id in ids:
            report.add(self.run_one(topic, effect, item_id, None))
        return report

    def run_suspect(self, topic: Topic, effect: TransactionalHandler) -> BatchResult:
        """One item that was sent often and never settled is worked alone, under a lease.

        If it is what kills its worker, the lease runs out, the try is counted, and after its last try
        the item is ``dead`` instead of killing workers for ever.
        """
        token = f"{self._worker}:{uuid4().hex[:12]}"
        with transaction(self._engine) as tx:
            claim = claim_leased(tx, topic, utc_now(), token, suspects=True)
        report = BatchResult(more=bool(claim.items))
        for item in claim.items:
            report.add(self.run_one(topic, effect, item.id, token))
        return report

    def run_one(
        self, topic: Topic, effect: TransactionalHandler, item_id: int, token: str | None
    ) -> BatchResult:
        """Item ``item_id`` is settled, if it is still ``token``'s; our own bug is settled as a failed try."""
        now = utc_now()
        outcome: Outcome
        try:
            with transaction(self._engine) as tx:
                item = find_item(tx, item_id, token)
                if item is None:
                    return BatchResult()
                effects = effect(tx, [item], now)
                return self._settle_one(tx, topic, item, effects, token)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            outcome = to_internal_error(fault, topic.name)
        with transaction(self._engine) as tx:
            item = find_item(tx, item_id, token)
            if item is None:
                return BatchResult()
            return self._settle_one(tx, topic, item, HandlerResult([outcome]), token)

    def _settle_one(
        self, tx: Connection, topic: Topic, item: WorkItem, effects: HandlerResult, token: str | None
    ) -> BatchResult:
        now = utc_now()
        settlement = plan_settlement(topic, item, effects.outcomes[0], now, self._rng)
        held = settle_batch(tx, [settlement], now, token)
        refs = record_work(tx, effects.new_work, now)
        settled = count_settled([settlement], held)
        record_stats(tx, topic, self._worker, settled, now)
        append_all(tx, effects.audit, now)
        return BatchResult(claimed=1, settled=settled, refs=refs, request_ids=[item.request_id])
