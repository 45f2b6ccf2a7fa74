"""Parses a Shopify refund into ``Refund``. Pure.

Source: https://shopify.dev/docs/api/admin-rest/latest/resources/refund
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.core.fields import (
    Unreadable,
    as_money,
    find_id,
    find_instant,
    find_list,
    find_object,
    find_text,
    read_count,
    read_id,
    read_instant,
    read_list,
)
from services.ledger.work import WorkItem
from services.shopify.orders.line_payload import split_cents
from services.shopify.orders.refund_settlement import FAILED_STATUSES, Refund, RefundLine, RefundPayment
from services.shopify.payload import MoneyReader, find_shop_currency, order_gid, read_event

RESTOCKS = frozenset({"return", "cancel", "legacy_restock"})
"""The ``restock_type`` values of items that are back in stock; the only other value is ``no_restock``."""

Node = Mapping[str, Any]


def parse_refund(item: WorkItem) -> Refund:
    """Return the refund in ``item``'s event; raise ``Unreadable`` naming the field."""
    source = read_event(item)
    transactions, lines = read_list(source, "transactions"), read_list(source, "refund_line_items")
    payments = [payment for payment in transactions if payment.get("kind") == "refund"]
    currencies = (find_text(payment, "currency") for payment in payments)
    currency = _find_own_currency(source, lines) or next(filter(None, currencies), "")
    if not currency and any(payment.get("status") == "success" for payment in payments):
        raise Unreadable("transactions[0].currency", None, "three capital letters such as CAD")
    refund_id = read_id(source, "id")
    with MoneyReader(currency) as money:
        # Shipping is in the payload as lines and again as a negative adjustment: only one of them counts.
        of_shipping, others = _split_adjustments(source)
        if shipping := find_list(source, "refund_shipping_lines"):
            shipping_cents, shipping_tax_cents = _sum_amounts(money, shipping, "subtotal_amount")
        else:
            shipping_cents, shipping_tax_cents = _sum_amounts(money, of_shipping, "amount", -1)
        adjustment_cents, adjustment_tax_cents = _sum_amounts(money, others, "amount")
        return Refund(
            shop_id=item.shop_id,
            refund_id=refund_id,
            order_gid=order_gid(read_id(source, "order_id")),
            currency=currency,
            refunded_at=find_instant(source, "processed_at") or read_instant(source, "created_at"),
            event_id=item.event_id,
            request_id=item.request_id,
            lines=_parse_lines(lines, money),
            work_id=item.id,
            shipping_cents=shipping_cents,
            shipping_tax_cents=shipping_tax_cents,
            duties_cents=money.field(source, "total_duties"),
            adjustment_cents=adjustment_cents,
            adjustment_tax_cents=adjustment_tax_cents,
            payments=_parse_payments(source, transactions, money),
            doubts=tuple(f"refunds[{refund_id}].{doubt}" for doubt in money.doubts),
        )


def _find_own_currency(source: Node, lines: Sequence[Node]) -> str:
    """Return the shop's currency in the refund's totals or parts; empty without one.

    A transaction may not contain it.
    """
    bags = [(source, "total_duties_set"), *((line, "subtotal_set") for line in lines)]
    bags += [(node, "amount_set") for node in find_list(source, "order_adjustments")]
    bags += [(node, "subtotal_amount_set") for node in find_list(source, "refund_shipping_lines")]
    return next((found for bag, name in bags if (found := find_shop_currency(bag, name))), "")


def _split_adjustments(source: Node) -> tuple[list[Node], list[Node]]:
    """Return the adjustments that are shipping, and the discrepancies (without a kind in the Admin API).

    A discrepancy of pending money does not count: the pending transaction contains that money.
    """
    of_shipping, others = list[Node](), list[Node]()
    for adjustment in find_list(source, "order_adjustments"):
        if adjustment.get("kind") == "shipping_refund":
            of_shipping.append(adjustment)
        elif "pending" not in f"{find_text(adjustment, 'kind')} {find_text(adjustment, 'reason')}".casefold():
            others.append(adjustment)
    return of_shipping, others


def _sum_amounts(money: MoneyReader, nodes: Sequence[Node], name: str, sign: int = 1) -> tuple[int, int]:
    amount, tax = (sum(money.field(node, field) for node in nodes) for field in (name, "tax_amount"))
    return sign * amount, sign * tax


def _parse_lines(lines: Sequence[Node], money: MoneyReader) -> list[RefundLine]:
    """Return the lines; two with the same id become one line with the pieces and amounts of both."""
    parsed: dict[int, RefundLine] = {}
    for source in money.each("refund_line_items", lines):
        line = _parse_line(source, money)
        if earlier := parsed.get(line.refund_line_id):
            money.doubt("id is also that of another line: they are recorded as one")
            line = earlier._replace(
                quantity=earlier.quantity + line.quantity,
                is_restocked=earlier.is_restocked or line.is_restocked,
                subtotal_cents=earlier.subtotal_cents + line.subtotal_cents,
                tax_cents=earlier.tax_cents + line.tax_cents,
            )
        parsed[line.refund_line_id] = line
    return list(parsed.values())


