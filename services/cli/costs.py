"""``fleet shops costs``: what AI and SMS cost a shop in a month."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import click

from services.cli.base import ReportingCommand, json_option, shop_argument
from services.cli.output import Columns, print_list
from services.cli.params import MONTH
from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.month import MonthCosts
from services.costs.store import list_month_costs
from services.shops.shops import get_shop


@click.command("costs", cls=ReportingCommand)
@shop_argument
@click.option("--month", type=MONTH, default="", help="Such as 2026-10 (default: this month).")
@json_option
def costs(slug: str, month: str, as_json: bool) -> None:
    """Show what AI and SMS cost a shop in a month, in its zone, and how much of its limits is used.

    Costs in another currency than the limit's count by the shop's --exchange-rates; without a rate they are
    shown and do not count.

    \b
    Example: fleet shops costs harbour --month 2026-10
    """
    begins = date.fromisoformat(f"{month}-01") if month else None
    with transaction() as tx:
        shop = get_shop(tx, slug)
        found = list_month_costs(tx, utc_now(), shop_id=shop.id, month=begins)
    columns: Columns = {
        "month": "month",
        "kind": "kind",
        "billed": "spent",
        "counts": "counted",
        "limit": "limit",
        "used": format_percent,
        "does not count": "not_converted",
    }
    empty = (
        f"No costs and no limits. Limits: fleet shops set {slug} --ai-cap '50.00 {shop.currency}' "
        f"--sms-budget '20.00 {shop.currency}'"
    )
    print_list("", columns, found, [make_cost_document(one) for one in found], empty, as_json=as_json)


def make_cost_document(costs: MonthCosts) -> dict[str, Any]:
    """Return ``costs`` for JSON; ``billed_micros`` are millionths of one unit, by currency."""
    return {
        "kind": costs.kind,
        "month": costs.month,
        "ends_at": costs.ends_at,
        "billed_micros": costs.micros,
        "counted": costs.counted,
        "limit": costs.limit,
        "percent": costs.percent,
        "not_converted": costs.not_converted,
    }


def format_month(costs: Sequence[MonthCosts], kind: str) -> str:
    """Return the costs of ``kind`` in one cell: ``12.00 CAD (24%)``."""
    return "".join(
        f"{one.counted or one.spent}{f' ({format_percent(one)})' if one.limit else ''}"
        for one in costs
        if one.kind == kind
    )


def format_percent(costs: MonthCosts) -> str:
    """Return the used share of the limit, such as ``24%``; empty without a limit."""
    return "" if costs.percent is None else f"{costs.percent:.0f}%"
