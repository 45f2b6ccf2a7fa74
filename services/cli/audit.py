"""``fleet audit``: list, verify, export and anchor the audit chains."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Row

from services.audit.anchors import anchor_entry, list_heads, make_anchor
from services.audit.append import append_all
from services.audit.checkpoints import record_checkpoints
from services.audit.export import export_chains
from services.audit.queries import list_chains, list_entries, use_snapshot
from services.audit.signing import make_signer
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.cli.audit_resolve import resolve
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    limit_option,
    shop_option,
    since_option,
)
from services.cli.output import Columns, print_fields, print_json, print_lines, print_list, safe_text
from services.cli.params import OUTPUT_FILE, KnownType
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.audit_jobs import (
    describe_open,
    find_signable,
    find_slug,
    list_open,
    list_open_findings,
    list_unaltered,
    record_findings,
)
from services.providers.object_store import open_store
from services.schema.models import metadata
from services.shops.shops import find_slugs

TABLE = KnownType("table", lambda: ["anchors", *metadata.tables])


@click.group(cls=CommandGroup)
def command() -> None:
    """List, verify, export and anchor the audit chains.

    \b
    Example: fleet audit verify --full
    """


command.add_command(resolve)


@command.command("list")
@shop_option
@since_option("changes")
@click.option("--by", default="", help="Only changes by this person, job or webhook: a part of the name.")
@click.option("--table", type=TABLE, default="", help="Only changes of this table, such as shops or orders.")
@limit_option
@json_option
def print_entries(shop: str, since: datetime | None, by: str, table: str, limit: int, as_json: bool) -> None:
    """List what was changed, when and by whom, newest first; archived entries are not in the list.

    \b
    Examples:
      fleet audit list --shop harbour --since 24h
      fleet audit list --by ada --table shop_secrets --json
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = list_entries(tx, shop_id=shop_id, since=since, by=by, table=table, limit=limit)
        slugs = find_slugs(tx)
    changes = {line.id: json.loads(line.mutations) for line in lines}
    columns: Columns = {
        "id": "id",
        "at": "at",
        "shop": lambda line: find_slug(line.shop_id, slugs) or "(fleet)",
        "by": "staff_label",
        "action": "action",
        "what": lambda line: "\n".join(one["summary"] for one in changes[line.id]),
    }
    documents = [
        line._asdict() | {"shop": find_slug(line.shop_id, slugs), "mutations": changes[line.id]}
        for line in lines
    ]
    print_list("", columns, lines, documents, "No change matches.", as_json=as_json)


@command.command("verify")
@shop_option
@since_option("events")
@click.option("--full", is_flag=True, help="From the first event on, with the manifests of all archives.")
@click.option("--archives", is_flag=True, help="Also read every archive and every anchor.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context, shop: str, since: datetime | None, full: bool, archives: bool, as_json: bool
) -> None:
    """Verify the chains and name the first altered row. Exit code 1 if there is one.

    Verification starts at each chain's last signed checkpoint unless --full or --since is given, and signs a
    new one if there is no finding. A finding opens the incident audit_chain_failed (P1), which closes the
    deploy gate, and stays open, with exit code 1, until `fleet audit resolve` closes it.

    \b
    Example: fleet audit verify --shop harbour --full
    """
    settings = get_settings()
    signer = make_signer(settings)
    store = open_store(settings.archive_url)
    now = utc_now()
    with transaction() as tx:
        slugs = find_slugs(tx)
        options = VerifyOptions(
            shop_id=find_shop_id(tx, shop),
            is_one_chain=bool(shop),
            since=since,
            full=full,
            manifests=full,
            archives=archives,
        )
    with transaction() as tx:
        report = verify_audit(tx, options, signer, store, _progress(slugs))
    with transaction() as tx:
        unaltered = list_unaltered(report) if full else []
        record_findings(tx, report.findings, f"{now:%Y-%m-%d}", now, unaltered)
        unresolved = list_open_findings(tx, *([options.shop_id] if shop else []))
        record_checkpoints(tx, find_signable(report, unresolved), signer, now)
    if as_json:
        print_json(to_document(report, slugs, unresolved))
    else:
        _print_report(report, slugs, store.describe())
        for incident in unresolved:
            click.secho(safe_text(f"finding open: {describe_open(incident)}"), fg="red", bold=True)
    ctx.exit(1 if report.findings or unresolved else 0)


