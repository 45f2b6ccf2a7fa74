"""``fleet gate``: whether one may deploy now."""

from typing import Any

import click
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.alerts.gate import (
    GateReason,
    GateState,
    end_restore,
    open_gate,
    read_gate,
    record_not_evaluated,
    start_restore,
)
from services.alerts.notify import post_note
from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    notify_workers,
)
from services.cli.chain_engine import find_engine
from services.cli.output import print_json, safe_text
from services.cli.params import INCIDENT
from services.cli.server_errors import describe_database_error
from services.cli.usage import refuse_blank
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.times import format_time


@click.command(cls=ReportingCommand)
@click.option(
    "--for", "incident_id", type=INCIDENT, help="Open it for two hours, for the fix of this incident."
)
@click.option(
    "--not-evaluated",
    is_flag=True,
    help="Open it for two hours, for a fix without which no rule is evaluated.",
)
@click.option(
    "--database-restore",
    "restore",
    type=click.Choice(["running", "done"]),
    help="Record that a restore is running, or is done.",
)
@click.option("--reason", default="", help="Why; needed with each of these options. Audited.")
@dry_run_option
@actor_option
@json_option
def command(
    incident_id: int | None,
    not_evaluated: bool,
    restore: str | None,
    reason: str,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Exit with 0 if one may deploy now, else with 1, and say why.

    The gate is closed while the audit chain is broken, a P1 is open, a restore is running, no rule was
    evaluated for 15 minutes, or the database cannot be read. --for opens it for one incident; for a broken
    chain only with the owner's role (MIGRATE_DATABASE_URL). Other reasons keep it closed.

    \b
    Example: fleet gate
             fleet gate --for 12 --reason "deploys the fix of the retry"
    """
    acts = sum(map(bool, (incident_id, not_evaluated, restore)))
    if acts > 1 or (reason and not acts):
        raise click.UsageError(
            "give one of --for, --not-evaluated and --database-restore; --reason belongs to them"
        )
    if acts and not reason.strip():
        refuse_blank("reason")
    author: dict[str, Any] = {"now": utc_now(), "reason": reason, **audit_author(actor)}
    if restore:
        _mark_restore(restore, dry_run=dry_run, as_json=as_json, **author)
    elif acts:
        _open(incident_id, dry_run=dry_run, as_json=as_json, **author)
    else:
        try:
            with transaction() as tx:
                gate = read_gate(tx, utc_now())
        except (DBAPIError, PoolTimeout) as fault:
            gate = GateState([GateReason("database_unavailable", describe_database_error(fault))])
        _end(gate, {}, as_json=as_json)


def _open(incident_id: int | None, *, dry_run: bool, as_json: bool, **author: Any) -> None:
    """Open the gate for an incident; None: for that no rule is evaluated."""
    # A dry run leaves the gate as it is.
    with transaction_or_plan(find_engine([incident_id] if incident_id else []), dry_run=dry_run) as tx:
        gate = read_gate(tx, author["now"])
        incident_id = incident_id or record_not_evaluated(tx, author["now"])
        until = open_gate(tx, incident_id, **author)
        summary = f"opens the deploy gate until {format_time(until)}: {author['reason']}"
        posted = post_note(tx, incident_id, summary, author["by"], author["now"])
        if not dry_run:
            gate = read_gate(tx, author["now"])
    opened = f"{'Would open' if dry_run else 'Opened'} for incident {incident_id} until {format_time(until)}."
    if not as_json:
        click.echo(opened)
    if not dry_run and (hint := notify_workers(posted)):
        click.echo(hint, err=True)
    key = "would_open_for" if dry_run else "opened_for"
    _end(gate, {key: incident_id, "until": until}, as_json=as_json)


def _mark_restore(state: str, *, dry_run: bool, as_json: bool, **author: Any) -> None:
    act = start_restore if state == "running" else end_restore
    with transaction_or_plan(dry_run=dry_run) as tx:
        act(tx, **author)
    if as_json:
        print_json({"restore": state, "changed": not dry_run})
    else:
        click.echo(f"{'Would record' if dry_run else 'Recorded'}: the restore is {state}.")


def _end(gate: GateState, more: dict[str, Any], *, as_json: bool) -> None:
    """Print the state of the gate, and exit with 1 if it is closed."""
    state = "closed" if gate.reasons else "open"
    if as_json:
        reasons = [one._asdict() for one in gate.reasons]
        openings = [one.to_document() for one in gate.openings]
        evaluated = {"evaluated_at": gate.evaluated_at}
        print_json({"gate": state, "reasons": reasons, "openings": openings, **evaluated, **more})
    else:
        click.echo(f"The deploy gate is {state}.")
        if not (gate.evaluated_at or gate.reasons):
            click.echo("- no rule was ever evaluated, as before the first start: no P1 is known")
        for reason in gate.reasons:
            click.echo(f"- {reason.code}: {safe_text(reason.detail)}")
        for opening in gate.openings:
            click.echo(f"- {safe_text(str(opening))}")
    click.get_current_context().exit(1 if gate.reasons else 0)
