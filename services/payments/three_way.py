"""A day's orders, charges and payouts side by side, where there is data of all three."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.payments.three_way_sql import FIND, SUM

_AT_ONCE = 1_000


class ThreeWay(NamedTuple):
    """One payment as the three know it.

    ``state`` is ``matched``, ``differs`` (Shopify and Stripe say different amounts), ``order_without_charge``
    (paid at Shopify by way of Stripe, and no charge here) or ``charge_without_order``. ``is_in_transit``:
    the charge is in no payout yet that has arrived.
    """

    state: str
    order_gid: str | None
    order_name: str
    charge_id: str | None
    order_cents: int | None
    charge_cents: int | None
    currency: str
    payout_id: str | None
    is_in_transit: bool
    at: datetime


def find_three_way(tx: Connection, shop_id: int, begins: datetime, ends: datetime) -> Iterator[ThreeWay]:
    """Yield the payments of [``begins``, ``ends``), oldest first; a thousand are in memory at a time."""
    values = {"shop_id": shop_id, "begins": begins, "ends": ends}
    streamed = tx.execution_options(stream_results=True, yield_per=_AT_ONCE)
    for row in streamed.exec_driver_sql(FIND, values):
        yield ThreeWay(*row)


def sum_three_way(tx: Connection, shop_id: int, begins: datetime, ends: datetime) -> dict[str, int]:
    """Return ``unmatched_orders``, ``unmatched_charges``, ``differing_orders``, ``in_transit``,
        and per currency
    ``in_transit_cad_cents`` (after fees, where Stripe has told them); only figures above zero.
    """
    names = {
        "order_without_charge": "unmatched_orders",
        "charge_without_order": "unmatched_charges",
        "differs": "differing_orders",
    }
    figures: Counter[str] = Counter()
    values = {"shop_id": shop_id, "begins": begins, "ends": ends}
    for state, count, in_transit, currency, cents in tx.exec_driver_sql(SUM, values):
        if state in names:
            figures[names[state]] += count
        if in_transit:
            figures["in_transit"] += in_transit
            figures[f"in_transit_{currency.lower()}_cents"] += cents
    return {name: figure for name, figure in sorted(figures.items()) if figure}
