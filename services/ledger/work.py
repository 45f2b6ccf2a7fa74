"""What the ledger hands to an effect, and what an effect hands back. Pure data."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Entry
from services.core.errors import WorkError

FLEET = 0
"""``work_queue.shop_id`` of work that belongs to no shop; everywhere else that is null."""


class WorkItem(NamedTuple):
    """A claimed row of ``work_queue``, with its event's bytes where it has an event.

    A named tuple, as thousands a second are made.
    """

    id: int
    shop_id: int
    topic: str
    key: str
    payload: dict[str, Any]
    retry_count: int
    request_id: str = ""
    event_id: int | None = None
    event_topic: str = ""
    event_provider: str = ""
    body: bytes = b""
    received_at: datetime | None = None
    origin: str = "webhook"
    occurred_at: datetime | None = None

    def event_time(self, now: datetime) -> datetime:
        """Return when what the event tells of happened, as well as that is known: for bodies without a time.

        The provider's own time of the delivery, the same for every copy of it; else when it first came. A
        provider's time may be in a header that is not signed, so it is never later than the receipt.
        """
        times = [at for at in (self.occurred_at, self.received_at) if at is not None]
        return min(times, default=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWork:
    """Work to plan. ``payload`` is JSON; ``not_before`` delays it (aware UTC)."""

    shop_id: int
    topic: str
    key: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    event_id: int | None = None
    origin: str = "effect"
    request_id: str = ""
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What writing down an answer came to: the work that follows, and what the audit says of it."""

    new_work: Sequence[NewWork] = ()
    audit: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """It happened, or rightly needed nothing. ``result`` says which: ``done``, ``stale``, ``in_sync``...

    ``record``, for work on the outside world, writes what was learned; it runs in the settling
    transaction, and only if the lease still held.
    """

    result: str = "done"
    record: Callable[[Connection], FollowUp] | None = None


Outcome = Done | WorkError


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCall:
    """Work on the outside world, ready to go. ``act`` runs with no transaction open, maybe beside others.

    ``payload``, when given, is stored before the call: what is about to be asked survives a crash, so
    the next try asks for the same under the same idempotency key.
    """

    item: WorkItem
    act: Callable[[], Outcome]
    payload: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """What one call came to: an outcome for each of its items, in order, none of which records by itself.

    ``record`` writes down what several calls taught, whatever their outcomes are: it is given the ``taught``
    of each of them, so that it can take all its locks at once (see ``services.core.locks.Lock``), and the
    ids of the items whose lease still held. It runs in the settling transaction; where one write fails, it
    runs again item by item.
    """

    outcomes: Sequence[Outcome]
    record: Callable[[Connection, Sequence[Any], Collection[int]], FollowUp] | None = None
    taught: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """One call on the outside world that stands for several items of one shop; each is settled by itself.

    It is what ``prepare`` returns in the place of every one of its items. ``act`` and ``payloads`` are as
    in ``PreparedCall``. Items that have to wait for the same reason come back at the same time.
    """

    items: Sequence[WorkItem]
    act: Callable[[], BatchResponse]
    payloads: Sequence[dict[str, Any] | None] = ()
    """One per item, or none at all; None leaves an item's payload as it is."""


Call = PreparedCall | PreparedBatch
"""Anything that is ready to go out."""


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """What a set of own effects came to: one outcome per item, in order, the work that follows, and what
    the audit says of it."""

    outcomes: Sequence[Outcome]
    new_work: Sequence[NewWork] = ()
    audit: Sequence[Entry] = ()
