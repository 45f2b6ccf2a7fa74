"""Stripe's charges, refunds, payment intents, disputes and payouts as transactions. Pure.

Webhooks, backfills and the lists of a comparison are parsed by the same function, so that a difference
between the two sides is never one of parsing. Amounts are minor units of ISO 4217; see ``stripe_fields``.
Source: Stripe API reference, the objects of these names and Event.
"""

from collections.abc import Mapping
from datetime import date, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from services.core.fields import Unreadable, read_epoch, read_object, read_text
from services.ledger.work import WorkItem
from services.payments.stripe_fields import (
    find_fee,
    find_order_ref,
    find_reason,
    find_reference,
    read_amount,
)

KINDS = frozenset({"charge", "refund", "payment_intent", "dispute", "payout"})

Version = tuple[datetime, int, int, str]
"""What makes one state of a transaction newer than another; see ``transaction_version``."""

_PARENTS = {
    "charge": ("payment_intent",),
    "refund": ("charge", "payment_intent"),
    "payment_intent": ("invoice",),
    "dispute": ("charge", "payment_intent"),
    "payout": ("original_payout",),
}
"""The fields with the id of the parent, the nearest first."""

_STATUSES = {
    "charge": ("failed", "uncaptured", "paid", "expired"),
    # A refund that was sent to the bank can come back.
    "refund": ("requires_action", "succeeded", "failed", "canceled"),
    "payment_intent": ("processing", "requires_capture", "canceled", "succeeded"),
    "dispute": (
        "warning_under_review", "warning_closed", "prevented", "needs_response", "under_review", "lost", "won"
    ),
    # A bank may send back a payout days later.
    "payout": ("in_transit", "paid", "failed", "canceled"),
}  # fmt: skip

_PROGRESS = {
    (kind, status): place
    for kind, statuses in _STATUSES.items()
    for place, status in enumerate(statuses, start=1)
}
"""The place of a status in the life of its object; a status that is not listed comes first."""


class Transaction(NamedTuple):
    """One state of a transaction, from one event or one list.

    ``amount_cents`` of a captured charge is the captured amount: a hold of 50.00 of which 30.00 were taken is
    a payment of 30.00. Only a payout's amount may be negative (it takes money from the bank). ``fee_cents``
    is None unless the object came with its balance transaction.
    """

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
    fee_cents: int | None
    order_ref: str
    reason: str
    arrives_on: date | None
    content_digest: str

    @property
    def key(self) -> tuple[int, str]:
        """The primary key of its row."""
        return (self.shop_id, self.provider_id)

    @property
    def version(self) -> Version:
        """The order among the states of one transaction."""
        return transaction_version(
            self.version_at, self.kind, self.status, self.refunded_cents, self.content_digest
        )


def transaction_version(
    version_at: datetime, kind: str, status: str, refunded_cents: int, content_digest: str
) -> Version:
    """Return the order among the states of one transaction: the newest event first, then the later status.

    Stripe's times are whole seconds and several events of one object often share one; then a final status
    beats one that waits, and the larger refund the smaller. If all of that is equal, the digest decides:
    arbitrary, but the same in whatever order the events arrive.
    """
    return (version_at, _PROGRESS.get((kind, status), 0), refunded_cents, content_digest)


def parse_transaction_event(item: WorkItem) -> Transaction | None:
    """Return the transaction in ``item``'s event, None if its object is of another kind.

    Raises ``Unreadable`` naming the field.
    """
    event = read_object(item.body)
    data = event.get("data")
    source = data.get("object") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the object that the event is about")
    version_at = read_epoch(event, "created")
    try:
        return parse_transaction(
            source, shop_id=item.shop_id, version_at=version_at, event_id=item.event_id, work_id=item.id
        )
    except Unreadable as fault:
        raise fault.within("data.object") from None


def parse_transaction(
    source: Mapping[str, Any],
    *,
    shop_id: int,
    version_at: datetime,
    event_id: int | None = None,
    work_id: int = 0,
) -> Transaction | None:
    """Return the state of ``source``, an object of Stripe's; None if its kind is not one of ``KINDS``.

    ``version_at`` is the event's ``created``, or when the list was requested. Raises ``Unreadable`` naming
    the field.
    """
    kind = read_text(source, "object")
    if kind not in KINDS:
        return None
    currency = read_text(source, "currency").upper()
    status, amount, refunded = _read_state(kind, source, currency)
    occurred_at = read_epoch(source, "created")
    parent_id = next((found for name in _PARENTS[kind] if (found := find_reference(source, name))), None)
    order_ref, reason = find_order_ref(source), find_reason(kind, source)
    arrives_on = read_epoch(source, "arrival_date").date() if kind == "payout" else None
    content = (
        f"{status}\0{amount}\0{refunded}\0{currency}\0{source['created']}\0{parent_id}\0{order_ref}\0{reason}"
        f"\0{arrives_on}"
    )
    return Transaction(
        shop_id=shop_id,
        provider_id=read_text(source, "id"),
        kind=kind,
        status=status,
        amount_cents=amount,
        refunded_cents=refunded,
        currency=currency,
        occurred_at=occurred_at,
        parent_id=parent_id,
        version_at=version_at,
        event_id=event_id,
        work_id=work_id,
        fee_cents=find_fee(source, currency),
        order_ref=order_ref,
        reason=reason,
        arrives_on=arrives_on,
        content_digest=blake2b(content.encode(), digest_size=8).hexdigest(),
    )


def _read_state(kind: str, source: Mapping[str, Any], currency: str) -> tuple[str, int, int]:
    """Return (status, amount, refunded).

    A charge that succeeded is ``paid``, one that only holds money is ``uncaptured``, and ``expired`` once the
    hold is released. Stripe counts what a capture leaves over as refunded, though it never was paid: here it
    is neither. If ``amount_refunded`` is less than what was left over, it does not include it.
    """
    status = read_text(source, "status")
    amount = read_amount(source, "amount", currency, is_signed=kind == "payout")
    if kind != "charge":
        return status, amount, 0
    refunded = read_amount(source, "amount_refunded", currency)
    if status != "succeeded":
        return status, amount, refunded
    if source.get("captured") is False:
        return "expired" if source.get("refunded") is True else "uncaptured", amount, 0
    # Absent before API version 2020-03-02, and on charges that were captured at once.
    captured = read_amount(source, "amount_captured", currency) if source.get("amount_captured") else amount
    left_over = max(0, amount - captured)
    return "paid", captured, refunded - left_over if refunded >= left_over else refunded
