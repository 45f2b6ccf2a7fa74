"""What we take from a Shopify refund. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from services.core.reading import (
    Unreadable,
    find_text,
    read_count,
    read_id,
    read_instant,
    read_list,
    read_money,
)
from services.ledger.work import WorkItem
from services.storefront.body import find_id, find_number_money, find_shop_currency, find_shop_money
from services.storefront.order_body import order_gid
from services.storefront.topic_body import read_event

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
    """A refund as Shopify told it. ``currency`` is empty where the refund names no money at all.

    ``amount_cents`` is what was paid back, in ``currency``; the figures of lines and shipping are in the
    shop's own currency, as the order's are.
    """

    shop_id: int
    refund_id: int
    order_gid: str
    amount_cents: int
    currency: str
    refunded_at: datetime
    event_id: int | None
    request_id: str
    lines: list[RefundLine]
    work_id: int
    shipping_cents: int
    shipping_tax_cents: int


def join_refunds(one: Refund, other: Refund) -> Refund:
    """Return what two tellings of one refund come to: each figure's larger, and every line of either.

    A refund carries no version, and what was given back is never taken again: its figures only grow, as
    when a pending transaction succeeds. So the order of the two does not matter.
    """
    larger, smaller = (one, other) if one.amount_cents >= other.amount_cents else (other, one)
    lines = {line.refund_line_id: line for line in smaller.lines}
    for line in larger.lines:
        twin = lines.get(line.refund_line_id, line)
        lines[line.refund_line_id] = line._replace(
            quantity=max(line.quantity, twin.quantity),
            is_restocked=line.is_restocked or twin.is_restocked,
            location_id=max((at for at in (line.location_id, twin.location_id) if at), default=None),
            subtotal_cents=max(line.subtotal_cents, twin.subtotal_cents),
            tax_cents=max(line.tax_cents, twin.tax_cents),
        )
    return larger._replace(
        lines=list(lines.values()),
        shipping_cents=max(one.shipping_cents, other.shipping_cents),
        shipping_tax_cents=max(one.shipping_tax_cents, other.shipping_tax_cents),
    )


def read_refund(item: WorkItem) -> Refund:
    """Return the refund that ``item``'s event tells of; raise ``Unreadable`` naming the field.

    The amount is what its successful refund transactions come to: a pending one has given nothing back.
    """
    source = read_event(item)
    paid = [t for t in read_list(source, "transactions") if _gave_money(t)]
    lines = read_list(source, "refund_line_items")
    own_currency = _find_own_currency(source, lines)
    currency = _find_currency(paid) or own_currency
    # Money that is still on its way names its currency as well as money that moved.
    line_currency = own_currency or currency or _find_currency(read_list(source, "transactions"))
    shipping_cents, shipping_tax_cents = _read_shipping(source, line_currency)
    if paid and not currency:
        raise Unreadable("transactions[0].currency", None, "three capital letters such as CAD")
    return Refund(
        shop_id=item.shop_id,
        refund_id=read_id(source, "id"),
        order_gid=order_gid(read_id(source, "order_id")),
        amount_cents=sum(read_money(t, "amount", currency) for t in paid),
        currency=currency,
        refunded_at=read_instant(source, "created_at"),
        event_id=item.event_id,
        request_id=item.request_id,
        lines=[_read_line(line, place, line_currency) for place, line in enumerate(lines)],
        work_id=item.id,
        shipping_cents=shipping_cents,
        shipping_tax_cents=shipping_tax_cents,
    )


def _gave_money(transaction: Mapping[str, Any]) -> bool:
    return transaction.get("kind") == "refund" and transaction.get("status") == "success"


def _find_currency(transactions: Sequence[Mapping[str, Any]]) -> str:
    return next((found for t in transactions if (found := find_text(t, "currency"))), "")


def _find_own_currency(source: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the shop's currency as the refund's totals or lines state it; empty where none does.

    Shopify may leave it off a transaction.
    """
    return find_shop_currency(source, "total_duties_set") or next(
        (found for line in lines if (found := find_shop_currency(line, "subtotal_set"))), ""
    )


def _read_shipping(source: Mapping[str, Any], currency: str) -> tuple[int, int]:
    """Return what of the shipping was given back, and the tax on it, both positive.

    Shopify tells it as a negative adjustment of kind ``shipping_refund``, and as
    ``refund_shipping_lines``: one fact in two places, so only one of them is taken.
    """
    adjustments = read_list(source, "order_adjustments") if source.get("order_adjustments") else []
    shipping = [one for one in adjustments if one.get("kind") == "shipping_refund"]
    if shipping and currency:
        return (
            sum(-(_in_shop_money(one, "amount", currency)) for one in shipping),
            sum(-(_in_shop_money(one, "tax_amount", currency)) for one in shipping),
        )
    lines = read_list(source, "refund_shipping_lines") if source.get("refund_shipping_lines") else []
    if lines and currency:
        return (
            sum(find_shop_money(line, "subtotal_amount_set", currency) or 0 for line in lines),
            sum(find_shop_money(line, "tax_amount_set", currency) or 0 for line in lines),
        )
    return 0, 0


def _in_shop_money(source: Mapping[str, Any], name: str, currency: str) -> int:
    """Return an amount in the shop's currency: its money bag's, else its own."""
    in_bag = find_shop_money(source, f"{name}_set", currency)
    return in_bag if in_bag is not None else find_number_money(source, name, currency) or 0


def _read_line(line: Mapping[str, Any], place: int, currency: str) -> RefundLine:
    sold = line.get("line_item")
    try:
        return RefundLine(
            read_id(line, "id"),
            read_id(line, "line_item_id"),
            find_text(sold, "sku") if isinstance(sold, dict) else "",
            read_count(line, "quantity"),
            line.get("restock_type") in RESTOCKS and line.get("location_id") is not None,
            # Without any currency there is no telling what the figures mean; Shopify states one.
            _in_shop_money(line, "subtotal", currency) if currency else 0,
            _in_shop_money(line, "total_tax", currency) if currency else 0,
            find_id(sold, "variant_id") if isinstance(sold, dict) else None,
            find_id(line, "location_id"),
        )
    except Unreadable as fault:
        raise fault.within(f"refund_line_items[{place}]") from None
