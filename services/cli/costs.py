"""``fleet shops costs``: what AI and SMS cost a shop in a month."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import ReportingCommand, json_option, shop_argument
from services.cli.output import Columns, print_list, to_document
from services.cli.params import MONTH
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.money import format_minor, micros_to_minor
from services.costs.month import MonthCosts
from services.costs.store import list_day_costs, list_month_costs
from services.shops.shops import get_shop


@click.command("costs", cls=ReportingCommand)
@shop_argument
@click.option("--month", type=MONTH, default="", help="Such as 2026-10 (default: this month).")
@click.option("--by-day", is_flag=True, help="A line for each day and service.")
@json_option
def costs(slug: str, month: str, by_day: bool, as_json: bool) -> None:
    """Show what AI and SMS cost a shop in a month, in its zone, and how much of its limits is used.

    Costs in another currency than the limit's count by the shop's --exchange-rates; without a rate they are
    shown and do not count.

    \b
    Examples:
      fleet shops costs harbour --month 2026-10
      fleet shops costs harbour --by-day
    """
    begins = date.fromisoformat(f"{month}-01") if month else None
    with transaction() as tx:
        shop = get_shop(tx, slug)
        found = list_month_costs(tx, utc_now(), shop_id=shop.id, month=begins)
        days = list_day_costs(tx, shop, utc_now(), begins) if by_day else []
    if by_day:
        of_days: Columns = {"day": "day", "kind": "kind", "billed by": "source", "cost": _format_day}
        print_list("", of_days, days, [*map(to_document, days)], "No costs in this month.", as_json=as_json)
        return
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


def _format_day(row: Row[Any]) -> str:
    return format_minor(micros_to_minor(row.amount_micros, row.currency), row.currency)


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
