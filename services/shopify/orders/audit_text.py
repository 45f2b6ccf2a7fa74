"""What the audit says of orders and refunds: in words, with what was and what is. Pure.

Ids, figures, statuses and skus only. A customer's name or address, and any free text that may hold one,
is never in it: a chain cannot forget.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.audit.chain import Mutation
from services.ledger.describe import Change, format_money, format_money_change
from services.shopify.orders.line_payload import OrderLine
from services.shopify.orders.payload import Order, OrderVersion, order_version
from services.shopify.orders.refund_payload import Refund
from services.shopify.orders.refund_settlement import SUCCESS, RefundChange, SettledRefund

ChangedLine = tuple[OrderLine | None, OrderLine | None]
"""What a line is and what it was; None where it is gone, or is new."""

Lines = Mapping[int, ChangedLine]
"""Lines that changed, by id."""


class KnownOrder(NamedTuple):
    """An order as its row had it."""

    updated_at: datetime
    cancelled_at: datetime | None
    financial_status: str
    fulfillment_status: str
    total_cents: int
    content_digest: str
    currency: str
    name: str
    placed_at: datetime
    subtotal_cents: int | None = None
    tax_cents: int | None = None
    shipping_cents: int | None = None
    discount_cents: int | None = None
    customer_id: int | None = None
    deleted_at: datetime | None = None

    @property
    def version(self) -> OrderVersion:
        """What orders it among the states that events tell."""
        return order_version(*self[:6])


def order_label(name: str, gid: str) -> str:
    """Return how people call an order: ``order #1001``, or by Shopify's number where it has no name."""
    return f"order {name or gid.rpartition('/')[2]}"


def describe_order(order: Order, known: KnownOrder | None, lines: Lines, refunded: Change | None) -> Mutation:
    """Return what recording ``order`` changed, its lines and what was refunded of it included."""
    if known is None:
        return _say_new_order(order, refunded)
    said: list[str] = []
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for name in _COMPARED:
        old, new = getattr(known, name), getattr(order, name)
        if old != new:
            before[name], after[name] = old, new
    if "name" in after:
        said.append(f"now called {order.name}")
    if "financial_status" in after:
        said.append(f"{known.financial_status or 'no status'} -> {order.financial_status or 'no status'}")
    if "currency" in after:
        old_total = format_money(known.total_cents, known.currency)
        said.append(f"{old_total} -> {format_money(order.total_cents, order.currency)}")
    elif "total_cents" in after:
        said.append(format_money_change(known.total_cents, order.total_cents, order.currency))
    if "cancelled_at" in after:
        said.append("cancelled" if order.cancelled_at else "no longer cancelled")
    if "placed_at" in after:
        said.append("placed at another time")
    if "fulfillment_status" in after:
        said.append(
            f"{known.fulfillment_status or 'unfulfilled'} -> {order.fulfillment_status or 'unfulfilled'}"
        )
    said += [f"another {words}" for name, words in _DETAILS.items() if name in after]
    if refunded:
        said.append(f"refunded {format_money_change(*refunded, order.currency)}")
        before["refunded_cents"], after["refunded_cents"] = refunded
    if lines:
        said += _say_lines(lines)
        before["lines"] = {str(line_id): _line(old) for line_id, (_, old) in lines.items()}
        after["lines"] = {str(line_id): _line(new) for line_id, (new, _) in lines.items()}
    is_same = known.content_digest == order.content_digest
    received = "received again, only updated_at changed" if is_same else "received again, details changed"
    summary = f"{order_label(known.name, order.gid)}: {', '.join(said) or received}"
    return Mutation("orders", order.gid, summary, before, after)


def describe_deletion(name: str, gid: str, deleted_at: datetime) -> Mutation:
    """Return that Shopify deleted an order; its row stays."""
    summary = f"{order_label(name, gid)}: deleted at Shopify, no revenue any more"
    return Mutation("orders", gid, summary, {"deleted_at": None}, {"deleted_at": deleted_at})


_DETAILS = {
    "subtotal_cents": "subtotal",
    "tax_cents": "tax",
    "shipping_cents": "shipping",
    "discount_cents": "discount",
    "customer_id": "customer",
}
_COMPARED = (
    "name", "financial_status", "total_cents", "currency", "cancelled_at", "placed_at", "updated_at",
    "fulfillment_status", *_DETAILS,
)  # fmt: skip


