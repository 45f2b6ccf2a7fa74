"""What we take from the transactions of a Shopify refund: the money, in the shop's currency. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from services.core.fields import Unreadable, as_money, find_text, read_list
from services.shopify.orders.payload_parts import place_doubts, split_cents
from services.shopify.orders.refund_settlement import FAILED_STATUSES, RefundPayment
from services.shopify.payload_fields import find_id, find_list, find_object, shop_money_or_none, take_money


def read_payments(
    source: Mapping[str, Any],
    transactions: Sequence[tuple[int, Mapping[str, Any]]],
    currency: str,
    doubts: list[str],
) -> dict[int, RefundPayment]:
    """Return the refund's payments by id, each in the shop's currency.

    One in the buyer's currency has Shopify's own amount in the shop's currency, where that is stated. Those
    without it are together worth what the parts of the refund are worth in both currencies: to the cent
    where they pay all parts, else in proportion.
    """
    payments: dict[int, RefundPayment] = {}
    foreign: dict[tuple[str, int | None], list[tuple[int, int, int]]] = defaultdict(list)
    for place, one in transactions:
        known, paid_in = len(doubts), find_text(one, "currency") or currency
        number, status = find_id(one, "id") or -(place + 1), find_text(one, "status")
        if number in payments:
            doubts.append("id is that of another payment: both are recorded")
            number = -(place + 1)
        is_foreign = paid_in != currency
        try:
            cents = shop_money_or_none(one.get("amount_set"), "amount_set", currency, doubts)
            if cents is None and paid_in:
                cents = take_money(one.get("amount"), "amount", paid_in, doubts)
                if is_foreign:
                    together = (
                        place if status in FAILED_STATUSES else None
                    )  # one that failed pays nothing with others
                    foreign[paid_in, together].append((place, number, cents))
        except Unreadable as fault:
            raise fault.within(f"transactions[{place}]") from None
        place_doubts(doubts, known, f"transactions[{place}]")
        payments[number] = RefundPayment(status, cents or 0, is_foreign)
    for (paid_in, _), paid in foreign.items():
        total = _convert_sum(source, sum(cents for _, _, cents in paid), paid_in, currency)
        shares = split_cents(total or 0, [cents for _, _, cents in paid])
        for (place, number, _), share in zip(paid, shares, strict=True):
            payments[number] = payments[number]._replace(cents=share)
            if total is None:
                amount = dict(transactions)[place].get("amount")
                doubts.append(
                    f"transactions[{place}].amount is {amount!r} {paid_in}: 0 is recorded, "
                    f"as nothing states it in {currency}"
                )
    return payments


def _convert_sum(source: Mapping[str, Any], paid: int, paid_in: str, currency: str) -> int | None:
    """Return ``paid`` in the shop's currency, by the refund's parts; None where no part states a rate.

    Shopify converts and rounds each part by itself, so ``paid`` pays all parts where the two differ by less
    than a minor unit for each part.
    """
    taxes, duties, others = _list_worths(source, currency, paid_in)
    sums = [
        (abs(sum(cents for _, cents in worths) - paid), sum(cents for cents, _ in worths))
        for worths in (  # prices include their tax and the duties, or do not
            [*others, *taxes, *duties],
            [*others, *duties],
            [*others, *taxes],
            others,
        )
        if sum(cents for _, cents in worths)
    ]
    nearest = min(sums, key=lambda found: found[0], default=None)
    every = [*others, *taxes, *duties]
    if nearest and nearest[0] < max(1, sum(1 for _, cents in every if cents)):
        return nearest[1]
    in_shop, in_buyers = (sum(abs(worth[side]) for worth in every) for side in (0, 1))
    return (2 * paid * in_shop + in_buyers) // (2 * in_buyers) if in_shop and in_buyers else None


Worth = tuple[int, int]
"""What a part of a refund is worth in the shop's currency and in the buyer's."""


def _list_worths(source: Mapping[str, Any], currency: str, paid_in: str) -> list[list[Worth]]:
    """Return what the refund's parts are worth: the taxes of its lines, its duties, and all else."""
    lines = read_list(source, "refund_line_items")
    shipping = find_list(source, "refund_shipping_lines")
    others = [(1, line.get("subtotal_set")) for line in lines]
    for line in shipping:
        others += [(1, line.get("subtotal_amount_set")), (1, line.get("tax_amount_set"))]
    for one in find_list(source, "order_adjustments"):
        if not (shipping and one.get("kind") == "shipping_refund"):
            others += [(-1, one.get("amount_set")), (-1, one.get("tax_amount_set"))]
    taxes = [(1, line.get("total_tax_set")) for line in lines]
    duties = [(1, source.get("total_duties_set"))]
    return [_find_worths(bags, currency, paid_in) for bags in (taxes, duties, others)]


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
