"""Parses the lines of a Shopify order, its taxes and its shipping. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import orjson

from services.core.fields import Unreadable, as_count, as_id, as_list, find_text, id_or_none, text_or_empty
from services.shopify.payload import MoneyReader, gid_number, is_number

STAFF_NAMES = frozenset({"mechanic", "technician", "staff", "served by"})
"""Names of line properties and order note attributes, in any case, whose value is the staff member."""
_LONGEST_STAFF = 80
_RATE_PLACES = Decimal("0.0000001")
_TIP_TITLES = frozenset({"tip", "pourboire"})

Taxes = dict[tuple[str, str, bool], int]
"""Minor units of each tax, by title, rate and whether the sales channel remits it."""


class OrderLine(NamedTuple):
    """A line of an order; the fields are the columns of its row.

    ``discount_cents`` is the line's share of all discounts. ``taxes`` is JSON, None without taxes.
    ``staff_label`` is empty if the order's label counts. ``current_quantity`` is what refunds and edits left,
    None if the event does not contain it. A named tuple: thousands are made per second.
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
        """The price of all pieces after discounts, with tax if the order's prices include it."""
        return self.quantity * self.price_cents - self.discount_cents


class LineChange(NamedTuple):
    """A line before and after a change; None if it is new or removed."""

    new: OrderLine | None
    old: OrderLine | None


def parse_priced(source: Any, money: MoneyReader) -> tuple[list[OrderLine], int | None, str | None, int]:
    """Return the lines, the price of shipping, the taxes on it as JSON, and the tip."""
    lines = _parse_lines(source.line_items, money)
    tip_total = money.amount_or_none(source.total_tip_received, "total_tip_received") or 0
    lines = _mark_tips(lines, tip_total) if tip_total else lines
    tip_cents = max(tip_total, sum(line.net_cents for line in lines if line.is_tip))
    shipping_cents, taxes = _parse_shipping(source.total_shipping_price_set, source.shipping_lines, money)
    if source.tax_lines and not taxes and not any(line.taxes for line in lines):
        of_order = _parse_taxes(source.tax_lines, money)
        lines, shipping_taxes = _share_taxes(lines, shipping_cents or 0, of_order)
        return lines, shipping_cents, shipping_taxes, tip_cents
    return lines, shipping_cents, _format_taxes(taxes), tip_cents


def _parse_lines(lines: Sequence[Any], money: MoneyReader) -> list[OrderLine]:
    """Return the lines. Lines with the same id become one line, with a doubt: the id is the row's key."""
    parsed: dict[int, OrderLine] = {}
    for source in money.each("line_items", lines):
        line = _parse_line(source, money)
        if earlier := parsed.get(line.line_id):
            money.doubt("id is also that of another line: they are recorded as one")
            line = _merge_lines(earlier, line)
        parsed[line.line_id] = line
    return list(parsed.values())


def _parse_line(line: Any, money: MoneyReader) -> OrderLine:
    quantity = as_count(line.quantity, "quantity")
    if quantity < 0:
        raise Unreadable("quantity", quantity, "zero or more")
    current = 0 if line.is_removed is True else line.current_quantity
    return OrderLine(  # by position: keyword arguments take 0.4 us more
        as_id(line.id, "id"),
        text_or_empty(line.sku),
        text_or_empty(line.title),
        quantity,
        money.amount(line.price, "price"),
        _parse_discount(line, money),
        line.taxable is not False,
        line.gift_card is True,
        _format_taxes(_parse_taxes(line.tax_lines, money)) if line.tax_lines else None,
        id_or_none(line.product_id, "product_id"),
        (find_staff(line.properties) if line.properties else "")
        or (_find_attributed_staff(line.attributed_staffs) if line.attributed_staffs else ""),
        line.tip_payment_gateway is not None or line.tip_payment_method is not None,
        None if current is None else as_count(current, "current_quantity"),
    )


