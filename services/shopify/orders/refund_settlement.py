"""What the refunds of an order come to: their state, the money, and which part of it is what. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

PENDING, SUCCESS, FAILED = "pending", "success", "failed"
FAILED_STATUSES = frozenset({"error", "failure", "cancelled", "voided"})
"""The statuses of a payment that gave nothing back and never will."""
STATUS_RANK = {"pending": 1, "error": 2, "failure": 3, "success": 4}
"""A transaction carries no version: it starts pending, and what it became does not change any more."""


class RefundPayment(NamedTuple):
    """A transaction by which a refund gives money back, and its amount in the shop's currency.

    ``is_foreign``: it was paid in another currency, so its amount is a conversion.
    """

    status: str
    cents: int
    is_foreign: bool = False


class OrderMoney(NamedTuple):
    """What of an order its refunds are settled against.

    ``fees_cents`` are additional fees that the order has no more, ``removed_cents`` what removed pieces cost.
    """

    taxes_included: bool = False
    duties_included: bool = False
    tip_cents: int = 0
    fees_cents: int = 0
    refund_rounding_cents: int = 0
    removed_cents: int = 0


class SettledRefund(NamedTuple):
    """The columns of a refund that depend on its order, its payments and the refunds before it."""

    status: str
    amount_cents: int
    tip_cents: int = 0
    unexplained_cents: int = 0
    rounding_cents: int = 0
    additional_fees_cents: int = 0


class RefundChange(NamedTuple):
    """What a refund came to, and comes to now."""

    currency: str
    before: SettledRefund
    now: SettledRefund


class RefundParts(NamedTuple):
    """A refund as it is stored. ``goods_cents`` and ``goods_tax_cents`` are without the lines of tips.

    ``payments`` None: the row is of before they were kept, and its amount stands.
    """

    refund_id: int
    refunded_at: datetime
    payments: Mapping[int, RefundPayment] | None
    goods_cents: int
    goods_tax_cents: int
    tip_line_cents: int
    shipping_cents: int
    shipping_tax_cents: int
    duties_cents: int
    adjustment_cents: int
    adjustment_tax_cents: int
    line_count: int
    settled: SettledRefund

    @property
    def rounding_limit(self) -> int:
        """The most that the conversion of a foreign payment can differ from its parts, in minor units.

        Shopify rounds each amount by itself, by half a unit at most: two amounts of each line, two of
        shipping and of the adjustments, the duties and the payment. 0: nothing was paid in foreign currency.
        """
        is_foreign = any(payment.is_foreign for payment in (self.payments or {}).values())
        return self.line_count + 3 if is_foreign else 0

    def total_cents(self, order: OrderMoney) -> int:
        """Return what Shopify's own parts come to; the lines may contain tax and duties."""
        given = self.goods_cents + self.tip_line_cents + self.shipping_cents + self.shipping_tax_cents
        tax = 0 if order.taxes_included else self.goods_tax_cents
        duties = 0 if order.duties_included else self.duties_cents
        return given + tax + duties - self.adjustment_cents - self.adjustment_tax_cents


def later_payment(one: RefundPayment, other: RefundPayment) -> RefundPayment:
    """Return the one of two states of a payment that is further on."""
    return max(one, other, key=lambda payment: (STATUS_RANK.get(payment.status, 0), payment))


def refund_status(payments: Iterable[RefundPayment]) -> str:
    """Return whether a refund with these payments counts.

    It waits while any of them does, and fails where all failed. One without payments moved no money, as when
    an edit removed a line: it counts.
    """
    statuses = {payment.status for payment in payments}
    if statuses - FAILED_STATUSES - {SUCCESS}:
        return PENDING
    return SUCCESS if SUCCESS in statuses or not statuses else FAILED


def settle_refunds(order: OrderMoney | None, refunds: Sequence[RefundParts]) -> dict[int, SettledRefund]:
    """Return what each of an order's refunds comes to, by id.

    Money beyond a refund's parts first pays what refunds before it, or a removed piece, left owing to the
    customer, then gives back the tip and additional fees, for which Shopify's refund has no field, then is
    rounded cash; what is left is unexplained. Parts beyond the money are no part of sales: they were never
    paid (a deposit), or they pay an exchange. A difference within ``rounding_limit`` is the rounding of a
    conversion: it is unexplained with its sign, and no later refund pays it. Without its order (None) a
    refund has no such parts yet.
    """
    settled: dict[int, SettledRefund] = {}
    balance = -order.removed_cents if order else 0
    explained = 0
    tips = (order.tip_cents if order else 0) - sum(
        one.tip_line_cents for one in refunds if _settle(one).status == SUCCESS
    )
    fees = order.fees_cents if order else 0
    rounding = order.refund_rounding_cents if order else 0
    newest = 0
    for one in sorted(refunds, key=lambda one: (one.refunded_at, one.refund_id)):
        state = _settle(one)
        if state.status == SUCCESS and order:
            beyond_parts = state.amount_cents - one.total_cents(order)
            converted = beyond_parts if abs(beyond_parts) <= one.rounding_limit else 0
            balance += beyond_parts - converted
            if 0 < abs(balance - explained) <= one.rounding_limit:
                converted += balance - explained
                balance = explained
            beyond = max(0, balance - explained)
            explained += beyond
            tip = _take_part(beyond, tips, one.rounding_limit)
            tips -= tip
            fee = _take_part(beyond - tip, fees, one.rounding_limit)
            fees -= fee
            rounded = _take_part(beyond - tip - fee, rounding, 0)
            state = state._replace(
                tip_cents=tip + one.tip_line_cents,
                additional_fees_cents=fee,
                unexplained_cents=beyond - tip - fee - rounded + converted,
            )
            rounding -= rounded
            newest = one.refund_id
        settled[one.refund_id] = state
    if newest and order:
        settled[newest] = settled[newest]._replace(rounding_cents=order.refund_rounding_cents)
    return settled


def _take_part(cents: int, left: int, limit: int) -> int:
    """Return how much of ``left`` is in ``cents``: all of it where the two differ by ``limit`` at most."""
    if cents <= limit:
        return 0
    return left if abs(cents - left) <= limit else min(cents, max(0, left))


def _settle(one: RefundParts) -> SettledRefund:
    if one.payments is None:
        return SettledRefund(one.settled.status, one.settled.amount_cents)
    status = refund_status(one.payments.values())
    paid = sum(payment.cents for payment in one.payments.values() if payment.status == SUCCESS)
    return SettledRefund(status, paid if status == SUCCESS else 0)
