"""What we take from a Shopify refund. Pure."""

from collections.abc import Mapping
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
    read_object,
)
from services.ledger.work import WorkItem
from services.storefront.order_body import order_gid

RESTOCKS = frozenset({"return", "cancel", "legacy_restock"})
"""The ``restock_type`` values by which goods are back on a shelf; ``no_restock`` is the other one."""


class RefundLine(NamedTuple):
    """``quantity`` pieces of an order's line were refunded, and put back if ``is_restocked``."""

    refund_line_id: int
    line_id: int
    sku: str
    quantity: int
    is_restocked: bool


class Refund(NamedTuple):
    """A refund as Shopify told it. ``currency`` is empty where the refund moved no money."""

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


def read_refund(item: WorkItem) -> Refund:
    """Return the refund that ``item``'s event tells of; raise ``Unreadable`` naming the field.

    The amount is what its successful refund transactions come to: a pending one has given nothing back.
    """
    source = read_object(item.body)
    paid = [t for t in read_list(source, "transactions") if _gave_money(t)]
    currency = next((found for t in paid if (found := find_text(t, "currency"))), "") or _total_currency(
        source
    )
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
        lines=[_read_line(line, place) for place, line in enumerate(read_list(source, "refund_line_items"))],
        work_id=item.id,
    )


def _gave_money(transaction: Mapping[str, Any]) -> bool:
    return transaction.get("kind") == "refund" and transaction.get("status") == "success"


def _total_currency(source: Mapping[str, Any]) -> str:
    """Return the shop's currency as the refund's totals state it; Shopify may leave it off a transaction."""
    totals = source.get("total_duties_set")
    money = totals.get("shop_money") if isinstance(totals, dict) else None
    return find_text(money, "currency_code") if isinstance(money, dict) else ""


def _read_line(line: Mapping[str, Any], place: int) -> RefundLine:
    sold = line.get("line_item")
    try:
        return RefundLine(
            read_id(line, "id"),
            read_id(line, "line_item_id"),
            find_text(sold, "sku") if isinstance(sold, dict) else "",
            read_count(line, "quantity"),
            line.get("restock_type") in RESTOCKS and line.get("location_id") is not None,
        )
    except Unreadable as fault:
        raise fault.within(f"refund_line_items[{place}]") from None
