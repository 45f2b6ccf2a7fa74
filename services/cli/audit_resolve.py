"""``fleet audit resolve``: the owner of the tables resolves what verifications of a chain found."""

import click

from services.alerts.people import resolve_findings
from services.alerts.runbook import FLEET
from services.audit.verifications import list_broken
from services.cli.base import ReportingCommand, actor_option, audit_author, dry_run_option, json_option
from services.cli.chain_engine import owner_engine
from services.cli.output import print_json, safe_text
from services.cli.params import NameType
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.times import format_time
from services.shops.shops import find_slugs

CHAIN = NameType(
    "chain", lambda tx: [*(row.shop for row in list_broken(tx)), *find_slugs(tx).values(), FLEET]
)


@click.command("resolve", cls=ReportingCommand)
@click.argument("chain", type=CHAIN, metavar="SHOP")
@click.option("--reason", required=True, help="Why the finding needs no more work. Audited.")
@dry_run_option
@actor_option
@json_option
def resolve(chain: str, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Resolve what verifications found in the chain of a shop (`fleet`: the fleet's own), and its incident.

    It needs the role that owns the tables (MIGRATE_DATABASE_URL), and works also if the incident was
    deleted or changed. The deploy gate stays closed until a full verification of the chain finds nothing.

    \b
    Example: fleet audit resolve harbour --reason "restored from the backup of 2026-11-20"
    """
    with transaction_or_plan(owner_engine(), dry_run=dry_run) as tx:
        found = resolve_findings(tx, chain, now=utc_now(), reason=reason, **audit_author(actor))
    if as_json:
        findings = [{"at": row.at, "findings": row.findings} for row in found]
        print_json({"chain": chain, "verifications": findings, "changed": not dry_run})
        return
    done = "Would resolve" if dry_run else "Resolved"
    for row in found:
        for finding in row.findings:
            click.echo(safe_text(f"{done}: {finding} (found {format_time(row.at)})"))
    if not dry_run:
        click.echo("The gate opens when `fleet audit verify --full --archives` finds nothing in this chain.")
