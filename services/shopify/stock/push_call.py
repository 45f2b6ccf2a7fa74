"""One call that sets up to 250 levels of a shop; its input is stored, so that a retry sends the same input.

An idempotency key is valid only for the input of its first use, and the items of one call may be claimed
again in parts. So a retry reads the input from all items of the call, not only from the claimed ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid5

from services.core.counts import format_count
from services.core.errors import Deferred, Refused, WorkError
from services.ledger.work import Done, Outcome, WorkItem
from services.providers.shopify_answers import (
    IdempotencyKeyUsed,
    ShopifyThrottled,
    StockMoved,
    ThrottleStatus,
)
from services.shopify.entities import EPOCH
from services.shopify.stock.push_item import LevelPush, LostCall

if TYPE_CHECKING:
    from services.providers.shopify_admin import SetLevelsResult, ShopifyAdmin, ShopifyLevel

NAMESPACE = UUID("7b6c2a0e-5d0f-4f53-9a55-0d1c5f4f6a11")
"""Idempotency keys are UUIDs in this namespace, made of a call's items, figures and time."""

MAX_BATCH_ITEMS = 250
"""Maximum quantities in one call. Source: Shopify's limit on input arrays."""

KEY_TTL = timedelta(hours=1)
"""How long a key is used. Shopify does not document how long it keeps keys."""

MAX_MOVES = 10
"""How often in a row the stock may change before a push, until a person has to act."""

MAX_CALLS = 5
"""How many calls one attempt makes at most for the levels that were not refused."""

_RETRY_WAIT = timedelta(seconds=2)


class CallMember(NamedTuple):
    """One level of a call, as requested."""

    id: int
    key: str
    quantity: int
    change_from: int | None


@dataclass(slots=True, kw_only=True, eq=False)
class PushCall:
    """One call: all levels that it sets, the claimed pushes, and then its results.

    If ``members`` is empty, the levels are only read: the input cannot be repeated, or nothing must be set.
    ``is_fresh``: the call was never sent.
    """

    shop_id: int
    requested_at: str = ""
    members: Sequence[CallMember] = ()
    pushes: Sequence[LevelPush]
    is_fresh: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    ended_at: datetime = EPOCH
    throttle: ThrottleStatus | None = None
    call_points: float | None = None
    wait: timedelta | None = None

    @property
    def payloads(self) -> Sequence[dict[str, Any] | None]:
        """The payloads to store before the call, one per push; None if it is stored already."""
        if not self.is_fresh:
            return [None] * len(self.pushes)
        ids = [member.id for member in self.members]
        call = {"batch": ids[0], "asked_at": self.requested_at}
        payloads = [
            {**push.item.payload, **call, "quantity": push.quantity, "change_from_quantity": push.change_from}
            for push in self.pushes
        ]
        payloads[0]["members"] = ids
        return payloads

    def set_levels(self, api: "ShopifyAdmin") -> None:
        """Set all levels of the call; if Shopify refuses some, set the others with another key.

        Shopify sets all or none. After ``MAX_CALLS`` the rest waits for a later attempt, which is not counted
        as a retry. A push without an outcome must be read: its stock changed, or the call may have happened.
        """
        members = self.members
        for turn in range(MAX_CALLS):
            pushes = self._pushes_of(members)
            if not pushes:
                return
            try:
                set_result = self._send(api, members)
            except IdempotencyKeyUsed:
                return
            except WorkError as fault:
                # A throttled call did not happen: a later try may send newer figures.
                is_void = isinstance(fault, ShopifyThrottled) and (turn > 0 or self.is_fresh)
                self.fail(pushes, fault, is_void=is_void)
                return
            if not set_result.refused:
                for push in pushes:
                    push.result, push.available, push.changed_at = (
                        "pushed",
                        push.quantity,
                        set_result.changed_at,
                    )
                    self.outcomes[push.item.id] = Done("pushed")
                return
            for index, reason in set_result.refused.items():
                for push in self._pushes_of([members[index]]):
                    if isinstance(reason, StockMoved):
                        push.moves = 1
                    else:
                        self.fail([push], reason, is_void=True)
            members = [member for index, member in enumerate(members) if index not in set_result.refused]
        detail = f"other levels of its call were refused {MAX_CALLS} times"
        refused = Deferred("shopify.batch_refused", detail, wait=_RETRY_WAIT)
        self.fail(self._pushes_of(members), refused, is_void=True)

    def read_levels(self, api: "ShopifyAdmin") -> None:
        """Read the levels of pushes without an outcome, and settle them by Shopify's figures."""
        from services.providers.shopify_admin import ShopLevelKey

        pushes = [push for push in self.pushes if push.item.id not in self.outcomes]
        if not pushes:
            return
        keys = [ShopLevelKey(push.level.inventory_item_id, push.level.location_id) for push in pushes]
        try:
            held = api.fetch_levels(keys)
        except WorkError as fault:
            self.fail(pushes, fault)
            return
        finally:
            self.throttle = api.throttle
        for push, key in zip(pushes, keys, strict=True):
            self.outcomes[push.item.id] = _settle_read(push, held.get(key))

    def fail(self, pushes: Sequence[LevelPush], fault: WorkError, *, is_void: bool = False) -> None:
        """Make ``fault`` the outcome of ``pushes``; keep the wait of a throttled call."""
        for push in pushes:
            self.outcomes[push.item.id], push.is_void = fault, is_void
        if isinstance(fault, ShopifyThrottled) and fault.throttle is None:
            self.wait = fault.wait

    def _send(self, api: "ShopifyAdmin", members: Sequence[CallMember]) -> "SetLevelsResult":
        from services.providers.shopify_admin import LevelQuantity, ShopLevelKey

        quantities = [
            LevelQuantity(ShopLevelKey(*map(int, member.key.split(":"))), member.quantity, member.change_from)
            for member in members
        ]
        # After a refusal the call for the other members has another key.
        content = ",".join(f"{m.id}={m.quantity}<{m.change_from}" for m in members)
        key = str(uuid5(NAMESPACE, f"inventory_push:{self.requested_at}:{content}"))
        try:
            reference = f"gid://shopfleet/Work/{members[0].id}"
            return api.set_available(quantities, reference=reference, idempotency_key=key)
        finally:
            self.throttle, self.call_points = api.throttle, api.cost_points

    def _pushes_of(self, members: Sequence[CallMember]) -> list[LevelPush]:
        ids = {member.id for member in members}
        return [push for push in self.pushes if push.item.id in ids]


