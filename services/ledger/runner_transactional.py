"""Transactional runner: claims, runs and settles a batch in one transaction: each effect happens once."""

from collections.abc import Sequence
from datetime import datetime
from random import Random
from uuid import uuid4

from sqlalchemy import Connection, Engine

from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import is_connection_fault, transaction
from services.core.errors import WorkError
from services.ledger.claim import claim_leased, claim_transactional
from services.ledger.lease import lock_item
from services.ledger.settle import BatchResult, plan_settlement, settle, to_internal_error
from services.ledger.topics import Topic
from services.ledger.work import FollowUp, HandlerResult, TransactionalHandler, WorkItem

SMALL_BATCH = 8
"""Up to this many items a generic query plan is good enough."""

# Planning a dozen statements takes longer than running them for one item. A large batch needs its own plans,
# because a generic plan joins two sets of 500 rows with a nested loop.
_USE_GENERIC_PLANS = "set local plan_cache_mode = force_generic_plan"


class TransactionalRunner:
    """Runs the transactional topics of one worker process."""

    def __init__(self, engine: Engine, worker: str, rng: Random) -> None:
        self._engine, self._worker, self._rng = engine, worker, rng
        self._last_shop: dict[str, int] = {}

    def run_batch(self, topic: Topic, handler: TransactionalHandler) -> BatchResult:
        """Claim and settle one batch of ``topic``. If it fails, each of its items runs alone."""
        now = utc_now()
        ids: list[int] = []
        try:
            with transaction(self._engine) as tx:
                claim = claim_transactional(tx, topic, now, self._last_shop.get(topic.name, 0))
                # Another worker may have locked all rows of these shops: the next claim begins after them.
                self._last_shop[topic.name] = claim.last_shop_id
                if not claim.items:
                    return BatchResult(none_claimable=claim.none_claimable)
                ids = [item.id for item in claim.items]
                if len(ids) <= SMALL_BATCH:
                    tx.exec_driver_sql(_USE_GENERIC_PLANS)
                result = self._settle(tx, topic, claim.items, handler(tx, claim.items, now), None, now)
        except Exception as fault:
            if not ids or is_connection_fault(fault):
                raise
            result = BatchResult()
            for item_id in ids:
                result.add(self.run_one(topic, handler, item_id, None))
            return result
        result.more = claim.more
        return result

    def run_suspect(self, topic: Topic, handler: TransactionalHandler) -> BatchResult:
        """Run one item with ``SUSPECT_SENDS`` messages or more, alone and under a lease.

        If it crashes its worker, the lease expires and the try is counted; after the last try the item is
        ``dead``.
        """
        token = f"{self._worker}:{uuid4().hex[:12]}"
        with transaction(self._engine) as tx:
            claim = claim_leased(tx, topic, utc_now(), token, suspects=True)
        result = BatchResult(more=bool(claim.items))
        for item in claim.items:
            result.add(self.run_one(topic, handler, item.id, token))
        return result

    def run_one(
        self, topic: Topic, handler: TransactionalHandler, item_id: int, token: str | None
    ) -> BatchResult:
        """Run and settle item ``item_id`` if ``token`` still holds it; an exception is a failed try."""
        now = utc_now()
        try:
            with transaction(self._engine) as tx:
                item = lock_item(tx, item_id, token)
                if item is None:
                    return BatchResult()
                return self._settle(tx, topic, [item], handler(tx, [item], now), token, now)
        except Exception as fault:
            if is_connection_fault(fault):
                raise
            failed = HandlerResult([to_internal_error(fault, topic.name)])
        with transaction(self._engine) as tx:
            item = lock_item(tx, item_id, token)
            return BatchResult() if item is None else self._settle(tx, topic, [item], failed, token, now)

    def _settle(
        self,
        tx: Connection,
        topic: Topic,
        items: Sequence[WorkItem],
        handled: HandlerResult,
        token: str | None,
        claimed_at: datetime,
    ) -> BatchResult:
        if len(handled.outcomes) != len(items):
            counts = f"{format_count(len(items), 'item')}, {format_count(len(handled.outcomes), 'outcome')}"
            raise WorkError("bug.outcomes", f"{topic.name}: {counts}")
        follow_up = FollowUp(handled.new_work, handled.audit)
        now = utc_now()
        settlements = [
            plan_settlement(topic, item, outcome, now, self._rng)
            for item, outcome in zip(items, handled.outcomes, strict=True)
        ]
        return settle(tx, topic, self._worker, settlements, now, token, lambda _ids: follow_up, claimed_at)
