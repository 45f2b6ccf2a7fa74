"""What we take from a Shopify refund. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import (
    Unreadable,
    find_instant,
    find_text,
    read_count,
    read_id,
    read_instant,
    read_list,
)
from services.ledger.work import WorkItem
from services.shopify.event_payload import read_event
from services.shopify.orders.payload_parts import place_doubts
from services.shopify.orders.refund_payments import read_payments
from services.shopify.orders.refund_settlement import RefundPayment, later_payment
from services.shopify.payload_fields import find_id, find_list, find_shop_currency, order_gid, take_shop_money

RESTOCKS = frozenset({"return", "cancel", "legacy_restock"})
"""The ``restock_type`` values by which goods are back on a shelf; ``no_restock`` is the other one."""


class RefundLine(NamedTuple):
    """``quantity`` pieces of an order's line were refunded, and put back if ``is_restocked``.

    ``subtotal_cents`` is after discounts; it holds ``tax_cents`` where the order's prices do.
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
    """A refund as Shopify describes it. Every amount is in ``currency``, the shop's own.

    ``currency`` is empty where the refund names no money at all. The parts are positive where the customer
    gets them; the adjustments have Shopify's sign, negative where the customer gets more.
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
    def key(self) -> tuple[int, str, int]:
        """What the refund is known by: shop, order and its own id."""
        return self.shop_id, self.order_gid, self.refund_id


FIGURES = (
    "shipping_cents",
    "shipping_tax_cents",
    "duties_cents",
    "adjustment_cents",
    "adjustment_tax_cents",
)
"""The parts of a refund that its body states beside its lines."""


def join_refunds(one: Refund, other: Refund) -> Refund:
    """Return what two events about one refund come to: each figure's larger, and every line of either.

    A refund carries no version, and what was given back is never taken again: its figures only grow, and of
    a payment the furthest status counts. So the order of the two does not matter.
    """
    lines = {line.refund_line_id: line for line in one.lines}
    for line in other.lines:
        twin = lines.get(line.refund_line_id, line)
        lines[line.refund_line_id] = line._replace(
            quantity=max(line.quantity, twin.quantity),
            is_restocked=line.is_restocked or twin.is_restocked,
            location_id=max((at for at in (line.location_id, twin.location_id) if at), default=None),
            subtotal_cents=max(line.subtotal_cents, twin.subtotal_cents),
            tax_cents=max(line.tax_cents, twin.tax_cents),
        )
    payments = dict(one.payments)
    for number, payment in other.payments.items():
        payments[number] = later_payment(payments.get(number, payment), payment)
    figures: dict[str, Any] = {name: _larger(getattr(one, name), getattr(other, name)) for name in FIGURES}
    return one._replace(
        lines=list(lines.values()),
        payments=payments,
        currency=max(one.currency, other.currency),
        refunded_at=min(one.refunded_at, other.refunded_at),
        doubts=(*one.doubts, *(doubt for doubt in other.doubts if doubt not in one.doubts)),
        **figures,
    )


def _larger(one: int, other: int) -> int:
    return max(one, other, key=lambda cents: (abs(cents), cents))


def parse_refund(item: WorkItem) -> Refund:
    """Return the refund that ``item``'s event describes; raise ``Unreadable`` naming the field.

    Source: https://shopify.dev/docs/api/admin-rest/latest/resources/refund
    """
    source, doubts = read_event(item), list[str]()
    transactions = [
        (place, one)
        for place, one in enumerate(read_list(source, "transactions"))
        if one.get("kind") == "refund"
    ]
    lines = read_list(source, "refund_line_items")
    currency = _find_own_currency(source, lines) or next(
        (found for _, one in transactions if (found := find_text(one, "currency"))), ""
    )
    if not currency and any(one.get("status") == "success" for _, one in transactions):
        raise Unreadable("transactions[0].currency", None, "three capital letters such as CAD")
    shipping_cents, shipping_tax_cents = _read_shipping(source, currency, doubts)
    adjustment_cents, adjustment_tax_cents = _read_discrepancy(source, currency, doubts)
    return Refund(
        shop_id=item.shop_id,
        refund_id=read_id(source, "id"),
        order_gid=order_gid(read_id(source, "order_id")),
        currency=currency,
        refunded_at=find_instant(source, "processed_at") or read_instant(source, "created_at"),
        event_id=item.event_id,
        request_id=item.request_id,
        lines=_read_lines(lines, currency, doubts),
        work_id=item.id,
        shipping_cents=shipping_cents,
        shipping_tax_cents=shipping_tax_cents,
        duties_cents=take_shop_money(source, "total_duties", currency, doubts),
        adjustment_cents=adjustment_cents,
        adjustment_tax_cents=adjustment_tax_cents,
        payments=read_payments(source, transactions, currency, doubts),
        doubts=tuple(doubts),
    )


def _find_own_currency(source: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the shop's currency as the refund's totals or parts state it; empty where none does.

    Shopify may leave it off a transaction.
    """
    bags = [(source, "total_duties_set"), *((line, "subtotal_set") for line in lines)]
    bags += [(one, "amount_set") for one in find_list(source, "order_adjustments")]
    bags += [(one, "subtotal_amount_set") for one in find_list(source, "refund_shipping_lines")]
    return next((found for bag, name in bags if (found := find_shop_currency(bag, name))), "")


