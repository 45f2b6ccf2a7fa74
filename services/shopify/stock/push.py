"""Topic ``inventory_push``: sets the figures of up to 250 levels of a shop at Shopify, in one call.

Nothing is set before Shopify's own figure is known: by an observation at least ``SETTLE`` newer than the last
movement, else by a read.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.errors import Misconfigured, NotYet, Refused, WorkError
from services.ledger.work import BatchResponse, Call, Done, Outcome, PreparedBatch, WorkItem
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    ShopifyThrottled,
    StockMoved,
    ThrottleStatus,
)
from services.shopify.admin import Access, find_access, open_access
from services.shopify.stock.push_batch import (
    BatchMember,
    LostCall,
    PlannedPush,
    PushBatch,
    find_batches,
    make_key,
    may_have_been_sent,
    plan_batches,
    plan_reads,
)
from services.shopify.stock.push_levels import find_push_levels, find_unanswered_pushes
from services.shopify.stock.push_result import (
    IS_READ,
    WEBHOOK_WAIT,
    AppliedPush,
    CallOutcome,
    ObservedLevel,
    record_call_outcomes,
)
from services.shopify.stock.push_store import IN_DOUBT

if TYPE_CHECKING:
    from services.providers import shopify_admin

MAX_MOVES = 10
"""How often in a row a push may find that the shop's stock moved, before a person looks."""

MAX_CALLS = 5
"""How often one try asks anew for those that no refusal names."""

_AGAIN = timedelta(seconds=2)

_IN_DOUBT = NotYet(IN_DOUBT, "an earlier push of this level has no answer yet", wait=WEBHOOK_WAIT)


class StockApi(Protocol):
    """A shop's stock at Shopify; ``throttle`` and ``cost_points`` are what it last said of its rate."""

    throttle: ThrottleStatus | None
    cost_points: float | None

    def set_available(
        self, quantities: "Sequence[shopify_admin.Quantity]", *, reference: str, idempotency_key: str
    ) -> "shopify_admin.SetLevelsResult":
        """Set all quantities once per key, or none of them."""
        ...

    def get_levels(
        self, places: "Sequence[shopify_admin.ShopLevelKey]"
    ) -> "Mapping[shopify_admin.ShopLevelKey, shopify_admin.ShopifyLevel]":
        """Return the levels as the shop has them."""
        ...


OpenStockApi = Callable[[Access], StockApi]