def _say_new_order(order: Order, refunded: Change | None) -> Mutation:
    count = len(order.lines)
    after: dict[str, Any] = {
        "currency": order.currency,
        "financial_status": order.financial_status,
        "line_count": count,
        "total_cents": order.total_cents,
    }
    summary = (
        f"{order_label(order.name, order.gid)} recorded: {format_money(order.total_cents, order.currency)}, "
        f"{order.financial_status or 'no status'}, {count} line{'' if count == 1 else 's'}"
    )
    if order.cancelled_at:
        after["cancelled_at"] = order.cancelled_at
        summary += ", cancelled"
    if refunded:
        after["refunded_cents"] = refunded.after
        summary += f", {format_money(refunded.after, order.currency)} refunded"
    return Mutation("orders", order.gid, summary, None, after)


def _say_lines(lines: Lines) -> list[str]:
    added = sum(old is None for _, old in lines.values())
    gone = sum(new is None for new, _ in lines.values())
    return [
        f"{count} line{'' if count == 1 else 's'} {what}"
        for count, what in ((added, "added"), (gone, "removed"), (len(lines) - added - gone, "changed"))
        if count
    ]


def _line(line: OrderLine | None) -> dict[str, Any] | None:
    return line and {"price_cents": line.price_cents, "quantity": line.quantity, "sku": line.sku}


def describe_refund(refund: Refund, given: RefundChange, new_lines: int, *, is_new: bool) -> Mutation:
    """Return what recording ``refund`` changed."""
    currency, before, now = given
    money = Change(0 if is_new else before.amount_cents, now.amount_cents)
    row_id, order_id = str(refund.refund_id), refund.order_gid.rpartition("/")[2]
    lines = f"{new_lines} line{'' if new_lines == 1 else 's'}"
    if is_new:
        summary = (
            f"refund {row_id} of order {order_id} recorded: {format_money(money.after, currency)}, {lines}"
            f"{'' if now.status == SUCCESS else f', {now.status}'}"
        )
        after = {
            "amount_cents": money.after,
            "currency": currency,
            "line_count": new_lines,
            "order_gid": refund.order_gid,
        }
        return Mutation("order_refunds", row_id, summary, None, after)
    said = [format_money_change(*money, currency)] if money.before != money.after else []
    said += [f"{lines} added"] if new_lines else []
    before_after = _compare_settled(before, now)
    return Mutation(
        "order_refunds",
        row_id,
        f"refund {row_id} of order {order_id}: {', '.join(said) or 'other parts'}",
        before_after[0],
        before_after[1] | ({"new_lines": new_lines} if new_lines else {}),
    )


def describe_settled_refunds(order_gid: str, refunds: Mapping[int, RefundChange]) -> list[Mutation]:
    """Return that the refunds of an order that come to something else do, as its payments or it changed."""
    return [
        _say_settled(number, order_gid, given)
        for number, given in refunds.items()
        if given.before != given.now
    ]


def _say_settled(refund_id: int, order_gid: str, given: RefundChange) -> Mutation:
    currency, before, now = given
    label = f"refund {refund_id} of order {order_gid.rpartition('/')[2]}"
    said = [f"{before.status} -> {now.status}"] if before.status != now.status else []
    if before.amount_cents != now.amount_cents:
        said.append(format_money_change(before.amount_cents, now.amount_cents, currency))
    return Mutation(
        "order_refunds",
        str(refund_id),
        f"{label}: {', '.join(said) or 'other parts'}",
        *_compare_settled(before, now),
    )


def _compare_settled(before: SettledRefund, now: SettledRefund) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns that are others, as they were and as they are."""
    was, is_ = before._asdict(), now._asdict()
    changed = [name for name in was if was[name] != is_[name]]
    return {name: was[name] for name in changed}, {name: is_[name] for name in changed}


def describe_refunded_sum(label: str, gid: str, currency: str, refunded: Change) -> Mutation:
    """Return that what was refunded of an order, its lines included, is another sum."""
    return Mutation(
        "orders",
        gid,
        f"{label}: refunded {format_money_change(*refunded, currency)}",
        {"refunded_cents": refunded.before},
        {"refunded_cents": refunded.after},
    )
