"""Audit summaries of orders and refunds, with the values before and after. Pure.

They contain only ids, amounts, statuses and SKUs, never a customer's name or address, nor free text that may
contain one: entries of a chain cannot be erased.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from services.audit.chain import Mutation
from services.core.counts import format_count
from services.ledger.audit_text import FigureChange, format_money, format_money_change
from services.shopify.orders.line_payload import LineChange, OrderLine
from services.shopify.orders.payload import Order
from services.shopify.orders.refund_settlement import SUCCESS, RefundChange, RefundedSum

_CHANGES: Mapping[str, Callable[[Any, Order], str] | str] = {
    "updated_at": "",
    "name": lambda _old, new: f"renamed to {new.name}",
    "financial_status": lambda old, new: (
        f"{old.financial_status or 'no status'} -> {new.financial_status or 'no status'}"
    ),
    "currency": lambda old, new: (
        f"{format_money(old.total_cents, old.currency)} -> {format_money(new.total_cents, new.currency)}"
    ),
    "total_cents": lambda old, new: (
        format_money_change(old.total_cents, new.total_cents, new.currency)
        if old.currency == new.currency
        else ""
    ),
    "cancelled_at": lambda _old, new: "cancelled" if new.cancelled_at else "no longer cancelled",
    "placed_at": "time of the sale changed",
    "fulfillment_status": lambda old, new: (
        f"{old.fulfillment_status or 'unfulfilled'} -> {new.fulfillment_status or 'unfulfilled'}"
    ),
    "subtotal_cents": "subtotal changed",
    "tax_cents": "tax changed",
    "shipping_cents": "shipping changed",
    "discount_cents": "discount changed",
    "customer_id": "customer changed",
}
"""The compared columns, in the order of a summary, and the text of their change; empty: no text."""


def order_label(name: str, gid: str) -> str:
    """Return an order's label: ``order #1001``, or Shopify's number if it has no name."""
    return f"order {name or gid.rpartition('/')[2]}"


def describe_order(
    order: Order, known: Row[Any] | None, lines: Mapping[int, LineChange], refunded: FigureChange | None
) -> Mutation:
    """Return the mutation of an order that is new, or changed from ``known``, with its lines and refunds."""
    if known is None:
        return _describe_new_order(order, refunded)
    changed = [name for name in _CHANGES if getattr(known, name) != getattr(order, name)]
    before: dict[str, Any] = {name: getattr(known, name) for name in changed}
    after: dict[str, Any] = {name: getattr(order, name) for name in changed}
    formats = (_CHANGES[name] for name in changed)
    texts = [text for form in formats if (text := form if isinstance(form, str) else form(known, order))]
    if refunded:
        texts.append(f"refunded {format_money_change(*refunded, order.currency)}")
        before["refunded_cents"], after["refunded_cents"] = refunded
    if lines:
        texts += _count_lines(lines)
        before["lines"] = {str(line_id): _line_document(line.old) for line_id, line in lines.items()}
        after["lines"] = {str(line_id): _line_document(line.new) for line_id, line in lines.items()}
    is_same = known.content_digest == order.content_digest
    received = "received again, only updated_at changed" if is_same else "received again, details changed"
    summary = f"{order_label(known.name, order.order_gid)}: {', '.join(texts) or received}"
    return Mutation("orders", order.order_gid, summary, before, after)


def _describe_new_order(order: Order, refunded: FigureChange | None) -> Mutation:
    after: dict[str, Any] = {
        "currency": order.currency,
        "financial_status": order.financial_status,
        "line_count": len(order.lines),
        "total_cents": order.total_cents,
    }
    label = order_label(order.name, order.order_gid)
    total = format_money(order.total_cents, order.currency)
    status = order.financial_status or "no status"
    summary = f"{label} recorded: {total}, {status}, {format_count(len(order.lines), 'line')}"
    if order.cancelled_at:
        after["cancelled_at"] = order.cancelled_at
        summary += ", cancelled"
    if refunded:
        after["refunded_cents"] = refunded.after
        summary += f", {format_money(refunded.after, order.currency)} refunded"
    return Mutation("orders", order.order_gid, summary, None, after)


def describe_deletion(name: str, gid: str, deleted_at: datetime) -> Mutation:
    summary = f"{order_label(name, gid)}: deleted at Shopify, no longer counted as revenue"
    return Mutation("orders", gid, summary, {"deleted_at": None}, {"deleted_at": deleted_at})


def describe_refunded_sum(gid: str, refunded: RefundedSum, change: FigureChange) -> Mutation:
    """Return the mutation of an order: the part ``change`` of the change of its sum ``refunded``."""
    summary = f"{order_label(refunded.name, gid)}: refunded {format_money_change(*change, refunded.currency)}"
    before, after = ({"refunded_cents": cents} for cents in change)
    return Mutation("orders", gid, summary, before, after)


def describe_refund(
    refund_id: int, order_gid: str, change: RefundChange, new_lines: int = 0, *, is_new: bool = False
) -> Mutation:
    """Return the mutation of a refund that is new, or whose payments, lines or settlement changed."""
    before, now = change.before, change.now
    label = f"refund {refund_id} of order {order_gid.rpartition('/')[2]}"
    if is_new:
        summary = (
            f"{label} recorded: {format_money(now.amount_cents, change.currency)}, "
            f"{format_count(new_lines, 'line')}{'' if now.status == SUCCESS else f', {now.status}'}"
        )
        after = {
            "amount_cents": now.amount_cents,
            "currency": change.currency,
            "line_count": new_lines,
            "order_gid": order_gid,
        }
        return Mutation("order_refunds", str(refund_id), summary, None, after)
    texts = [f"{before.status} -> {now.status}"] if before.status != now.status else []
    if before.amount_cents != now.amount_cents:
        texts.append(format_money_change(before.amount_cents, now.amount_cents, change.currency))
    texts += [f"{format_count(new_lines, 'line')} added"] if new_lines else []
    changed = [name for name in now._fields if getattr(before, name) != getattr(now, name)]
    was, after = ({name: getattr(state, name) for name in changed} for state in (before, now))
    after |= {"new_lines": new_lines} if new_lines else {}
    summary = f"{label}: {', '.join(texts) or 'parts changed'}"
    return Mutation("order_refunds", str(refund_id), summary, was, after)


def describe_settled_refunds(order_gid: str, refunds: Mapping[int, RefundChange]) -> list[Mutation]:
    return [
        describe_refund(number, order_gid, change)
        for number, change in refunds.items()
        if change.before != change.now
    ]


def _count_lines(lines: Mapping[int, LineChange]) -> list[str]:
    added = sum(line.old is None for line in lines.values())
    removed = sum(line.new is None for line in lines.values())
    counts = {"added": added, "removed": removed, "changed": len(lines) - added - removed}
    return [f"{format_count(count, 'line')} {what}" for what, count in counts.items() if count]


def _line_document(line: OrderLine | None) -> dict[str, Any] | None:
    return line and {"price_cents": line.price_cents, "quantity": line.quantity, "sku": line.sku}
