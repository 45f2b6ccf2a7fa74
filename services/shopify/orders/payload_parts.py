"""Parts of an order's body: discounts, taxes, shipping, and who did the work. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, pairwise

import orjson

from services.core.fields import Unreadable, as_list, find_text
from services.shopify.orders.schema import LinePayload
from services.shopify.payload_fields import is_number, shop_money_or_none, take_money, take_money_or_none

STAFF_NAMES = frozenset({"mechanic", "technician", "staff", "served by"})
"""Names, in any case, of a line's property or an order's note attribute that say who did the work."""
_LONGEST_STAFF = 80
_RATE_PLACES = Decimal("0.0000001")

Taxes = dict[tuple[str, str, bool], int]
"""Minor units of each tax, by title, rate and whether the sales channel remits it."""


def read_discount(line: LinePayload, currency: str, doubts: list[str]) -> int:
    """Return the line's share of every discount; ``total_discount`` knows only of the line's own."""
    if line.discount_allocations:
        discount = 0
        for place, share in enumerate(as_list(line.discount_allocations, "discount_allocations")):
            known = len(doubts)
            discount += take_money(share.get("amount"), "amount", currency, doubts)
            if len(doubts) > known:
                place_doubts(doubts, known, f"discount_allocations[{place}]")
        return discount
    return take_money_or_none(line.total_discount, "total_discount", currency, doubts) or 0


def read_shipping(
    total: object, shipping_lines: object, currency: str, doubts: list[str]
) -> tuple[int | None, Taxes]:
    """Return what shipping costs before discounts, None where nothing states it, and the taxes on it.

    Lines that an edit removed count nothing, though Shopify leaves them in ``total``. Where ``total`` is
    absent the lines come to it.
    """
    listed = as_list(shipping_lines, "shipping_lines") if shipping_lines else []
    kept = [(place, line) for place, line in enumerate(listed) if line.get("is_removed") is not True]
    cents = shop_money_or_none(total, "total_shipping_price_set", currency, doubts)
    is_of_lines = len(kept) < len(listed) or (cents is None and bool(kept))
    prices, taxes = 0, Taxes()
    for place, line in kept:
        known = len(doubts)
        try:
            if is_of_lines:
                prices += take_money_or_none(line.get("price"), "price", currency, doubts) or 0
            add_taxes(taxes, read_taxes(line.get("tax_lines"), currency, doubts))
        except Unreadable as fault:
            raise fault.within(f"shipping_lines[{place}]") from None
        place_doubts(doubts, known, f"shipping_lines[{place}]")
    return prices if is_of_lines else cents, taxes


def read_taxes(tax_lines: object, currency: str, doubts: list[str]) -> Taxes:
    """Return the taxes of a line. A price that is null is that of ``price_set``, else 0, with a doubt."""
    taxes = Taxes()
    for place, tax in enumerate(as_list(tax_lines, "tax_lines") if tax_lines else ()):
        rate, price, known = tax.get("rate"), tax.get("price"), len(doubts)
        key = (
            find_text(tax, "title"),
            rate_text(rate) if is_number(rate) else "",
            tax.get("channel_liable") is True,
        )
        try:
            if price is None:
                in_set = shop_money_or_none(tax.get("price_set"), "price_set", currency, doubts)
                source = "nothing" if in_set is None else "its price_set"
                doubts.append(f"price is null: {source} is recorded")
                cents = in_set or 0
            else:
                cents = take_money(price, "price", currency, doubts)
        except Unreadable as fault:
            raise fault.within(f"tax_lines[{place}]") from None
        if len(doubts) > known:
            place_doubts(doubts, known, f"tax_lines[{place}]")
        taxes[key] = taxes.get(key, 0) + cents
    return taxes


@lru_cache(maxsize=256)
def rate_text(rate: float) -> str:
    """Return a tax rate as a share: 0.05 and 5.0, which is percent, are both "0.05"; no tax is 100 % or more.

    Beyond the seventh decimal is what floating point added.
    """
    share = Decimal(repr(rate)) / (100 if rate >= 1 else 1)
    return format(share.quantize(_RATE_PLACES).normalize(), "f")


def add_taxes(taxes: Taxes, more: Taxes) -> None:
    """``taxes`` has the sums of both."""
    for key, cents in more.items():
        taxes[key] = taxes.get(key, 0) + cents


def split_taxes(taxes: Taxes, amounts: Sequence[int]) -> list[Taxes]:
    """Return a share of ``taxes`` for each of ``amounts``, in proportion; the shares come to the whole."""
    shares = [Taxes() for _ in amounts]
    for key, cents in taxes.items():
        for share, part in zip(shares, split_cents(cents, amounts), strict=True):
            share[key] = part
    return shares


def split_cents(cents: int, amounts: Sequence[int]) -> list[int]:
    """Return a share of ``cents`` for each of ``amounts``, in proportion; the shares come to the whole."""
    weights = amounts if sum(amounts) > 0 else [1] * len(amounts)
    total = sum(weights)
    until = [(2 * cents * weight + total) // (2 * total) for weight in accumulate(weights)]
    return [upper - lower for lower, upper in pairwise([0, *until])]


def taxes_json(taxes: Mapping[tuple[str, str, bool], int]) -> str | None:
    """Return ``taxes`` as the books keep them, ``liable`` only where the channel remits; None for none."""
    if not taxes:
        return None
    return orjson.dumps(
        [
            {"title": title, "rate": rate, "cents": cents} | ({"liable": True} if is_liable else {})
            for (title, rate, is_liable), cents in taxes.items()
        ]
    ).decode()


def place_doubts(doubts: list[str], known: int, place: str) -> None:
    """The doubts after the first ``known`` ones name their field from ``place`` on."""
    for number in range(known, len(doubts)):
        doubts[number] = f"{place}.{doubts[number]}"


def find_staff(properties: object) -> str:
    """Return the value of the first property that names staff; empty where none does."""
    if not isinstance(properties, list):
        return ""
    for entry in properties:
        if isinstance(entry, dict) and find_text(entry, "name").strip().casefold() in STAFF_NAMES:
            value = find_text(entry, "value").strip()
            if value:
                return value[:_LONGEST_STAFF]
    return ""


def find_attributed(staff: object) -> str:
    """Return whom Shopify says a line was sold by: the first of them, as ``user:<id>``."""
    first = staff[0] if isinstance(staff, list) and staff else None
    gid = find_text(first, "id") if isinstance(first, dict) else ""
    number = gid.rpartition("/")[2]
    return user_label(int(number)) if number.isascii() and number.isdecimal() else ""


def user_label(user_id: int | None) -> str:
    """Return how a member of Shopify's staff is known by number; empty where there is none."""
    return "" if user_id is None else f"user:{user_id}"
