"""``fleet incidents explain``: the plans of the slowest statements of an incident."""

import click

from services.alerts.incidents import get_incident
from services.cli.base import ReportingCommand, json_option
from services.cli.output import print_json
from services.cli.params import INCIDENT
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.ledger.statement_plans import explain_statements


@click.command("explain", cls=ReportingCommand)
@click.argument("incident_id", type=INCIDENT)
@json_option
def explain(incident_id: int, as_json: bool) -> None:
    """Print the plan of each of the slowest statements of a slow database.

    The plans are those that PostgreSQL has now for any values (EXPLAIN without ANALYZE). Nothing is executed.
    A Seq Scan on a large table says which index is missing.

    \b
    Example: fleet incidents explain 12
    """
    with transaction() as tx:
        incident = get_incident(tx, incident_id)
        named = {one["statement"]: one for one in incident.detail.get("statements", ())}
        if not named:
            raise ShopfleetError(
                f"incident {incident_id} ({incident.rule}) names no statements; those of database_slow do"
            )
        plans = explain_statements(tx, named)
    if as_json:
        documents = [{**named[one.statement], "text": one.text, "plan": one.plan} for one in plans]
        print_json({"incident": incident_id, "statements": documents})
        return
    for number, one in enumerate(plans, 1):
        latency = named[one.statement]
        slow = f"{latency['slow_calls']} of {format_count(latency['calls'], 'call')} slow"
        click.secho(f"{number}. {one.statement}: p95 {latency['p95_ms']:.0f} ms, {slow}", bold=True)
        click.echo(f"{one.text}\n\n{one.plan}\n" if one.text else f"{one.plan}\n")