def _read_shipping(source: Mapping[str, Any], currency: str, doubts: list[str]) -> tuple[int, int]:
    """Return what of the shipping was given back, and the tax on it, both positive.

    Shopify states it as ``refund_shipping_lines``, and as a negative adjustment of kind ``shipping_refund``:
    one fact in two places, so only one of them is taken.
    """
    if lines := find_list(source, "refund_shipping_lines"):
        return (
            sum(take_shop_money(line, "subtotal_amount", currency, doubts) for line in lines),
            sum(take_shop_money(line, "tax_amount", currency, doubts) for line in lines),
        )
    given = [one for one in find_list(source, "order_adjustments") if one.get("kind") == "shipping_refund"]
    return (
        -sum(take_shop_money(one, "amount", currency, doubts) for one in given),
        -sum(take_shop_money(one, "tax_amount", currency, doubts) for one in given),
    )


def _read_discrepancy(source: Mapping[str, Any], currency: str, doubts: list[str]) -> tuple[int, int]:
    """Return what was given back beside the other parts, and the tax in it, with Shopify's sign.

    An adjustment without a kind is a discrepancy: the Admin API's have none. One that only stands for money
    on its way is none: that money is the pending transaction's.
    """
    found = [
        one
        for one in find_list(source, "order_adjustments")
        if one.get("kind") != "shipping_refund"
        and "pending" not in f"{find_text(one, 'kind')} {find_text(one, 'reason')}".casefold()
    ]
    return (
        sum(take_shop_money(one, "amount", currency, doubts) for one in found),
        sum(take_shop_money(one, "tax_amount", currency, doubts) for one in found),
    )


def _read_lines(lines: Sequence[Mapping[str, Any]], currency: str, doubts: list[str]) -> list[RefundLine]:
    """Return the lines; those with one id become one line that has the pieces and amounts of both."""
    read: dict[int, RefundLine] = {}
    for place, source in enumerate(lines):
        line = _read_line(source, place, currency, doubts)
        if twin := read.get(line.refund_line_id):
            doubts.append(f"refund_line_items[{place}].id is that of another line: they are recorded as one")
            line = twin._replace(
                quantity=twin.quantity + line.quantity,
                is_restocked=twin.is_restocked or line.is_restocked,
                subtotal_cents=twin.subtotal_cents + line.subtotal_cents,
                tax_cents=twin.tax_cents + line.tax_cents,
            )
        read[line.refund_line_id] = line
    return list(read.values())


def _read_line(line: Mapping[str, Any], place: int, currency: str, doubts: list[str]) -> RefundLine:
    sold, known = line.get("line_item"), len(doubts)
    try:
        read = RefundLine(
            read_id(line, "id"),
            read_id(line, "line_item_id"),
            find_text(sold, "sku") if isinstance(sold, dict) else "",
            read_count(line, "quantity"),
            line.get("restock_type") in RESTOCKS and line.get("location_id") is not None,
            take_shop_money(line, "subtotal", currency, doubts),
            take_shop_money(line, "total_tax", currency, doubts),
            find_id(sold, "variant_id") if isinstance(sold, dict) else None,
            find_id(line, "location_id"),
        )
    except Unreadable as fault:
        raise fault.within(f"refund_line_items[{place}]") from None
    place_doubts(doubts, known, f"refund_line_items[{place}]")
    return read
