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
    for with_tax in (True, False):
        here, there = _worth(source, currency, paid_in, with_tax=with_tax)
        if there and there == cents:
            return here
    here, there = _worth(source, currency, paid_in, with_tax=True)
    if here > 0 and there > 0:
        return (2 * cents * here + there) // (2 * there)
    doubts.append(
        f"amount is {one.get('amount')!r} {paid_in}: 0 is recorded, as nothing states it in {currency}"
    )
    return 0


def _worth(source: Mapping[str, Any], currency: str, paid_in: str, *, with_tax: bool) -> tuple[int, int]:
    """Return what the refund's parts come to in the shop's currency and in the buyer's."""
    bags = [(1, line.get("subtotal_set")) for line in read_list(source, "refund_line_items")]
    if with_tax:
        bags += [(1, line.get("total_tax_set")) for line in read_list(source, "refund_line_items")]
    for line in (shipping := find_list(source, "refund_shipping_lines")):
        bags += [(1, line.get("subtotal_amount_set")), (1, line.get("tax_amount_set"))]
    for one in find_list(source, "order_adjustments"):
        if not (shipping and one.get("kind") == "shipping_refund"):
            bags += [(-1, one.get("amount_set")), (-1, one.get("tax_amount_set"))]
    bags.append((1, source.get("total_duties_set")))
    here = there = 0
    for sign, bag in bags:
        ours = find_object({"bag": bag}, "bag").get("shop_money")
        theirs = find_object({"bag": bag}, "bag").get("presentment_money")
        if isinstance(ours, dict) and isinstance(theirs, dict) and theirs.get("currency_code") == paid_in:
            here += sign * as_money(ours.get("amount"), "shop_money.amount", currency)
            there += sign * as_money(theirs.get("amount"), "presentment_money.amount", paid_in)
    return here, there