def _settle_read(push: LevelPush, level: "ShopifyLevel | None") -> Outcome:
    """Store in ``push`` what was read of its level (None: not stocked); return its outcome."""
    if level is None:
        return Done("not_stocked")
    is_moved = push.moves > 0
    push.moves += int(push.item.payload.get("hops", 0))
    is_equal = level.available == push.quantity
    if not is_equal and push.moves > MAX_MOVES:
        push.is_void = True
        return Refused(
            "shopify.stock_contended",
            f"the shop's stock changed {format_count(push.moves, 'time')} in a row before a push of "
            f"{push.quantity}: find the other system that sets this level, then requeue",
        )
    is_lost = not is_moved and may_have_been_sent(push.item)
    if is_lost:
        push.lost_call = LostCall(push.quantity, push.change_from)
    push.result = "in_sync" if is_equal else "superseded"
    push.available, push.changed_at = level.available, level.updated_at
    if not (is_lost and is_equal) and level.available != push.known:
        push.observed_at = level.updated_at
    return Done(push.result)


def may_have_been_sent(item: WorkItem) -> bool:
    return "quantity" in item.payload


def plan_calls(pushes: Sequence[LevelPush], now: datetime) -> list[PushCall]:
    """Return the calls for new ``pushes``: per shop one that reads, and those that set levels. Pure."""
    calls: list[PushCall] = []
    ordered = sorted(pushes, key=lambda push: (push.item.shop_id, push.must_read, push.item.key))
    for (shop_id, must_read), group in groupby(ordered, lambda push: (push.item.shop_id, push.must_read)):
        if must_read:
            calls.append(PushCall(shop_id=shop_id, pushes=list(group)))
            continue
        to_set = list(group)
        for start in range(0, len(to_set), MAX_BATCH_ITEMS):
            part = to_set[start : start + MAX_BATCH_ITEMS]
            members = [CallMember(p.item.id, p.item.key, p.quantity, p.change_from) for p in part]
            call = PushCall(
                shop_id=shop_id, requested_at=now.isoformat(), members=members, pushes=part, is_fresh=True
            )
            calls.append(call)
    return calls
