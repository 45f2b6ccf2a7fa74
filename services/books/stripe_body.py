"""What we take from a Stripe event about a charge, a refund or a payment intent. Pure.

Source: Stripe API reference, the objects Event, Charge, Refund and PaymentIntent.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from services.core.reading import (
    LARGEST_ID,
    Unreadable,
    read_epoch,
    read_object,
    read_text,
)
from services.ledger.work import WorkItem

Version = tuple[datetime, int, int]
"""What makes one state of a transaction newer than another; see ``transaction_version``."""

KINDS = frozenset({"charge", "refund", "payment_intent"})

_PARENTS = MappingProxyType({"charge": "payment_intent", "refund": "charge", "payment_intent": "invoice"})
"""The field that names what an object belongs to."""

_PROGRESS = MappingProxyType(
    {
        ("charge", "failed"): 1,
        ("charge", "paid"): 2,
        ("refund", "succeeded"): 1,
        # A refund that was sent to the bank can come back.
        ("refund", "failed"): 2,
        ("refund", "canceled"): 2,
        ("payment_intent", "processing"): 1,
        ("payment_intent", "requires_capture"): 2,
        ("payment_intent", "canceled"): 3,
        ("payment_intent", "succeeded"): 4,
    }
)
"""How far on a status is; one that is not here has everything still before it."""


class Transaction(NamedTuple):
    """One state of a transaction, as one event told it."""

    shop_id: int
    provider_id: str
    kind: str
    status: str
    amount_cents: int
    refunded_cents: int
    currency: str
    occurred_at: datetime
    parent_id: str | None
    version_at: datetime
    event_id: int | None
    work_id: int

    @property
    def key(self) -> tuple[int, str]:
        """Which transaction this is about."""
        return (self.shop_id, self.provider_id)

    @property
    def version(self) -> Version:
        """What orders the states of one transaction."""
        return transaction_version(self.version_at, self.kind, self.status, self.refunded_cents)


def transaction_version(version_at: datetime, kind: str, status: str, refunded_cents: int) -> Version:
    """Return what orders the states of one transaction: the newest event, then the furthest on.

    Stripe's times are whole seconds and several events of one object often share one; then a final
    status beats one that waits, and the larger refund the smaller.
    """
    return (version_at, _PROGRESS.get((kind, status), 0), refunded_cents)


def read_transaction(item: WorkItem) -> Transaction | None:
    """Return the transaction that ``item``'s event tells of, None where it tells of something else.

    Raises ``Unreadable`` naming the field.
    """
    event = read_object(item.body)
    data = event.get("data")
    source = data.get("object") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the object that the event is about")
    kind = read_text(source, "object")
    if kind not in KINDS:
        return None
    version_at = read_epoch(event, "created")
    try:
        return Transaction(
            shop_id=item.shop_id,
            provider_id=read_text(source, "id"),
            kind=kind,
            status=_status(kind, source),
            amount_cents=_read_cents(source, "amount"),
            refunded_cents=_read_cents(source, "amount_refunded") if kind == "charge" else 0,
            currency=read_text(source, "currency").upper(),
            occurred_at=read_epoch(source, "created"),
            parent_id=_find_reference(source, _PARENTS[kind]),
            version_at=version_at,
            event_id=item.event_id,
            work_id=item.id,
        )
    except Unreadable as fault:
        raise fault.within("data.object") from None


def _status(kind: str, source: Mapping[str, Any]) -> str:
    """Return the status; a charge that succeeded is ``paid`` here, the word that the books ask for."""
    status = read_text(source, "status")
    return "paid" if kind == "charge" and status == "succeeded" else status


def _read_cents(source: Mapping[str, Any], name: str) -> int:
    value = source.get(name)
    if type(value) is int and 0 <= value <= LARGEST_ID:
        return value
    raise Unreadable(name, value, "a whole number of minor units, zero or more")


def _find_reference(source: Mapping[str, Any], name: str) -> str | None:
    """Return the id that the field refers to, which Stripe may have expanded to the whole object."""
    value = source.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return value.replace("\0", "") if isinstance(value, str) and value else None