def _parse_line(line: Node, money: MoneyReader) -> RefundLine:
    sold = find_object(line, "line_item")
    return RefundLine(
        refund_line_id=read_id(line, "id"),
        line_id=read_id(line, "line_item_id"),
        sku=find_text(sold, "sku"),
        quantity=read_count(line, "quantity"),
        is_restocked=find_text(line, "restock_type") in RESTOCKS and line.get("location_id") is not None,
        subtotal_cents=money.field(line, "subtotal"),
        tax_cents=money.field(line, "total_tax"),
        variant_id=find_id(sold, "variant_id"),
        location_id=find_id(line, "location_id"),
    )


def _parse_payments(
    source: Node, transactions: Sequence[Node], money: MoneyReader
) -> dict[int, RefundPayment]:
    """Return the refund's payments by id, each in the shop's currency.

    A payment in the buyer's currency has Shopify's own amount in the shop's currency, if the payload contains
    it. Otherwise the amount is computed from the refund's parts, which have both currencies: exactly if the
    payments pay all parts, else in proportion.
    """
    payments: dict[int, RefundPayment] = {}
    foreign: dict[tuple[str, int | None], list[tuple[int, int, int]]] = defaultdict(list)
    for index, payment in enumerate(money.each("transactions", transactions)):
        if payment.get("kind") != "refund":
            continue
        paid_in = find_text(payment, "currency") or money.currency
        number, status = find_id(payment, "id") or -(index + 1), find_text(payment, "status")
        if number in payments:
            money.doubt("id is also that of another payment: both are recorded")
            number = -(index + 1)
        cents = money.shop_amount(payment.get("amount_set"), "amount_set")
        if cents is None and paid_in:
            cents = money.amount(payment.get("amount"), "amount", paid_in)
            if paid_in != money.currency:
                failed_index = index if status in FAILED_STATUSES else None  # a failed payment pays nothing
                foreign[paid_in, failed_index].append((index, number, cents))
        payments[number] = RefundPayment(status, cents or 0, paid_in != money.currency)
    for (paid_in, _), paid in foreign.items():
        total = _convert_sum(source, sum(cents for _, _, cents in paid), paid_in, money.currency)
        shares = split_cents(total or 0, [cents for _, _, cents in paid])
        for (index, number, _), share in zip(paid, shares, strict=True):
            payments[number] = payments[number]._replace(cents=share)
            if total is None:
                money.doubt(
                    f"transactions[{index}].amount is {transactions[index].get('amount')!r} {paid_in}: "
                    f"0 is recorded, because its amount in {money.currency} is not known"
                )
    return payments


def _convert_sum(source: Node, paid: int, paid_in: str, currency: str) -> int | None:
    """Return ``paid`` in the shop's currency, by the refund's parts; None if no part has both currencies.

    Shopify converts and rounds each part separately, so ``paid`` pays all parts if the two differ by less
    than one minor unit per part.
    """
    lines, shipping = read_list(source, "refund_line_items"), find_list(source, "refund_shipping_lines")
    adjustments = [
        adjustment
        for adjustment in find_list(source, "order_adjustments")
        if not (shipping and adjustment.get("kind") == "shipping_refund")
    ]

    def list_amounts(nodes: Iterable[Node], name: str, sign: int = 1) -> list[tuple[int, int]]:
        """Return the amounts of ``name`` in the shop's currency and in the buyer's."""
        found = (_find_amounts(node.get(name), currency, paid_in) for node in nodes)
        return [(sign * in_shop, sign * in_buyers) for in_shop, in_buyers in filter(None, found)]

    taxes, duties = list_amounts(lines, "total_tax_set"), list_amounts([source], "total_duties_set")
    others = list_amounts(lines, "subtotal_set") + list_amounts(shipping, "subtotal_amount_set")
    others += list_amounts(shipping, "tax_amount_set")
    others += list_amounts(adjustments, "amount_set", -1) + list_amounts(adjustments, "tax_amount_set", -1)
    every = [*others, *taxes, *duties]
    sums = [  # prices contain their tax and the duties, or do not
        (abs(sum(cents for _, cents in parts) - paid), sum(cents for cents, _ in parts))
        for parts in (every, [*others, *duties], [*others, *taxes], others)
        if sum(cents for _, cents in parts)
    ]
    nearest = min(sums, key=lambda found: found[0], default=None)
    if nearest and nearest[0] < max(1, sum(1 for _, cents in every if cents)):
        return nearest[1]
    in_shop, in_buyers = (sum(abs(amounts[side]) for amounts in every) for side in (0, 1))
    return (2 * paid * in_shop + in_buyers) // (2 * in_buyers) if in_shop and in_buyers else None


def _find_amounts(bag: object, currency: str, paid_in: str) -> tuple[int, int] | None:
    sides = bag if isinstance(bag, dict) else {}
    shops, buyers = sides.get("shop_money"), sides.get("presentment_money")
    if not (isinstance(shops, dict) and isinstance(buyers, dict)) or buyers.get("currency_code") != paid_in:
        return None
    in_shop = as_money(shops.get("amount"), "shop_money.amount", currency)
    return in_shop, as_money(buyers.get("amount"), "presentment_money.amount", paid_in)
