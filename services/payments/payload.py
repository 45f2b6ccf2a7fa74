"""Stripe's charges, refunds, payment intents, disputes and payouts as transactions. Pure.

Webhooks, backfills and the lists of a comparison are parsed by the same function, so that parsing causes no
difference. Only ids and codes of Stripe are read, never text that a person may have typed. Source: Stripe
API reference, the objects of these names and Event.

Amounts are converted to the minor units of ISO 4217, as in Shopify's amounts and in the tables. Stripe writes
ISK and UGX with two decimals although they have none, and MGA with none although it has two. Source:
https://docs.stripe.com/currencies, "Special cases" and "Zero-decimal currencies".
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

from services.core.fields import LARGEST_ID, Unreadable, read_epoch, read_object, read_text
from services.ledger.work import WorkItem

KINDS = frozenset({"charge", "refund", "payment_intent", "dispute", "payout"})

TransactionKey = tuple[int, str]
"""(shop, Stripe's id)."""

_PARENTS = {
    "charge": ("payment_intent",),
    "refund": ("charge", "payment_intent"),
    "payment_intent": ("invoice",),
    "dispute": ("charge", "payment_intent"),
    "payout": ("original_payout",),
}
"""The fields with the id of the parent, the nearest first."""

_REASONS = {
    "charge": ("failure_code",),
    "refund": ("failure_reason", "reason"),
    "payment_intent": ("cancellation_reason",),
    "dispute": ("reason",),
    "payout": ("failure_code",),
}
"""The fields with the code of why an object has its status, the most important first."""

_LARGEST = LARGEST_ID // 100
_FACTORS = {"ISK": Decimal("0.01"), "UGX": Decimal("0.01"), "MGA": Decimal(100)}

_ORDER_KEYS = ("order_gid", "shopify_order_gid", "order_id", "shopify_order_id", "order")
_GID = re.compile(r"gid://shopify/Order/([0-9]{1,19})")
_PLAIN_REF = re.compile(r"#?[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CODE = re.compile(r"[a-z0-9_]{1,64}")

_STATUSES = {
    "charge": ("failed", "uncaptured", "paid", "expired"),
    # The bank may return a refund.
    "refund": ("requires_action", "succeeded", "failed", "canceled"),
    "payment_intent": ("processing", "requires_capture", "canceled", "succeeded"),
    "dispute": (
        "warning_under_review", "warning_closed", "prevented", "needs_response", "under_review", "lost", "won"
    ),
    # The bank may return a payout days later.
    "payout": ("in_transit", "paid", "failed", "canceled"),
}  # fmt: skip

_PROGRESS = {
    (kind, status): place
    for kind, statuses in _STATUSES.items()
    for place, status in enumerate(statuses, start=1)
}
"""The position of a status in the lifecycle of its object; a status that is not listed comes first."""


class Transaction(NamedTuple):
    """One state of a transaction, from one event, one list, or its row in ``transactions``.

    ``amount_cents`` of a captured charge is the captured amount: a hold of 50.00 of which 30.00 were captured
    is a payment of 30.00. Only a payout's amount may be negative (it takes money from the bank).
    ``fee_cents`` is None if unknown. ``work_id`` is the work item of the event; it has no column.
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
    fee_cents: int | None
    order_ref: str
    reason: str
    arrives_on: date | None
    content_digest: str
    work_id: int = 0

    @property
    def key(self) -> TransactionKey:
        return (self.shop_id, self.provider_id)

    @property
    def version(self) -> tuple[datetime, int, int, str]:
        """The order among the states of one transaction: the newest event wins, then the later status.

        Stripe's times are whole seconds, and several events of one object often have the same. Then a final
        status wins over a waiting one, and a larger refund over a smaller one. If all are equal, the digest
        decides, so that the order of arrival does not matter.
        """
        progress = _PROGRESS.get((self.kind, self.status), 0)
        return (self.version_at, progress, self.refunded_cents, self.content_digest)


def parse_transaction_event(item: WorkItem) -> Transaction | None:
    """Return the transaction in ``item``'s event, None for another object; raise ``Unreadable``."""
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
    """Return the state of Stripe's object ``source``; None if its kind is not one of ``KINDS``.

    ``version_at`` is the event's ``created``, or when the list was requested. Raises ``Unreadable``.
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
        fee_cents=find_fee(source, currency),
        order_ref=order_ref,
        reason=reason,
        arrives_on=arrives_on,
        content_digest=blake2b(content.encode(), digest_size=8).hexdigest(),
        work_id=work_id,
    )


def _read_state(kind: str, source: Mapping[str, Any], currency: str) -> tuple[str, int, int]:
    """Return (status, amount, refunded).

    A charge that succeeded is ``paid``, one that only holds money is ``uncaptured``, and ``expired`` once the
    hold is released. Stripe counts the uncaptured rest as refunded; here it is neither paid nor refunded. An
    ``amount_refunded`` below the rest does not include it.
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


def convert_amount(amount: int, currency: str) -> int:
    """Return Stripe's ``amount`` in minor units of ``currency`` (upper case); half a unit is rounded up."""
    factor = _FACTORS.get(currency)
    return amount if factor is None else int((amount * factor).quantize(Decimal(1), ROUND_HALF_UP))


def read_amount(source: Mapping[str, Any], name: str, currency: str, *, is_signed: bool = False) -> int:
    """Return the field in minor units of ``currency``; raise ``Unreadable`` if it is not a whole number."""
    value = source.get(name)
    if type(value) is int and (-_LARGEST if is_signed else 0) <= value <= _LARGEST:
        return convert_amount(value, currency)
    expected = "a whole number of minor units"
    raise Unreadable(name, value, expected if is_signed else f"{expected}, zero or more")


def find_fee(source: Mapping[str, Any], currency: str) -> int | None:
    """Return Stripe's fee if the object contains its balance transaction and that has the same currency."""
    entry = source.get("balance_transaction")
    if not isinstance(entry, dict) or str(entry.get("currency", "")).upper() != currency:
        return None
    fee = entry.get("fee")
    return convert_amount(fee, currency) if type(fee) is int and abs(fee) <= _LARGEST else None


def find_reference(source: Mapping[str, Any], name: str) -> str | None:
    """Return the id that the field refers to; Stripe may have expanded it to the whole object."""
    value = source.get(name)
    if isinstance(value, dict):
        value = value.get("id")
    return value.replace("\0", "") if isinstance(value, str) and value else None


def find_reason(kind: str, source: Mapping[str, Any]) -> str:
    """Return Stripe's code, such as ``insufficient_funds`` or ``fraudulent``; empty if there is none."""
    for name in _REASONS[kind]:
        value = source.get(name)
        if isinstance(value, str) and _CODE.fullmatch(value):
            return value
    return ""


def find_order_ref(source: Mapping[str, Any]) -> str:
    """Return the order in the object's metadata; empty if there is none.

    A number or a gid is Shopify's id and becomes ``gid://shopify/Order/<n>``, the key of ``orders``. Another
    reference (``#1001``, ``web-88``) stays as it is; free text is dropped.
    """
    metadata = source.get("metadata")
    if not isinstance(metadata, dict) or not metadata:
        return ""
    values = [str(metadata[key]).strip() for key in _ORDER_KEYS if type(metadata.get(key)) in (str, int)]
    for text in values:
        gid = _GID.fullmatch(text)
        number = gid[1] if gid else text
        if number.isascii() and number.isdecimal() and len(number) <= 19 and 0 < int(number) <= LARGEST_ID:
            return f"gid://shopify/Order/{int(number)}"
    return next((text for text in values if _PLAIN_REF.fullmatch(text)), "")
