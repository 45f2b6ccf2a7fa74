"""Parts of an order's body: discounts, taxes, and who did the work. Pure."""

from collections.abc import Mapping

import orjson

from services.core.reading import Unreadable, as_list, find_text, read_money
from services.storefront.body import money_or_none, plain_number
from services.storefront.order_shape import LineShape

STAFF_NAMES = frozenset({"mechanic", "technician", "staff", "served by"})
"""Names, in any case, of a line's property or an order's note attribute that say who did the work."""
_LONGEST_STAFF = 80


def read_discount(line: LineShape, currency: str) -> int:
    """Return the line's share of every discount; ``total_discount`` knows only of the line's own."""
    if line.discount_allocations:
        shares = as_list(line.discount_allocations, "discount_allocations")
        return sum(read_money(share, "amount", currency) for share in shares)
    return money_or_none(line.total_discount, "total_discount", currency) or 0


def read_shipping_taxes(shipping_lines: object, currency: str) -> str | None:
    """Return the taxes on all shipping as JSON, added up by (title, rate); None where there are none."""
    if not shipping_lines:
        return None
    taxes: dict[tuple[str, str], int] = {}
    for place, line in enumerate(as_list(shipping_lines, "shipping_lines")):
        try:
            for (title, rate), cents in read_taxes(line.get("tax_lines"), currency).items():
                taxes[title, rate] = taxes.get((title, rate), 0) + cents
        except Unreadable as fault:
            raise fault.within(f"shipping_lines[{place}]") from None
    return taxes_json(taxes) if taxes else None


def read_taxes(tax_lines: object, currency: str) -> dict[tuple[str, str], int]:
    """Return the minor units of each tax, by (title, rate). Rates are told as numbers and kept as texts."""
    taxes: dict[tuple[str, str], int] = {}
    for place, tax in enumerate(as_list(tax_lines, "tax_lines") if tax_lines else ()):
        rate = tax.get("rate")
        key = (find_text(tax, "title"), plain_number(rate) if isinstance(rate, int | float) else "")
        try:
            taxes[key] = taxes.get(key, 0) + read_money(tax, "price", currency)
        except Unreadable as fault:
            raise fault.within(f"tax_lines[{place}]") from None
    return taxes


def taxes_json(taxes: Mapping[tuple[str, str], int]) -> str:
    """Return ``taxes`` as the books keep them: a list of title, rate and minor units."""
    return orjson.dumps(
        [{"title": title, "rate": rate, "cents": cents} for (title, rate), cents in taxes.items()]
    ).decode()


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
