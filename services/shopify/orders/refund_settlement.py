"""Refunds of an order: merges events of one refund, and assigns the refunded money to parts. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from services.ledger.audit_text import FigureChange
from services.shopify.orders.payload import OrderKey

PENDING, SUCCESS, FAILED = "pending", "success", "failed"
FAILED_STATUSES = frozenset({"error", "failure", "cancelled", "voided"})
"""The final statuses of a payment that gave nothing back."""
STATUS_RANK = {"pending": 1, "error": 2, "failure": 3, "success": 4}
"""A transaction has no version: it starts as pending, and its next status is final."""

RefundKey = tuple[int, str, int]
"""(shop, order gid, refund)."""


class RefundPayment(NamedTuple):
    """A transaction that gives money back, and its amount in the shop's currency.

    ``is_foreign``: it was paid in another currency, so its amount is a conversion.
    """

    status: str
    cents: int
    is_foreign: bool = False


class RefundLine(NamedTuple):
    """``quantity`` pieces of an order's line were refunded, and are back in stock if ``is_restocked``.

    ``subtotal_cents`` is after discounts; it contains ``tax_cents`` if the order's prices do.
    """

    refund_line_id: int
    line_id: int
    sku: str
    quantity: int
    is_restocked: bool
    subtotal_cents: int
    tax_cents: int
    variant_id: int | None = None
    location_id: int | None = None


class Refund(NamedTuple):
    """A refund in an event. Every amount is in ``currency``, the shop's own.

    ``currency`` is empty if the refund contains no money. Parts that the customer gets are positive; the
    adjustments have Shopify's sign, negative if the customer gets more.
    """

    shop_id: int
    refund_id: int
    order_gid: str
    currency: str
    refunded_at: datetime
    event_id: int | None
    request_id: str
    lines: list[RefundLine]
    work_id: int
    shipping_cents: int
    shipping_tax_cents: int
    duties_cents: int
    adjustment_cents: int
    adjustment_tax_cents: int
    payments: Mapping[int, RefundPayment]
    doubts: tuple[str, ...] = ()

    @property
    def key(self) -> RefundKey:
        return self.shop_id, self.order_gid, self.refund_id

    @property
    def order_key(self) -> OrderKey:
        return self.shop_id, self.order_gid


PARTS = ("shipping_cents", "shipping_tax_cents", "duties_cents", "adjustment_cents", "adjustment_tax_cents")
"""The parts of a refund except its lines."""


def merge_refunds(one: Refund, other: Refund) -> Refund:
    """Return the refund of two events: the larger of each amount, and the lines of both.

    A refund has no version, but its amounts only grow, and the most advanced status of a payment counts. So
    the order of the two does not matter.
    """
    lines = {line.refund_line_id: line for line in one.lines}
    for line in other.lines:
        earlier = lines.get(line.refund_line_id, line)
        lines[line.refund_line_id] = line._replace(
            quantity=max(line.quantity, earlier.quantity),
            is_restocked=line.is_restocked or earlier.is_restocked,
            location_id=max((at for at in (line.location_id, earlier.location_id) if at), default=None),
            subtotal_cents=max(line.subtotal_cents, earlier.subtotal_cents),
            tax_cents=max(line.tax_cents, earlier.tax_cents),
        )
    payments = dict(one.payments)
    for number, payment in other.payments.items():
        payments[number] = later_payment(payments.get(number, payment), payment)
    parts: dict[str, Any] = {
        name: max(getattr(one, name), getattr(other, name), key=lambda cents: (abs(cents), cents))
        for name in PARTS
    }
    return one._replace(
        lines=list(lines.values()),
        payments=payments,
        currency=max(one.currency, other.currency),
        refunded_at=min(one.refunded_at, other.refunded_at),
        doubts=(*one.doubts, *(doubt for doubt in other.doubts if doubt not in one.doubts)),
        **parts,
    )


def later_payment(one: RefundPayment, other: RefundPayment) -> RefundPayment:
    """Return the state of a payment with the more advanced status."""
    return max(one, other, key=lambda payment: (STATUS_RANK.get(payment.status, 0), payment))


class SettledRefund(NamedTuple):
    """The columns of a refund that depend on its order, its payments and the refunds before it."""

    status: str
    amount_cents: int
    tip_cents: int = 0
    unexplained_cents: int = 0
    rounding_cents: int = 0
    additional_fees_cents: int = 0


class RefundChange(NamedTuple):
    """The settlement of a refund, before and after a change."""

    currency: str
    before: SettledRefund
    now: SettledRefund


class RefundedSum(NamedTuple):
    """A change of an order's refunded sum."""

    name: str
    currency: str
    change: FigureChange


