"""A push of one level: its work item, what its call requests, and what Shopify answered."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.ledger.work import WorkItem
from services.shopify.stock.levels import Level

INTENT = ("batch", "asked_at", "members", "quantity", "change_from_quantity")
"""The keys in a payload of a call that may have been sent."""

LOST = "lost"
"""The key in a payload of an earlier push's lost call: its quantity and the one it replaced."""


class LostCall(NamedTuple):
    """A call without an answer: it may have set a level from ``change_from`` to ``quantity``.

    ``given_up`` are the ids of the items that sent it and are not tried again.
    """

    quantity: int
    change_from: int | None
    given_up: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Push:
    """A work item, what its call requests, and then what Shopify answered.

    ``known`` (``shopify_available``), ``known_at`` and ``doubts`` are the level's at planning. ``lost_call``
    is an earlier item's call, or after a read this one's, that may have happened. ``must_read``: it is not
    known what Shopify holds, so the level is only read. ``is_void``: the call did not happen, so the item may
    send another one.

    Of the answer: ``result`` is ``pushed``, ``in_sync``, ``superseded`` or empty (not known). Shopify holds
    ``available`` since ``changed_at``. ``observed_at`` is None where that is no observation of Shopify's:
    without a time, known already, or equal to what an unanswered call of ours requested. ``moves`` is how
    often the stock moved before a push.
    """

    item: WorkItem
    level: Level
    quantity: int
    change_from: int | None
    known: int | None
    known_at: datetime | None = None
    doubts: int = 0
    lost_call: LostCall | None = None
    must_read: bool = False
    result: str = ""
    available: int = 0
    changed_at: datetime | None = None
    observed_at: datetime | None = None
    moves: int = 0
    is_void: bool = False
