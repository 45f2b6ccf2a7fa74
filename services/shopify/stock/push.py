"""Topic ``inventory_push``: set up to 250 levels of a shop at Shopify in one call.

No level is set before Shopify's own figure is known: by an observation at least ``SETTLE_TIME`` newer than
the last movement, otherwise by a read.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row

from services.core.clock import utc_now
from services.core.errors import Deferred, Misconfigured, WorkError
from services.ledger.work import BatchResponse, Call, Done, Outcome, PreparedBatch, WorkItem
from services.shopify.shop_access import ShopAccess, find_access, open_admin_for
from services.shopify.stock.levels import Level
from services.shopify.stock.push_call import PushCall, may_have_been_sent, plan_calls
from services.shopify.stock.push_item import LevelPush, LostCall
from services.shopify.stock.push_result import IS_READ, WEBHOOK_WAIT, record_push_calls
from services.shopify.stock.push_store import IN_DOUBT, find_push_levels, find_unanswered_pushes, list_calls

if TYPE_CHECKING:
    from services.providers.shopify_admin import ShopifyAdmin

_IN_DOUBT = Deferred(IN_DOUBT, "an earlier push of this level has no answer yet", wait=WEBHOOK_WAIT)


class InventoryPushHandler:
    """Pushes levels. ``open_api`` opens a shop's Admin API; ``clock`` returns the time of an answer."""

    def __init__(
        self,
        open_api: "Callable[[ShopAccess], ShopifyAdmin]" = open_admin_for,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._open_api, self._clock = open_api, clock

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that sets the level's current figure at Shopify, or an outcome.

        Levels of one shop share a call. Its input is stored with the items, and a retry sends the same input
        with the same idempotency key; a later push sends a figure that changed since. While another push of
        the level has no answer, this one waits. If Shopify's figure is not known, the level is only read.
        """
        levels = find_push_levels(tx, items)
        waiting, given_up = find_unanswered_pushes(tx, [i for i in items if not may_have_been_sent(i)], now)
        access = find_access(tx, {item.shop_id for item in items})
        plans: dict[int, Call | Outcome] = {}
        new: list[LevelPush] = []
        sent: list[LevelPush] = []
        for item in items:
            key = (item.shop_id, item.key)
            shop = access[item.shop_id]
            push = _plan_push(item, levels.get(key), shop, given_up.get(key), is_waiting=key in waiting)
            if isinstance(push, LevelPush):
                (sent if may_have_been_sent(item) else new).append(push)
            else:
                plans[item.id] = push
        opened = {shop_id: shop for shop_id, shop in access.items() if isinstance(shop, ShopAccess)}
        for call in [*plan_calls(new, now), *list_calls(tx, sent, now)]:
            of_call = [push.item for push in call.pushes]
            act = partial(self._act, call, opened[call.shop_id])
            prepared = PreparedBatch(items=of_call, act=act, payloads=call.payloads)
            plans |= dict.fromkeys((item.id for item in of_call), prepared)
        return [plans[item.id] for item in items]

    def _act(self, call: PushCall, access: ShopAccess) -> BatchResponse:
        try:
            api = self._open_api(access)
        except WorkError as fault:
            call.fail(call.pushes, fault)
        else:
            if call.members:
                call.set_levels(api)
            call.read_levels(api)
        call.ended_at = self._clock()
        return BatchResponse([call.outcomes[push.item.id] for push in call.pushes], record_push_calls, call)


def _plan_push(
    item: WorkItem,
    level: Row[Any] | None,
    access: ShopAccess | Misconfigured,
    lost_call: LostCall | None,
    *,
    is_waiting: bool,
) -> LevelPush | Outcome:
    """Return the push of ``item``, or an outcome if it needs no call or cannot have one now.

    A call that may have been sent is repeated with its stored figures: only the answer to it is certain.
    """
    if level is None or not level.is_ours:
        return Done("no_level" if level is None else "not_ours")
    is_sent = may_have_been_sent(item)
    if not is_sent and level.is_in_sync:
        return Done("in_sync")
    if isinstance(access, Misconfigured):
        return access
    if not is_sent and not level.is_located:
        return Done("location_unknown")
    if not is_sent and is_waiting:
        return _IN_DOUBT
    quantity, change_from = level.available, level.shopify_available
    if is_sent:
        quantity, change_from = item.payload["quantity"], item.payload.get("change_from_quantity")
        lost_call = None
    is_known = item.payload.get(IS_READ) or (level.is_settled and lost_call is None)
    known, known_at, doubts = level.shopify_available, level.known_at, level.doubts
    must_read = not is_known or known is None or doubts > 0
    stock = Level.from_row(level)
    return LevelPush(item, stock, quantity, change_from, known, known_at, doubts, lost_call, must_read)
