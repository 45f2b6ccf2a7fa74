"""The push of one level: its work item, its request, and Shopify's answer."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.ledger.work import WorkItem
from services.shopify.stock.levels import Level

CALL_KEYS = ("batch", "asked_at", "members", "quantity", "change_from_quantity")
"""The payload keys of a call that may have been sent."""

LOST = "lost"
"""The payload key of an earlier push's lost call: its quantity and the one that it replaced."""


class LostCall(NamedTuple):
    """A call without an answer: it may have set a level from ``change_from`` to ``quantity``.

    ``given_up`` are the ids of the items that sent it and will not be retried.
    """

    quantity: int
    change_from: int | None
    given_up: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class LevelPush:
    """A work item, what its call requests, and then Shopify's answer.

    ``known`` (``shopify_available``), ``known_at`` and ``doubts`` are the level's values at planning.
    ``lost_call`` may have happened: the call of an earlier item or, after a read, of this one. ``must_read``:
    Shopify's figure is not known, so the level is only read. ``is_void``: the call did not happen, so the
    item may send another one.

    The answer: ``result`` is ``pushed``, ``in_sync``, ``superseded`` or empty (not known). Shopify holds
    ``available`` since ``changed_at``. ``observed_at`` is None if that is no new observation: without a time,
    known already, or equal to what an unanswered call requested. ``moves`` counts the stock changes before a
    push.
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
