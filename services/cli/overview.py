"""``fleet overview``: one line a shop, the worst first."""

from datetime import datetime, timedelta

import click

from services.cli.base import ReportingCommand, json_option
from services.cli.costs import format_month, make_cost_document
from services.cli.output import Columns, print_list, to_document
from services.cli.params import KnownType
from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.month import AI, SMS, MonthCosts
from services.costs.store import list_month_costs
from services.jobs.shop_overview import MAX_ROWS, STATES, WEBHOOKS_SINCE, ShopLine, read_shop_overview


@click.command("overview", cls=ReportingCommand)
@click.option(
    "--state",
    type=KnownType("states", lambda: STATES, is_list=True),
    default="",
    help="Only shops of these states, such as broken,failing.",
)
@json_option
def command(state: tuple[str, ...], as_json: bool) -> None:
    """Show a line for each shop, the worst first: work, last webhook, last reconciliation, costs, connections
    and open incidents.

    States: broken (a provider refuses a credential), failing (work is dead, the last reconciliation failed
    or a P1 is open), ai_at_cap (AI costs have reached the cap), incident (a P2 is open), retrying (work
    failed and will be tried again), incomplete (not connected, or the catalogue is not read yet: `fleet shops
    connect`), ok. The column "why" has the reason.

    \b
    Examples:
      fleet overview
      fleet overview --state broken,failing --json
    """
    wanted = state or STATES
    now = utc_now()
    with transaction() as tx:
        costs: dict[str, list[MonthCosts]] = {}
        for one in list_month_costs(tx, now):
            costs.setdefault(one.shop, []).append(one)
        at_cap = {
            shop: f"AI costs {one.counted}, cap {one.limit}"
            for shop, found in costs.items()
            for one in found
            if one.kind == AI and one.is_at_limit
        }
        every, ignored = read_shop_overview(tx, now, at_cap=at_cap)
    lines = [line for line in every if line.state in wanted]
    columns: Columns = {
        "shop": "shop",
        "state": "state",
        "why": "why",
        "incidents": lambda line: ", ".join(f"{count} {name}" for name, count in line.incidents.items()),
        "last webhook": lambda line: _format_age(line, now),
        "waiting": "waiting",
        "error": "error",
        "dead": "dead",
        "reconciled": lambda line: f"{line.reconciled_day} {line.reconciliation}".strip(),
        "AI this month": lambda line: format_month(costs.get(line.shop, ()), AI),
        "SMS this month": lambda line: format_month(costs.get(line.shop, ()), SMS),
    }
    documents = [
        {"at": now, **to_document(line), "costs": [*map(make_cost_document, costs.get(line.shop, ()))]}
        for line in lines
    ]
    empty = "No shop is in this state." if state else "No shops yet: fleet shops add, or fleet shops import"
    print_list("", columns, lines, documents, empty, as_json=as_json)
    for slug, count in ignored.items():
        click.echo(
            f"{slug} was removed, but {count:,} webhooks of it came in {_format_duration(WEBHOOKS_SINCE)} "
            "and were ignored: delete its endpoint at the provider",
            err=True,
        )
    if max(sum(line.waiting + line.error for line in every), sum(line.dead for line in every)) >= MAX_ROWS:
        click.echo(
            f"More than {MAX_ROWS:,} work items are open or dead: not all are counted here. "
            "`celery -A tasks backlog` counts all",
            err=True,
        )


def _format_age(line: ShopLine, now: datetime) -> str:
    """Return the age of the last webhook, such as ``4 min``; counts are by minute."""
    if line.webhook_at is None:
        return f"none in {_format_duration(now - line.webhooks_since)}"
    return _format_duration(now - line.webhook_at)


def _format_duration(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
