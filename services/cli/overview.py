"""``fleet overview``: one line a shop, the worst first."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import click

from services.cli.base import ReportingCommand, json_option
from services.cli.costs import format_month, make_cost_document
from services.cli.output import Columns, print_list, to_document
from services.cli.params import KnownType
from services.console.scan import describe_causes
from services.console.scan_facts import STATES, ShopScan
from services.console.scan_reading import read_scan
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.costs.month import AI, SMS, MonthCosts
from services.costs.store import list_month_costs
from services.jobs.shop_overview import MAX_ROWS, WEBHOOKS_SINCE, ShopFigures, read_shop_overview


class ShopLine(NamedTuple):
    """A shop as in the console's morning scan, with its figures and costs of the month."""

    scan: ShopScan
    figures: ShopFigures
    costs: Sequence[MonthCosts]


@click.command("overview", cls=ReportingCommand)
@click.option(
    "--state",
    type=KnownType("states", lambda: STATES, is_list=True),
    default="",
    help="Only shops of these states, such as red,unknown.",
)
@json_option
def command(state: tuple[str, ...], as_json: bool) -> None:
    """Show a line for each shop, the worst first: work, last webhook, last reconciliation, costs and open
    incidents.

    States, as on the console's first page: red (somebody must act), unknown (figures are missing), warn
    (somebody should act when there is time), fine. The column "why" has the reason.

    \b
    Examples:
      fleet overview
      fleet overview --state red,unknown --json
    """
    wanted = state or STATES
    now = utc_now()
    with transaction() as tx:
        costs: dict[int, list[MonthCosts]] = {}
        for one in list_month_costs(tx, now):
            costs.setdefault(one.shop_id, []).append(one)
        reading, (figures, ignored) = read_scan(tx, now), read_shop_overview(tx, now)
    every = [ShopLine(scan, figures[scan.shop_id], costs.get(scan.shop_id, ())) for scan in reading.shops]
    lines = [line for line in every if line.scan.state in wanted]
    columns: Columns = {
        "shop": lambda line: line.scan.slug,
        "state": lambda line: line.scan.state,
        "why": lambda line: describe_causes(line.scan),
        "incidents": lambda line: ", ".join(f"{n} {name}" for name, n in line.figures.incidents.items()),
        "last webhook": lambda line: _format_age(line.figures, now),
        "waiting": lambda line: line.figures.waiting,
        "error": lambda line: line.figures.error,
        "dead": lambda line: line.figures.dead,
        "reconciled": lambda line: f"{line.figures.reconciled_day} {line.figures.reconciliation}".strip(),
        "AI this month": lambda line: format_month(line.costs, AI),
        "SMS this month": lambda line: format_month(line.costs, SMS),
    }
    documents = [
        {"at": now, "shop": scan.slug, "name": scan.name, "state": scan.state, "why": describe_causes(scan)}
        | to_document(figures)
        | {"costs": [*map(make_cost_document, costs)]}
        for scan, figures, costs in lines
    ]
    empty = "No shop is in this state." if state else "No shops yet: fleet shops add, or fleet shops import"
    print_list("", columns, lines, documents, empty, as_json=as_json)
    for slug, count in ignored.items():
        click.echo(
            f"{slug} was removed, but {format_count(count, 'webhook was', 'webhooks were')} received "
            f"in {_format_duration(WEBHOOKS_SINCE)} and ignored: delete its endpoint at the provider",
            err=True,
        )
    counts = [(one.waiting + one.error, one.dead) for one in figures.values()]
    if any(sum(column) >= MAX_ROWS for column in zip(*counts, strict=True)):
        click.echo(
            f"More than {MAX_ROWS:,} work items are open or dead: not all are counted here. "
            "`celery -A tasks backlog` counts all",
            err=True,
        )


def _format_age(line: ShopFigures, now: datetime) -> str:
    """Return the age of the last webhook, such as ``4 min``; counts are by minute."""
    if line.webhook_at is None:
        return f"none in {_format_duration(now - line.webhooks_since)}"
    return _format_duration(now - line.webhook_at)


def _format_duration(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
