"""The result of one batch, and what an unexpected exception means for it."""

from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.core.errors import WorkError
from services.core.redact import redact_text
from services.core.sentry import capture_bug
from services.ledger.accept import WorkRef
from services.ledger.settle import BatchCounts, InternalError


@dataclass(slots=True)
class BatchResult:
    """Counts of a batch, the new work it planned, and whether its topic has more ready work."""

    claimed: int = 0
    settled: BatchCounts = field(default_factory=BatchCounts)
    refs: list[WorkRef] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    """Of the first ten items, for the log."""
    more: bool = False
    passed_over: bool = False

    def add(self, other: "BatchResult") -> None:
        """Add the counts of ``other``."""
        self.claimed += other.claimed
        self.settled.add(other.settled)
        self.refs += other.refs
        self.request_ids += other.request_ids[: 10 - len(self.request_ids)]
        self.more = self.more or other.more


def is_connection_fault(fault: BaseException) -> bool:
    """Tell whether ``fault`` is a lost or refused database connection: then no item failed."""
    if isinstance(fault, PoolTimeout):
        return True
    return isinstance(fault, DBAPIError) and (fault.connection_invalidated or _is_shutdown(fault))


def _is_shutdown(fault: DBAPIError) -> bool:
    state = getattr(fault.orig, "sqlstate", None)
    # No state: the connection was never made. Class 08: connection; 57P0x: the server stops; 53300: it is
    # full.
    return type(fault) is OperationalError and (
        state is None or state.startswith(("08", "57P")) or state == "53300"
    )


def to_internal_error(
    fault: Exception, topic: str, *, shop_id: int | None = None, request_id: str = ""
) -> WorkError:
    """Return ``fault`` as an outcome. A ``WorkError`` stays as it is; anything else is reported to Sentry."""
    if isinstance(fault, WorkError):
        return fault
    capture_bug(fault, topic=topic, shop=str(shop_id or ""), request_id=request_id)
    name = type(fault).__name__
    return InternalError(f"bug.{name}", f"{name}: {redact_text(str(fault))[:500]}")
