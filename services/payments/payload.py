"""What we take from a Stripe object: a charge, refund, payment intent, dispute or payout. Pure.

One reader for all of Stripe: webhooks, pulls and the lists that the books are compared with, so that our
side and theirs can differ only where the facts do. Amounts are minor units as ISO 4217 counts them; see
``stripe_amounts``. Source: Stripe API reference, the objects of these names and Event.
"""

from collections.abc import Mapping
from datetime import date, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from services.core.fields import LARGEST_ID, Unreadable, read_epoch, read_text
from services.core.fields import read_object as read_json
from services.ledger.work import WorkItem
from services.payments.stripe_amounts import convert_amount, read_amount
from services.payments.stripe_text import find_order_ref, find_reason, find_reference

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
"""The fields that name what an object belongs to, the nearest first."""

_STATUSES = {
    "charge": ("failed", "uncaptured", "paid", "expired"),
    # A refund that was sent to the bank can come back.
    "refund": ("requires_action", "succeeded", "failed", "canceled"),
    "payment_intent": ("processing", "requires_capture", "canceled", "succeeded"),
    "dispute": (
        "warning_under_review", "warning_closed", "prevented", "needs_response", "under_review", "lost", "won"
    ),
    # A bank may send back what was paid, days later.
    "payout": ("in_transit", "paid", "failed", "canceled"),
}  # fmt: skip

_PROGRESS = {
    (kind, status): place
    for kind, statuses in _STATUSES.items()
    for place, status in enumerate(statuses, start=1)
}
"""How far on a status is; one that is not here has everything still before it."""


class Transaction(NamedTuple):
    """One state of a transaction, as one event or one list told it.

    A charge's ``amount_cents`` is what was captured, once it was: a hold of 50.00 of which 30.00 were
    taken is a payment of 30.00. Only a payout's may be negative (it takes money from the bank).
    ``fee_cents`` is None unless the object came with its balance transaction.
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
        """Which transaction this is about."""
        return (self.shop_id, self.provider_id)

    @property
    def version(self) -> Version:
        """What orders the states of one transaction."""
        return transaction_version(
            self.version_at, self.kind, self.status, self.refunded_cents, self.content_digest
        )


def transaction_version(
    version_at: datetime, kind: str, status: str, refunded_cents: int, content_digest: str
) -> Version:
    """Return what orders the states of one transaction: the newest event, then the furthest on.

    Stripe's times are whole seconds and several events of one object often share one; then a final
    status beats one that waits, and the larger refund the smaller. Where all that is equal the digest of
    the content decides: no better than a coin, but the same coin in whatever order the events arrive.
    """
    return (version_at, _PROGRESS.get((kind, status), 0), refunded_cents, content_digest)


def parse_transaction_event(item: WorkItem) -> Transaction | None:
    """Return the transaction that ``item``'s event tells of, None where it tells of something else.

    Raises ``Unreadable`` naming the field.
    """
    event = read_json(item.body)
    data = event.get("data")
    source = data.get("object") if isinstance(data, dict) else None
    if not isinstance(source, dict):
        raise Unreadable("data.object", source, "the object that the event is about")
    version_at = read_epoch(event, "created")
    try:
        return read_object(
            source, shop_id=item.shop_id, version_at=version_at, event_id=item.event_id, work_id=item.id
        )
    except Unreadable as fault:
        raise fault.within("data.object") from None


def read_object(
    source: Mapping[str, Any],
    *,
    shop_id: int,
    version_at: datetime,
    event_id: int | None = None,
    work_id: int = 0,
) -> Transaction | None:
    """Return the state that ``source``, an object of Stripe's, is in; None where it is no transaction.

    ``version_at`` is when it was so: the event's ``created``, or when a list was asked for. Raises
    ``Unreadable`` naming the field.
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
        shop_id,
        read_text(source, "id"),
        kind,
        status,
        amount,
        refunded,
        currency,
        occurred_at,
        parent_id,
        version_at,
        event_id,
        work_id,
        _find_fee(source, currency),
        order_ref,
        reason,
        arrives_on,
        blake2b(content.encode(), digest_size=8).hexdigest(),
    )


def _read_state(kind: str, source: Mapping[str, Any], currency: str) -> tuple[str, int, int]:
    """Return (status, amount, refunded).

    A charge that succeeded is ``paid`` here, the word that the books ask for; one that only holds money
    is ``uncaptured``, and ``expired`` once the hold is let go. What a capture leaves over is counted as
    refunded by Stripe, though it never was paid: here it is neither. Where ``amount_refunded`` is less
    than what was left over, it cannot be counted in.
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
    # Absent before the API's version of 2020-03-02, and on charges that were captured at once.
    captured = read_amount(source, "amount_captured", currency) if source.get("amount_captured") else amount
    left_over = max(0, amount - captured)
    return "paid", captured, refunded - left_over if refunded >= left_over else refunded


def _find_fee(source: Mapping[str, Any], currency: str) -> int | None:
    """Return what Stripe took, where the object came with its balance transaction; else None.

    None as well where the balance has another currency: then the fee is in that one.
    """
    entry = source.get("balance_transaction")
    if not isinstance(entry, dict) or str(entry.get("currency", "")).upper() != currency:
        return None
    fee = entry.get("fee")
    return convert_amount(fee, currency) if type(fee) is int and abs(fee) <= LARGEST_ID // 100 else None