class InventoryPush:
    """Pushes levels. ``open_api`` reaches a shop's stock; ``clock`` dates what an answer says."""

    def __init__(self, open_api: OpenStockApi = open_access, clock: Callable[[], datetime] = utc_now) -> None:
        self._open_shelf, self._clock = open_api, clock

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that makes Shopify hold the level's present figure.

        Levels of one shop go out together. What is asked is stored with the items before the call. A later
        try asks for the same, since it goes out under the same idempotency key; a figure that changed
        meanwhile is a later push's. While the outcome of another push of the level is unknown, this one
        waits. Where Shopify's own figure is not known, the call only reads it.
        """
        found = find_push_levels(tx, items)
        waiting, given_up = find_unanswered_pushes(
            tx, [item for item in items if not may_have_been_sent(item)], now
        )
        access = find_access(tx, {item.shop_id for item in items})
        plans: dict[int, Call | Outcome] = {}
        fresh: list[PlannedPush] = []
        unread: list[PlannedPush] = []
        asked: list[PlannedPush] = []
        for item in items:
            here, way = found.get((item.shop_id, item.key)), access[item.shop_id]
            if here is None:
                plans[item.id] = Done("no_level")
            elif not here.is_ours:
                plans[item.id] = Done("not_ours")
            elif not may_have_been_sent(item) and here.is_in_sync:
                plans[item.id] = Done("in_sync")
            elif isinstance(way, Misconfigured):
                plans[item.id] = way
            elif may_have_been_sent(item):
                # It may have happened. Whatever the figures say by now, only the answer tells.
                change_from = item.payload.get("change_from_quantity")
                quantity = item.payload["quantity"]
                before = (here.known, here.known_at, here.doubts)
                asked.append(PlannedPush(item, here.level, quantity, change_from, *before))
            elif not here.is_placed:
                plans[item.id] = Done("location_unknown")
            elif (item.shop_id, item.key) in waiting:
                plans[item.id] = _IN_DOUBT
            else:
                doubt = given_up.get((item.shop_id, item.key))
                before = (here.known, here.known_at, here.doubts)
                ask = PlannedPush(item, here.level, here.available, here.known, *before, doubt)
                is_known = item.payload.get(IS_READ) or (here.is_settled and doubt is None)
                is_known = is_known and here.known is not None and here.doubts == 0
                (fresh if is_known else unread).append(ask)
        for batch in [*plan_batches(fresh, now), *plan_reads(unread), *find_batches(tx, asked, now)]:
            way = access[batch.shop_id]
            assert not isinstance(way, Misconfigured)  # noqa: S101 - those got their outcome above
            act = partial(self._act, batch, way)
            call = PreparedBatch(items=batch.items, act=act, payloads=batch.payloads)
            plans |= dict.fromkeys((item.id for item in batch.items), call)
        return [plans[item.id] for item in items]

    def _act(self, batch: PushBatch, access: Access) -> BatchResponse:
        taught = CallOutcome(shop_id=access.shop_id)
        trial = PushAttempt(batch, taught)
        try:
            shelf = self._open_shelf(access)
        except WorkError as fault:
            trial.fail(batch.asks, fault)
        else:
            if batch.members:
                trial.ask(shelf)
            else:
                trial.doubtful = list(batch.asks)
            trial.look(shelf)
        taught.ended_at = self._clock()
        return BatchResponse(
            [trial.outcomes[ask.item.id] for ask in batch.asks], record_call_outcomes, taught
        )


class PushAttempt:
    """One try at a batch: what it came to for each item in hand, and what it taught."""

    def __init__(self, batch: PushBatch, taught: CallOutcome) -> None:
        self.batch, self.taught = batch, taught
        self.outcomes: dict[int, Outcome] = {}
        self.moved: list[PlannedPush] = []
        """Shopify said that these do not hold what we meant to change."""
        self.doubtful: list[PlannedPush] = []
        """Of these nobody can tell what became of the call."""
        self._mine = {ask.item.id: ask for ask in batch.asks}

    def ask(self, shelf: StockApi) -> None:
        """PlannedPush for the whole batch; where Shopify refuses some of it, ask again for the rest.

        Shopify sets all or nothing. Those that a refusal names settle by it; the others have done no wrong
        and go out under another key, in this try or, after ``MAX_CALLS``, in a later one that is not counted.
        """
        members = self.batch.members
        for turn in range(MAX_CALLS):
            key = make_key(self.batch.asked_at, members)
            try:
                result = self._set(shelf, members, str(key))
            except IdempotencyKeyUsed:
                self.doubtful += self._in_hand(members)
                return
            except WorkError as fault:
                self.fail(self._in_hand(members), fault)
                # Nothing happened for certain: a later try may read the figures of its own time.
                if isinstance(fault, ShopifyThrottled) and (turn or self.batch.is_fresh):
                    self.taught.forget |= {member.id for member in members}
                return
            if not result.refused:
                self.taught.applied += [AppliedPush(ask, result.changed_at) for ask in self._in_hand(members)]
                self.outcomes |= {ask.item.id: Done("pushed") for ask in self._in_hand(members)}
                return
            for index, reason in result.refused.items():
                for ask in self._in_hand([members[index]]):
                    if isinstance(reason, StockMoved):
                        self.moved.append(ask)
                    else:
                        self.outcomes[ask.item.id] = reason
                        self.taught.forget.add(ask.item.id)
            members = [member for index, member in enumerate(members) if index not in result.refused]
            if not self._in_hand(members):
                return
        again = NotYet(
            "shopify.batch_refused", f"others of its call were refused {MAX_CALLS} times", wait=_AGAIN
        )
        self.fail(self._in_hand(members), again)
        self.taught.forget |= {member.id for member in members}

    def look(self, shelf: StockApi) -> None:
        """Read the levels that were not what we meant to change, and those of which nobody can tell."""
        from services.providers.shopify_admin import ShopLevelKey

        looking = [*self.moved, *self.doubtful]
        if not looking:
            return
        places = {a.item.id: ShopLevelKey(a.level.inventory_item_id, a.level.location_id) for a in looking}
        try:
            held = shelf.get_levels(list(places.values()))
        except WorkError as fault:
            self.fail(looking, fault)
            return
        finally:
            self.taught.throttle = shelf.throttle
        for ask in looking:
            there = held.get(places[ask.item.id])
            if there is None:
                self.outcomes[ask.item.id] = Done("not_stocked")
                continue
            hops = int(ask.item.payload.get("hops", 0)) + (ask in self.moved)
            if there.available != ask.quantity and hops > MAX_MOVES:
                self.taught.forget.add(ask.item.id)
                self.outcomes[ask.item.id] = Refused(
                    "shopify.stock_contended",
                    f"the shop's stock moved {hops} times in a row before a push of {ask.quantity}: "
                    "look which other system sets this level, then requeue",
                )
                continue
            verdict = "in_sync" if there.available == ask.quantity else "superseded"
            self.outcomes[ask.item.id] = Done(verdict)
            # What a call of ours may have written, or is known already, is not Shopify's own word.
            is_mine = ask in self.doubtful and may_have_been_sent(ask.item)
            is_own = is_mine and there.available == ask.quantity
            updated_at = None if is_own or there.available == ask.known else there.updated_at
            doubt = LostCall(ask.quantity, ask.change_from) if is_mine else ask.doubt
            read = ObservedLevel(ask, there.available, updated_at, verdict, hops, there.updated_at, doubt)
            self.taught.seen.append(read)

    def fail(self, asks: Sequence[PlannedPush], fault: WorkError) -> None:
        """``fault`` is the outcome of ``asks``, and what it says of the shop is learned."""
        self.outcomes |= {ask.item.id: fault for ask in asks}
        if isinstance(fault, ShopifyThrottled) and fault.throttle is None:
            self.taught.wait = fault.wait

    def _set(
        self, shelf: StockApi, members: Sequence[BatchMember], key: str
    ) -> "shopify_admin.SetLevelsResult":
        from services.providers.shopify_admin import Quantity, ShopLevelKey

        quantities = [
            Quantity(ShopLevelKey(*map(int, member.key.split(":"))), member.quantity, member.change_from)
            for member in members
        ]
        try:
            reference = f"gid://shopfleet/Work/{members[0].id}"
            return shelf.set_available(quantities, reference=reference, idempotency_key=key)
        finally:
            self.taught.throttle, self.taught.call_points = shelf.throttle, shelf.cost_points

    def _in_hand(self, members: Sequence[BatchMember]) -> list[PlannedPush]:
        return [self._mine[member.id] for member in members if member.id in self._mine]
