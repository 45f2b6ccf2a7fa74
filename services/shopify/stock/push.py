"""Topic ``inventory_push``: set up to 250 levels of a shop at Shopify in one call.

No level is set before Shopify's own figure is known: by an observation at least ``SETTLE`` newer than the
last movement, else by a read.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.errors import Misconfigured, NotYet, WorkError
from services.ledger.work import BatchResponse, Call, Done, Outcome, PreparedBatch, WorkItem
from services.shopify.admin import Access, find_access, open_access
from services.shopify.stock.push_attempt import OpenStockApi, PushAttempt
from services.shopify.stock.push_batch import (
    LostCall,
    PlannedPush,
    PushBatch,
    find_batches,
    may_have_been_sent,
    plan_batches,
    plan_reads,
)
from services.shopify.stock.push_result import IS_READ, WEBHOOK_WAIT, CallOutcome, record_call_outcomes
from services.shopify.stock.push_store import (
    IN_DOUBT,
    PushLevel,
    find_push_levels,
    find_unanswered_pushes,
)

_IN_DOUBT = NotYet(IN_DOUBT, "an earlier push of this level has no answer yet", wait=WEBHOOK_WAIT)


class InventoryPush:
    """Pushes levels. ``open_api`` opens a shop's stock; ``clock`` dates the answers."""

    def __init__(self, open_api: OpenStockApi = open_access, clock: Callable[[], datetime] = utc_now) -> None:
        self._open_api, self._clock = open_api, clock

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that gives Shopify the level's present figure, or an outcome.

        Levels of one shop share a call. Its input is stored with the items before the call, and a retry sends
        the same input under the same idempotency key; a figure that changed since is left to a later push.
        While another push of the level has no answer, this one waits. Where Shopify's figure is not known,
        the call only reads it.
        """
        levels = find_push_levels(tx, items)
        waiting, given_up = find_unanswered_pushes(tx, [i for i in items if not may_have_been_sent(i)], now)
        access = find_access(tx, {item.shop_id for item in items})
        plans: dict[int, Call | Outcome] = {}
        fresh: list[PlannedPush] = []
        unread: list[PlannedPush] = []
        sent: list[PlannedPush] = []
        for item in items:
            key = (item.shop_id, item.key)
            level, shop = levels.get(key), access[item.shop_id]
            if outcome := _find_outcome(item, level, shop, is_waiting=key in waiting):
                plans[item.id] = outcome
                continue
            assert level is not None  # noqa: S101 - it has an outcome above
            push = _plan_push(item, level, given_up.get(key))
            if may_have_been_sent(item):
                sent.append(push)
                continue
            is_known = item.payload.get(IS_READ) or (level.is_settled and push.lost_call is None)
            is_known = is_known and push.known is not None and push.doubts == 0
            (fresh if is_known else unread).append(push)
        for batch in [*plan_batches(fresh, now), *plan_reads(unread), *find_batches(tx, sent, now)]:
            shop = access[batch.shop_id]
            assert not isinstance(shop, Misconfigured)  # noqa: S101 - its items have an outcome above
            act = partial(self._act, batch, shop)
            call = PreparedBatch(items=batch.items, act=act, payloads=batch.payloads)
            plans |= dict.fromkeys((item.id for item in batch.items), call)
        return [plans[item.id] for item in items]

    def _act(self, batch: PushBatch, access: Access) -> BatchResponse:
        result = CallOutcome(shop_id=access.shop_id)
        attempt = PushAttempt(batch, result)
        try:
            api = self._open_api(access)
        except WorkError as fault:
            attempt.fail(batch.pushes, fault)
        else:
            if batch.members:
                attempt.set_levels(api)
            else:
                attempt.unknown = list(batch.pushes)
            attempt.read_levels(api)
        result.ended_at = self._clock()
        outcomes = [attempt.outcomes[push.item.id] for push in batch.pushes]
        return BatchResponse(outcomes, record_call_outcomes, result)


def _find_outcome(
    item: WorkItem, level: PushLevel | None, access: Access | Misconfigured, *, is_waiting: bool
) -> Outcome | None:
    """Return the outcome of a push that needs no call, or cannot have one now; else None."""
    is_sent = may_have_been_sent(item)
    if level is None or not level.is_ours:
        return Done("no_level" if level is None else "not_ours")
    if not is_sent and level.is_in_sync:
        return Done("in_sync")
    if isinstance(access, Misconfigured):
        return access
    if is_sent:
        return None  # It may have happened: only the answer of the same call is sure.
    if not level.is_located:
        return Done("location_unknown")
    return _IN_DOUBT if is_waiting else None


def _plan_push(item: WorkItem, level: PushLevel, lost_call: LostCall | None) -> PlannedPush:
    """Return what the call requests: of a call that may have been sent, its stored figures."""
    quantity, change_from = level.available, level.shopify_available
    if may_have_been_sent(item):
        quantity, change_from = item.payload["quantity"], item.payload.get("change_from_quantity")
        lost_call = None
    known = level.shopify_available
    return PlannedPush(
        item, level.level, quantity, change_from, known, level.known_at, level.doubts, lost_call
    )