@command.command("export")
@shop_option
@click.option("--out", type=OUTPUT_FILE, help="The file to write.")
def export(shop: str, out: Path | None) -> None:
    """Export the chains to a file for verification offline: python -m services.audit.offline FILE.

    \b
    Example: fleet audit export --shop harbour --out harbour.jsonl.gz
    """
    now = utc_now()
    path = out or Path(f"audit-{shop or 'all'}-{now:%Y%m%dT%H%M%SZ}.jsonl.gz").absolute()
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        chains = [shop_id] if shop else list_chains(tx)
    signer = make_signer(get_settings())
    try:
        with path.open("xb") as file, transaction() as tx:
            written = export_chains(tx, chains, file, signer, now)
    except FileExistsError:
        raise click.UsageError(f"{path} exists already: name another file with --out") from None
    except OSError as fault:
        raise click.ClickException(f"{path}: {fault.strerror or fault}") from fault
    rows = sum(chain["last_seq"] - chain["first_seq"] + 1 for chain in written)
    chains_text = format_count(len(written), "chain")
    size = format_count(path.stat().st_size, "byte")
    click.echo(f"{format_count(rows, 'event')} of {chains_text} written to {path}, {size}")
    click.echo(f"Verify it: python -m services.audit.offline {path} --public-key {signer.public_key}")


@command.command("anchor")
@actor_option
@dry_run_option
@json_option
def anchor(actor: str, dry_run: bool, as_json: bool) -> None:
    """Store the signed heads of all chains in the archive store.

    \b
    Example: fleet audit anchor --dry-run
    """
    settings = get_settings()
    signer, store, now = make_signer(settings), open_store(settings.archive_url), utc_now()
    with transaction() as tx:
        use_snapshot(tx)
        heads = list_heads(tx)
    made = make_anchor(heads, store, signer, now)
    if not dry_run:
        store.put(made.key, made.data, now + timedelta(days=settings.archive_retain_days))
        entry = anchor_entry(made, store, **audit_author(actor))
        with transaction() as tx:
            append_all(tx, [entry], now)
    fields = {
        "key": made.key,
        "heads": made.heads,
        "sha256": made.sha256,
        "store": store.describe(),
        "public_key": signer.public_key,
    }
    if as_json:
        print_json(fields | {"stored": not dry_run})
    else:
        print_fields("Would be anchored" if dry_run else "Anchored", fields)


def to_document(
    report: VerifyReport, slugs: dict[int, str], unresolved: Sequence[Row[Any]]
) -> dict[str, Any]:
    """Return the report as JSON values."""
    found = "finding_open" if unresolved else "verified"
    return {
        "status": "altered" if report.findings else found,
        "text_version": report.text_version,
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "rows_per_second": report.rows_per_second,
        "anchors": report.anchors,
        "chains": [
            {
                "shop": find_slug(chain.shop_id, slugs),
                "rows": chain.rows,
                "archives": chain.archives,
                "archived_rows": chain.archived_rows,
                "began_after": chain.began_after,
                "head": chain.head._asdict(),
                "status": "altered" if chain.findings else "verified",
            }
            for chain in report.chains
        ],
        "findings": [
            asdict(found) | {"shop": find_slug(found.shop_id, slugs), "message": str(found)}
            for found in report.findings
        ],
        "open_findings": list_open(unresolved, slugs),
    }


def _print_report(report: VerifyReport, slugs: dict[int, str], store: str) -> None:
    columns: Columns = {
        "chain": lambda chain: find_slug(chain.shop_id, slugs) or "(the fleet's own)",
        "after row": "began_after",
        "rows": "rows",
        "archived": "archived_rows",
        "head": "head.seq",
        "hash": lambda chain: f"{chain.head.hash[:16]}...",
        "result": lambda chain: chain.findings[0].kind if chain.findings else "verified",
    }
    print_lines("", columns, report.chains, "No chains yet: no change was made.")
    for found in report.findings:
        click.secho(safe_text(str(found)), fg="red", bold=True)
    speed = f"{format_count(report.rows, 'row')} in {report.seconds:.2f} s, {report.rows_per_second} rows/s"
    click.echo(
        f"{format_count(len(report.chains), 'chain')}, {speed}; text version {report.text_version}, "
        f"compared with {format_count(report.anchors, 'anchor')} in {store}"
    )


def _progress(slugs: dict[int, str]) -> Callable[[int | None, int], None] | None:
    """Return a function that prints the progress of a long chain to a terminal, or None without one."""
    if not sys.stderr.isatty():
        return None

    def report(shop_id: int | None, rows: int) -> None:
        if rows % 100_000 == 0:
            click.echo(f"{find_slug(shop_id, slugs) or 'the fleet'}: {format_count(rows, 'row')}", err=True)

    return report