class StoredRefund(NamedTuple):
    """A refund's row with the sums of its lines, see ``refund_store``; lines of tips are summed separately.

    ``payments`` is None if the row is older than the column; then its amount is final.
    """

    row: Row[Any]
    payments: Mapping[int, RefundPayment] | None
    settled: SettledRefund

    @property
    def rounding_limit(self) -> int:
        """The maximum difference of a converted foreign payment and its parts, in minor units.

        Shopify rounds each amount separately, by at most half a unit: two amounts of each line, two of
        shipping and of the adjustments, the duties and the payment. 0 without a foreign payment.
        """
        is_foreign = any(payment.is_foreign for payment in (self.payments or {}).values())
        return int(self.row.line_count) + 3 if is_foreign else 0

    def total_cents(self, order: Row[Any]) -> int:
        """Return the sum of Shopify's own parts; the lines may contain tax and duties."""
        row = self.row
        cents = row.goods_cents + row.tip_line_cents + row.shipping_cents + row.shipping_tax_cents
        tax = 0 if order.taxes_included else row.goods_tax_cents
        duties = 0 if order.duties_included else row.duties_cents
        return int(cents + tax + duties - row.adjustment_cents - row.adjustment_tax_cents)


def settle_refunds(order: Row[Any] | None, refunds: Sequence[StoredRefund]) -> dict[int, SettledRefund]:
    """Return the settlement of each of an order's refunds, by id.

    Money beyond a refund's parts is assigned in this order: to unpaid parts of earlier refunds or removed
    pieces; to the tip and additional fees, for which Shopify's refund has no field; to rounded cash. The rest
    is unexplained. Parts beyond the money do not reduce sales: they were never paid (a deposit), or they pay
    an exchange. A difference within ``rounding_limit`` is the rounding of a conversion: it is unexplained
    with its sign, and no later refund pays it. Without its order (None) a refund has none of these parts.
    """
    states = {refund.row.refund_id: _settle_payments(refund) for refund in refunds}
    if order is None:
        return states
    paid = sorted(
        (refund for refund in refunds if states[refund.row.refund_id].status == SUCCESS),
        key=lambda refund: (refund.row.refunded_at, refund.row.refund_id),
    )
    balance, explained = -order.removed_cents, 0
    tips = order.tip_cents - sum(refund.row.tip_line_cents for refund in paid)
    fees, rounding = order.fees_cents, order.refund_rounding_cents
    for refund in paid:
        state, limit = states[refund.row.refund_id], refund.rounding_limit
        difference = state.amount_cents - refund.total_cents(order)
        converted = difference if abs(difference) <= limit else 0
        balance += difference - converted
        if 0 < abs(balance - explained) <= limit:
            converted += balance - explained
            balance = explained
        excess = max(0, balance - explained)
        explained += excess
        tip = _take_part(excess, tips, limit)
        fee = _take_part(excess - tip, fees, limit)
        rounded = _take_part(excess - tip - fee, rounding, 0)
        tips, fees, rounding = tips - tip, fees - fee, rounding - rounded
        states[refund.row.refund_id] = state._replace(
            tip_cents=tip + refund.row.tip_line_cents,
            additional_fees_cents=fee,
            unexplained_cents=excess - tip - fee - rounded + converted,
        )
    if paid:
        newest = paid[-1].row.refund_id
        states[newest] = states[newest]._replace(rounding_cents=order.refund_rounding_cents)
    return states


def _take_part(cents: int, left: int, limit: int) -> int:
    """Return how much of ``left`` is in ``cents``: all of it if the two differ by at most ``limit``."""
    if cents <= limit:
        return 0
    return left if abs(cents - left) <= limit else min(cents, max(0, left))


def _settle_payments(refund: StoredRefund) -> SettledRefund:
    """Return the status and amount of a refund by its payments.

    It is pending while any of them is, and failed if all failed. Without payments it is a success that moved
    no money, for example when an edit removed a line.
    """
    if refund.payments is None:
        return SettledRefund(refund.settled.status, refund.settled.amount_cents)
    statuses = {payment.status for payment in refund.payments.values()}
    if statuses - FAILED_STATUSES - {SUCCESS}:
        return SettledRefund(PENDING, 0)
    if statuses and SUCCESS not in statuses:
        return SettledRefund(FAILED, 0)
    return SettledRefund(SUCCESS, sum(p.cents for p in refund.payments.values() if p.status == SUCCESS))