def _parse_discount(line: Any, money: MoneyReader) -> int:
    """Return the line's share of all discounts; ``total_discount`` is only the line's own."""
    if not line.discount_allocations:
        return money.amount_or_none(line.total_discount, "total_discount") or 0
    shares = as_list(line.discount_allocations, "discount_allocations")
    return sum(
        money.amount(share.get("amount"), "amount") for share in money.each("discount_allocations", shares)
    )


def _merge_lines(one: OrderLine, other: OrderLine) -> OrderLine:
    """Return one line for two with the same id: the pieces, taxes and net amounts of both."""
    quantity, price = one.quantity + other.quantity, max(one.price_cents, other.price_cents)
    taxes = load_taxes(one.taxes)
    _add_taxes(taxes, load_taxes(other.taxes))
    current = (one.current_quantity, other.current_quantity)
    return one._replace(
        quantity=quantity,
        price_cents=price,
        discount_cents=price * quantity - one.net_cents - other.net_cents,
        taxes=_format_taxes(taxes),
        current_quantity=None if None in current else sum(left or 0 for left in current),
    )


def _mark_tips(lines: list[OrderLine], tip_cents: int) -> list[OrderLine]:
    """Return ``lines`` with the tips marked, for payloads that have a tip only in ``total_tip_received``.

    The Admin API has no gateway in the line of a tip. There the tips are the lines with the title of a tip
    and without a product, if their sum is ``tip_cents``.
    """
    is_tip = [line.product_id is None and line.title.strip().casefold() in _TIP_TITLES for line in lines]
    titled_cents = sum(line.net_cents for line, found in zip(lines, is_tip, strict=True) if found)
    if titled_cents != tip_cents or any(line.is_tip for line in lines):
        return lines
    return [line._replace(is_tip=found) for line, found in zip(lines, is_tip, strict=True)]


def _share_taxes(
    lines: Sequence[OrderLine], shipping_cents: int, taxes: Taxes
) -> tuple[list[OrderLine], str | None]:
    """Split the order's ``taxes`` by amount; return ``lines`` with their taxes, and the taxes on shipping.

    Only taxable lines get a share. Shipping gets one if the tax then matches the tax rates better.
    """
    items = [line for line in lines if not line.is_gift_card and not line.is_tip]
    taxed = [line for line in items if line.is_taxable] or items
    amounts = [max(0, line.net_cents) for line in taxed]
    if shipping_cents > 0 and _is_shipping_taxed(taxes, sum(amounts), shipping_cents):
        *shares, shipping = _split_taxes(taxes, [*amounts, shipping_cents])
    else:
        shares, shipping = _split_taxes(taxes, amounts), Taxes()
    of_line = {line.line_id: _format_taxes(share) for line, share in zip(taxed, shares, strict=True)}
    return [line._replace(taxes=of_line.get(line.line_id)) for line in lines], _format_taxes(shipping)


def _is_shipping_taxed(taxes: Taxes, items_cents: int, shipping_cents: int) -> bool:
    rates = sum(float(rate) for _, rate, _ in taxes if rate)
    cents = sum(taxes.values())
    with_shipping = rates * (items_cents + shipping_cents)
    return not items_cents or abs(cents - with_shipping) < abs(cents - rates * items_cents)


def find_staff(properties: object) -> str:
    """Return the value of the first property that names staff; empty without one."""
    for entry in properties if isinstance(properties, list) else ():
        is_staff = isinstance(entry, dict) and find_text(entry, "name").strip().casefold() in STAFF_NAMES
        if is_staff and (value := find_text(entry, "value").strip()):
            return value[:_LONGEST_STAFF]
    return ""


def _find_attributed_staff(staff: object) -> str:
    """Return the first staff member that Shopify attributes to a line, as ``user:<id>``."""
    first = staff[0] if isinstance(staff, list) and staff else None
    return format_staff(gid_number(find_text(first, "id")) if isinstance(first, dict) else None)


