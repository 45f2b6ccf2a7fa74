"""One attempt at a push call: set the levels, and read those whose figure at Shopify is another."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from services.core.errors import NotYet, Refused, WorkError
from services.ledger.work import Done, Outcome
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    ShopifyThrottled,
    StockMoved,
    ThrottleStatus,
)
from services.shopify.admin import Access
from services.shopify.stock.push_batch import (
    BatchMember,
    LostCall,
    PlannedPush,
    PushBatch,
    make_key,
    may_have_been_sent,
)
from services.shopify.stock.push_result import AppliedPush, CallOutcome, ObservedLevel

if TYPE_CHECKING:
    from services.providers import shopify_admin

MAX_MOVES = 10
"""How often in a row the shop's stock may move before a push, until a person has to look."""

MAX_CALLS = 5
"""How often one attempt repeats the call for the levels that were not refused."""

_RETRY_WAIT = timedelta(seconds=2)


class StockApi(Protocol):
    """A shop's stock at Shopify. ``throttle`` and ``cost_points`` are of its last answer."""

    throttle: ThrottleStatus | None
    cost_points: float | None

    def set_available(
        self, quantities: "Sequence[shopify_admin.Quantity]", *, reference: str, idempotency_key: str
    ) -> "shopify_admin.SetLevelsResult":
        """Set all quantities, once per key, or none of them."""
        ...

    def get_levels(
        self, keys: "Sequence[shopify_admin.ShopLevelKey]"
    ) -> "Mapping[shopify_admin.ShopLevelKey, shopify_admin.ShopifyLevel]":
        """Return the levels that the shop stocks."""
        ...


OpenStockApi = Callable[[Access], StockApi]


class PushAttempt:
    """One attempt at ``batch``: collects an outcome per item in hand, and what ``result`` records.

    ``moved`` are pushes whose level did not hold ``change_from`` at Shopify, ``unknown`` those of which it is
    not known whether the call happened.
    """

    def __init__(self, batch: PushBatch, result: CallOutcome) -> None:
        self.batch, self.result = batch, result
        self.outcomes: dict[int, Outcome] = {}
        self.moved: list[PlannedPush] = []
        self.unknown: list[PlannedPush] = []
        self._in_hand = {push.item.id: push for push in batch.pushes}

    def set_levels(self, api: StockApi) -> None:
        """Set the whole batch; where Shopify refuses some levels, set the others by another call.

        Shopify sets all or none. A refusal settles the levels that it names. The others are sent under
        another key: in this attempt or, after ``MAX_CALLS``, in a later one that counts as no try.
        """
        members = self.batch.members
        for turn in range(MAX_CALLS):
            try:
                set_result = self._call(api, members)
            except IdempotencyKeyUsed:
                self.unknown += self._pushes(members)
                return
            except WorkError as fault:
                self.fail(self._pushes(members), fault)
                # A throttled call did not happen: a later try may send the figures of its own time.
                if isinstance(fault, ShopifyThrottled) and (turn or self.batch.is_fresh):
                    self.result.forget |= {member.id for member in members}
                return
            if not set_result.refused:
                for push in self._pushes(members):
                    self.result.applied.append(AppliedPush(push, set_result.changed_at))
                    self.outcomes[push.item.id] = Done("pushed")
                return
            for index, reason in set_result.refused.items():
                for push in self._pushes([members[index]]):
                    if isinstance(reason, StockMoved):
                        self.moved.append(push)
                    else:
                        self.outcomes[push.item.id] = reason
                        self.result.forget.add(push.item.id)
            members = [member for index, member in enumerate(members) if index not in set_result.refused]
            if not self._pushes(members):
                return
        detail = f"other levels of its call were refused {MAX_CALLS} times"
        self.fail(self._pushes(members), NotYet("shopify.batch_refused", detail, wait=_RETRY_WAIT))
        self.result.forget |= {member.id for member in members}

    def read_levels(self, api: StockApi) -> None:
        """Read the ``moved`` and the ``unknown`` levels, and settle their pushes by what Shopify holds."""
        from services.providers.shopify_admin import ShopLevelKey

        pushes = [*self.moved, *self.unknown]
        if not pushes:
            return
        keys = {p.item.id: ShopLevelKey(p.level.inventory_item_id, p.level.location_id) for p in pushes}
        try:
            held = api.get_levels(list(keys.values()))
        except WorkError as fault:
            self.fail(pushes, fault)
            return
        finally:
            self.result.throttle = api.throttle
        for push in pushes:
            self._settle_read(push, held.get(keys[push.item.id]))

    def fail(self, pushes: Sequence[PlannedPush], fault: WorkError) -> None:
        """Make ``fault`` the outcome of ``pushes``; keep the wait of a throttled call."""
        self.outcomes |= {push.item.id: fault for push in pushes}
        if isinstance(fault, ShopifyThrottled) and fault.throttle is None:
            self.result.wait = fault.wait

    def _settle_read(self, push: PlannedPush, level: "shopify_admin.ShopifyLevel | None") -> None:
        if level is None:
            self.outcomes[push.item.id] = Done("not_stocked")
            return
        moves = int(push.item.payload.get("hops", 0)) + (push in self.moved)
        is_equal = level.available == push.quantity
        if not is_equal and moves > MAX_MOVES:
            self.result.forget.add(push.item.id)
            self.outcomes[push.item.id] = Refused(
                "shopify.stock_contended",
                f"the shop's stock moved {moves} times in a row before a push of {push.quantity}: "
                "find the other system that sets this level, then requeue",
            )
            return
        result = "in_sync" if is_equal else "superseded"
        self.outcomes[push.item.id] = Done(result)
        # A figure that our own call may have set, or that is known already, is no observation of Shopify's.
        is_lost = push in self.unknown and may_have_been_sent(push.item)
        is_own = is_lost and is_equal
        observed_at = None if is_own or level.available == push.known else level.updated_at
        lost_call = LostCall(push.quantity, push.change_from) if is_lost else push.lost_call
        self.result.observed.append(
            ObservedLevel(push, level.available, observed_at, result, moves, level.updated_at, lost_call)
        )

    def _call(self, api: StockApi, members: Sequence[BatchMember]) -> "shopify_admin.SetLevelsResult":
        from services.providers.shopify_admin import Quantity, ShopLevelKey

        quantities = [
            Quantity(ShopLevelKey(*map(int, member.key.split(":"))), member.quantity, member.change_from)
            for member in members
        ]
        key = str(make_key(self.batch.asked_at, members))
        try:
            reference = f"gid://shopfleet/Work/{members[0].id}"
            return api.set_available(quantities, reference=reference, idempotency_key=key)
        finally:
            self.result.throttle, self.result.call_points = api.throttle, api.cost_points

    def _pushes(self, members: Sequence[BatchMember]) -> list[PlannedPush]:
        """Return the pushes in hand of ``members``."""
        return [self._in_hand[member.id] for member in members if member.id in self._in_hand]
