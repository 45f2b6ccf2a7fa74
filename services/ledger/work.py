"""The input and output of handlers. Pure data."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from services.audit.chain import AuditEntry
from services.core.errors import WorkError

GAVE_UP = "gave up after"
"""The beginning of ``last_error`` of work that is dead because all its tries are used."""
FLEET = 0
"""``work_queue.shop_id`` of work without a shop; all other tables use null."""


class WorkItem(NamedTuple):
    """A claimed row of ``work_queue`` with the data of its event, if it has one.

    A named tuple, because thousands are created per second.
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
    ready_at: datetime | None = None
    """Since when it was ready for this try; None for dead work that was requeued."""

    def event_time(self, now: datetime) -> datetime:
        """Return the best known time of the event, for bodies that contain none.

        It is the provider's time of the delivery, which is the same in every copy, or else the first receipt.
        It is never later than the receipt, because the provider's time may be from an unsigned header.
        """
        times = [at for at in (self.occurred_at, self.received_at) if at is not None]
        return min(times, default=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWork:
    """Work to insert. ``payload`` is JSON; ``not_before`` (aware UTC) delays it."""

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
    """The new work and the audit entries that follow from a result."""

    new_work: Sequence[NewWork] = ()
    audit: Sequence[AuditEntry] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The item is finished. ``result`` is stored in ``work_queue.result``, such as ``done`` or ``stale``.

    ``record`` writes what an external call returned. It runs in the settling transaction, and only if the
    lease is still held.
    """

    result: str = "done"
    record: Callable[[Connection], FollowUp] | None = None


Outcome = Done | WorkError


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCall:
    """An external call to make. ``act`` runs with no transaction open, in a thread.

    ``payload``, if given, is stored before the call: after a crash the next try sends the same request under
    the same idempotency key.
    """

    item: WorkItem
    act: Callable[[], Outcome]
    payload: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BatchResponse:
    """The result of a batch call: one outcome per item, in order, without a ``record``.

    ``record`` writes the data of several calls. It gets the ``response_data`` of each call, so that it can
    take all locks at once (see ``services.core.locks.LockKind``), and the ids of the items whose lease is
    still held. It runs in the settling transaction; if a write fails, it runs again item by item.
    """

    outcomes: Sequence[Outcome]
    record: Callable[[Connection, Sequence[Any], Collection[int]], FollowUp] | None = None
    response_data: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBatch:
    """One external call for several items of one shop; each item has its own settlement.

    ``prepare`` returns it at the position of each of its items. ``act`` and ``payloads`` are as in
    ``PreparedCall``. Items with the same error code are retried together.
    """

    items: Sequence[WorkItem]
    act: Callable[[], BatchResponse]
    payloads: Sequence[dict[str, Any] | None] = ()
    """One per item, or empty; None keeps the item's payload."""


Call = PreparedCall | PreparedBatch


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """The result of a transactional handler: one outcome per item, in order, new work, and audit entries."""

    outcomes: Sequence[Outcome]
    new_work: Sequence[NewWork] = ()
    audit: Sequence[AuditEntry] = ()


TransactionalHandler = Callable[[Connection, Sequence[WorkItem], datetime], HandlerResult]
"""Does a batch of items inside the transaction that claimed them; see ``HandlerMode.TRANSACTIONAL``."""


class ExternalHandler(Protocol):
    """Prepares external calls; see ``HandlerMode.EXTERNAL``."""

    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call to make, or the outcome if no call is needed."""


Handler = TransactionalHandler | ExternalHandler