def format_staff(user_id: int | None) -> str:
    return "" if user_id is None else f"user:{user_id}"


def _parse_taxes(tax_lines: object, money: MoneyReader) -> Taxes:
    """Return the taxes of a line. A null price is read from ``price_set``, else 0, with a doubt."""
    taxes: Taxes = {}
    for tax in money.each("tax_lines", as_list(tax_lines, "tax_lines") if tax_lines else ()):
        rate, price = tax.get("rate"), tax.get("price")
        title, is_liable = find_text(tax, "title"), tax.get("channel_liable") is True
        if price is None:
            cents = money.shop_amount(tax.get("price_set"), "price_set")
            money.doubt(f"price is null: {'nothing' if cents is None else 'its price_set'} is recorded")
        else:
            cents = money.amount(price, "price")
        key = (title, _format_rate(rate) if is_number(rate) else "", is_liable)
        taxes[key] = taxes.get(key, 0) + (cents or 0)
    return taxes


def _parse_shipping(total: object, shipping_lines: object, money: MoneyReader) -> tuple[int | None, Taxes]:
    """Return the price of shipping before discounts (None if it is not in the payload), and its taxes.

    Lines that an edit removed do not count, although they remain in Shopify's ``total``. Without ``total``
    the price is the sum of the lines.
    """
    lines = as_list(shipping_lines, "shipping_lines") if shipping_lines else []
    cents = money.shop_amount(total, "total_shipping_price_set")
    if not lines:
        return cents, {}
    is_sum_of_lines = cents is None or any(line.get("is_removed") is True for line in lines)
    prices = 0
    taxes: Taxes = {}
    for line in money.each("shipping_lines", lines):
        if line.get("is_removed") is True:
            continue
        if is_sum_of_lines:
            prices += money.amount_or_none(line.get("price"), "price") or 0
        _add_taxes(taxes, _parse_taxes(line.get("tax_lines"), money))
    return prices if is_sum_of_lines else cents, taxes


@lru_cache(maxsize=256)
def _format_rate(rate: float) -> str:
    """Return a tax rate as a share: 0.05 and 5.0, a percentage, are both "0.05". No rate is 100 % or more.

    Digits beyond the seventh decimal are floating-point errors and are removed.
    """
    share = Decimal(repr(rate)) / (100 if rate >= 1 else 1)
    return format(share.quantize(_RATE_PLACES).normalize(), "f")


def _add_taxes(taxes: Taxes, more: Taxes) -> None:
    for key, cents in more.items():
        taxes[key] = taxes.get(key, 0) + cents


def _split_taxes(taxes: Taxes, amounts: Sequence[int]) -> list[Taxes]:
    shares = [Taxes() for _ in amounts]
    for key, cents in taxes.items():
        for share, part in zip(shares, split_cents(cents, amounts), strict=True):
            share[key] = part
    return shares


def split_cents(cents: int, amounts: Sequence[int]) -> list[int]:
    """Return a share of ``cents`` for each of ``amounts``, in proportion; the shares add up exactly."""
    weights = amounts if sum(amounts) > 0 else [1] * len(amounts)
    total = sum(weights)
    until = [(2 * cents * weight + total) // (2 * total) for weight in accumulate(weights)]
    return [upper - lower for lower, upper in pairwise([0, *until])]


def _format_taxes(taxes: Mapping[tuple[str, str, bool], int]) -> str | None:
    if not taxes:
        return None
    return orjson.dumps(
        [
            {"title": title, "rate": rate, "cents": cents} | ({"liable": True} if is_liable else {})
            for (title, rate, is_liable), cents in taxes.items()
        ]
    ).decode()


def load_taxes(column: str | None) -> Taxes:
    return {
        (tax["title"], tax["rate"], tax.get("liable", False)): tax["cents"]
        for tax in orjson.loads(column or "[]")
    }
