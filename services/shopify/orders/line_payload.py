"""What we take from the lines of a Shopify order. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from services.core.fields import Unreadable, as_count, as_id, text_or_empty
from services.shopify.orders.payload_parts import (
    Taxes,
    add_taxes,
    find_attributed,
    find_staff,
    place_doubts,
    read_discount,
    read_taxes,
    split_taxes,
    taxes_json,
)
from services.shopify.orders.schema import LinePayload
from services.shopify.payload_fields import id_or_none, take_money

_TIP_TITLES = frozenset({"tip", "pourboire"})


class OrderLine(NamedTuple):
    """A line as Shopify describes it. Named tuples here: thousands a second are made.

    ``discount_cents`` is the line's share of all discounts. ``taxes`` is JSON, None where there are none.
    ``staff_label`` is empty where the line does not say; then the order's counts. ``current_quantity`` is
    what is left after refunds and edits, None where the event does not state it.
    """

    line_id: int
    sku: str
    title: str
    quantity: int
    price_cents: int
    discount_cents: int = 0
    is_taxable: bool = True
    is_gift_card: bool = False
    taxes: str | None = None
    product_id: int | None = None
    staff_label: str = ""
    is_tip: bool = False
    current_quantity: int | None = None

    @property
    def net_cents(self) -> int:
        """What was to be paid for it, with its tax where the order's prices include it."""
        return self.quantity * self.price_cents - self.discount_cents


def read_lines(lines: Sequence[LinePayload], currency: str, doubts: list[str]) -> list[OrderLine]:
    """Return the lines; those with one id become one line, with a doubt, as a line is known by its id."""
    read = [_read_line(line, place, currency, doubts) for place, line in enumerate(lines)]
    if len({line.line_id for line in read}) == len(read):
        return read
    merged: dict[int, OrderLine] = {}
    for place, line in enumerate(read):
        twin = merged.get(line.line_id)
        if twin is not None:
            doubts.append(f"line_items[{place}].id is that of another line: they are recorded as one")
        merged[line.line_id] = line if twin is None else _join_lines(twin, line)
    return list(merged.values())


def mark_tips(lines: list[OrderLine], tip_cents: int) -> list[OrderLine]:
    """Return ``lines`` with the tips marked where only ``total_tip_received`` states one.

    The Admin API names no gateway of a tip's line: there they are the lines that are called so, belong to no
    product and come to the tip.
    """
    named = {
        line.line_id
        for line in lines
        if line.product_id is None and line.title.strip().casefold() in _TIP_TITLES
    }
    if any(line.is_tip for line in lines):
        return lines
    if sum(line.net_cents for line in lines if line.line_id in named) != tip_cents:
        return lines
    return [line._replace(is_tip=line.line_id in named) for line in lines]


def share_taxes(
    lines: Sequence[OrderLine], shipping_cents: int, taxes: Taxes
) -> tuple[list[OrderLine], str | None]:
    """Return ``lines``, and the taxes on shipping, with ``taxes`` of the whole order shared out by amount.

    What is taxable bears it. Shipping bears a share where the stated rates then come closer to the tax.
    """
    goods = [line for line in lines if not line.is_gift_card and not line.is_tip]
    bearing = [line for line in goods if line.is_taxable] or goods
    amounts = [max(0, line.net_cents) for line in bearing]
    if shipping_cents > 0 and _is_on_shipping(taxes, sum(amounts), shipping_cents):
        *shares, shipping = split_taxes(taxes, [*amounts, shipping_cents])
    else:
        shares, shipping = split_taxes(taxes, amounts), Taxes()
    of_line = {line.line_id: taxes_json(share) for line, share in zip(bearing, shares, strict=True)}
    return [line._replace(taxes=of_line.get(line.line_id)) for line in lines], taxes_json(shipping)


def _is_on_shipping(taxes: Taxes, goods_cents: int, shipping_cents: int) -> bool:
    rates = sum(float(rate) for _, rate, _ in taxes if rate)
    cents = sum(taxes.values())
    with_shipping = rates * (goods_cents + shipping_cents)
    return not goods_cents or abs(cents - with_shipping) < abs(cents - rates * goods_cents)


def _join_lines(one: OrderLine, other: OrderLine) -> OrderLine:
    """Return one line for two of one id: pieces and taxes of both, and to the cent what both come to."""
    quantity, price = one.quantity + other.quantity, max(one.price_cents, other.price_cents)
    taxes = Taxes()
    for line in (one, other):
        for tax in orjson.loads(line.taxes or "[]"):
            add_taxes(taxes, {(tax["title"], tax["rate"], tax.get("liable", False)): tax["cents"]})
    current = (one.current_quantity, other.current_quantity)
    return one._replace(
        quantity=quantity,
        price_cents=price,
        discount_cents=price * quantity - one.net_cents - other.net_cents,
        taxes=taxes_json(taxes),
        current_quantity=None if None in current else sum(left or 0 for left in current),
    )


def _read_line(line: LinePayload, place: int, currency: str, doubts: list[str]) -> OrderLine:
    known = len(doubts)
    try:
        quantity = as_count(line.quantity, "quantity")
        if quantity < 0:
            raise Unreadable("quantity", quantity, "zero or more")
        current = 0 if line.is_removed is True else line.current_quantity
        read = OrderLine(
            as_id(line.id, "id"),
            text_or_empty(line.sku),
            text_or_empty(line.title),
            quantity,
            take_money(line.price, "price", currency, doubts),
            read_discount(line, currency, doubts),
            line.taxable is not False,
            line.gift_card is True,
            taxes_json(read_taxes(line.tax_lines, currency, doubts)) if line.tax_lines else None,
            id_or_none(line.product_id, "product_id"),
            (find_staff(line.properties) if line.properties else "")
            or (find_attributed(line.attributed_staffs) if line.attributed_staffs else ""),
            line.tip_payment_gateway is not None or line.tip_payment_method is not None,
            None if current is None else as_count(current, "current_quantity"),
        )
    except Unreadable as fault:
        raise fault.within(f"line_items[{place}]") from None
    if len(doubts) > known:
        place_doubts(doubts, known, f"line_items[{place}]")
    return read
