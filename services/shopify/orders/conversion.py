"""Rounding of an order that was paid in another currency than the shop's. Pure."""

from collections.abc import Sequence

import orjson

from services.shopify.orders.line_payload import OrderLine


def find_conversion(
    total_cents: int,
    lines: Sequence[OrderLine],
    shipping_cents: int,
    shipping_taxes: str | None,
    discount_cents: int,
    apart_cents: int,
    *,
    taxes_included: bool,
) -> int:
    """Return what ``total_cents`` has beyond the order's parts; 0 where rounding alone cannot explain it.

    Shopify converts the total, the price of a piece, each discount, tax and charge by itself, and rounds each
    by half a minor unit at most. ``apart_cents`` are tips without a line, duties and fees that no price
    contains.
    """
    on_lines = sum(line.discount_cents for line in lines)
    off_shipping = max(0, min(shipping_cents, discount_cents - on_lines))
    parts = sum(line.net_cents for line in lines) + shipping_cents - off_shipping + apart_cents
    if not taxes_included:
        stated = [*(line.taxes for line in lines), shipping_taxes]
        parts += sum(tax["cents"] for taxes in stated if taxes for tax in orjson.loads(taxes))
    limit = sum(line.quantity + 3 for line in lines) // 2 + 4
    beyond = total_cents - parts
    return beyond if abs(beyond) <= limit else 0
