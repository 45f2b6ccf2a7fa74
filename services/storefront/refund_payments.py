"""What we take from the transactions of a Shopify refund: the money, in the shop's currency. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.core.reading import Unreadable, as_money, find_text, read_list
from services.storefront.body import find_id, find_list, find_object, shop_money_or_none, take_money
from services.storefront.order_parts import place_doubts
from services.storefront.refund_settling import Payment


def read_payments(
    source: Mapping[str, Any],
    transactions: Sequence[tuple[int, Mapping[str, Any]]],
    currency: str,
    doubts: list[str],
) -> dict[int, Payment]:
    """Return the refund's payments by id, each in the shop's currency.

    One in the buyer's currency is worth what the parts of the refund are worth in both: to the cent where
    it pays all of them, else in proportion.
    """
    payments: dict[int, Payment] = {}
    for place, one in transactions:
        known, paid_in = len(doubts), find_text(one, "currency") or currency
        cents = 0
        if paid_in:
            try:
                cents = _read_payment(source, one, paid_in, currency, doubts)
            except Unreadable as fault:
                raise fault.within(f"transactions[{place}]") from None
        place_doubts(doubts, known, f"transactions[{place}]")
        payments[find_id(one, "id") or -(place + 1)] = Payment(find_text(one, "status"), cents)
    return payments


def _read_payment(
    source: Mapping[str, Any], one: Mapping[str, Any], paid_in: str, currency: str, doubts: list[str]
) -> int:
    stated = shop_money_or_none(one.get("amount_set"), "amount_set", currency, doubts)
    if stated is not None:
        return stated
    cents = take_money(one.get("amount"), "amount", paid_in, doubts)
    if paid_in == currency:
        return cents
    taxes, others = _list_worths(source, currency, paid_in)
    for worths in ([*others, *taxes], others):  # prices include their tax, or do not
        if (there := sum(worth[1] for worth in worths)) and there == cents:
            return sum(worth[0] for worth in worths)
    here, there = max(others, key=lambda worth: worth[1], default=(0, 0))
    if here > 0 and there > 0:
        return (2 * cents * here + there) // (2 * there)
    doubts.append(
        f"amount is {one.get('amount')!r} {paid_in}: 0 is recorded, as nothing states it in {currency}"
    )
    return 0


Worth = tuple[int, int]
"""What a part of a refund is worth in the shop's currency and in the buyer's."""


def _list_worths(source: Mapping[str, Any], currency: str, paid_in: str) -> tuple[list[Worth], list[Worth]]:
    """Return what the refund's parts are worth: the taxes of its lines, and all else."""
    lines = read_list(source, "refund_line_items")
    shipping = find_list(source, "refund_shipping_lines")
    others = [(1, line.get("subtotal_set")) for line in lines]
    for line in shipping:
        others += [(1, line.get("subtotal_amount_set")), (1, line.get("tax_amount_set"))]
    for one in find_list(source, "order_adjustments"):
        if not (shipping and one.get("kind") == "shipping_refund"):
            others += [(-1, one.get("amount_set")), (-1, one.get("tax_amount_set"))]
    others.append((1, source.get("total_duties_set")))
    taxes = [(1, line.get("total_tax_set")) for line in lines]
    return _find_worths(taxes, currency, paid_in), _find_worths(others, currency, paid_in)


def _find_worths(bags: Sequence[tuple[int, object]], currency: str, paid_in: str) -> list[Worth]:
    found = [_find_worth(bag, sign, currency, paid_in) for sign, bag in bags]
    return [worth for worth in found if worth is not None]


def _find_worth(bag: object, sign: int, currency: str, paid_in: str) -> Worth | None:
    ours = find_object({"bag": bag}, "bag").get("shop_money")
    theirs = find_object({"bag": bag}, "bag").get("presentment_money")
    if not isinstance(ours, dict) or not isinstance(theirs, dict) or theirs.get("currency_code") != paid_in:
        return None
    return (
        sign * as_money(ours.get("amount"), "shop_money.amount", currency),
        sign * as_money(theirs.get("amount"), "presentment_money.amount", paid_in),
    )
