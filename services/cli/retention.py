"""``fleet retention``: what is old in each table, and the archives of events."""

from typing import Any

import click

from services.cli.base import CommandGroup, find_shop_id, json_option
from services.cli.output import Columns, print_list, to_document
from services.cli.params import SHOP
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.table_sizes import list_table_sizes
from services.providers.object_store import open_store
from services.retention.delete import OldRows, list_old_rows
from services.retention.verify import verify_archives
from services.shops.shops import find_slugs


@click.group(cls=CommandGroup)
def command() -> None:
    """Show what the job retention archives and deletes, and verify its archives.

    \b
    Example: fleet retention show
    """


@command.command("show")
@json_option
def show(as_json: bool) -> None:
    """Show, by table, the rows and bytes that are old now. Changes nothing.

    The job retention archives, deletes or empties them in the next night; `fleet jobs run retention` does it
    now. Whole tables are read, which takes a minute for ten million rows.

    \b
    Example: fleet retention show --json
    """
    settings = get_settings()
    with transaction() as tx:
        lines = [*list_old_rows(tx, settings, utc_now())]
    documents = [_document(line, getattr(settings, line.rule.setting.lower())) for line in lines]
    columns: Columns = {
        "table": lambda line: line["table"],
        "rows": lambda line: line["rows"],
        "after": lambda line: format_count(line["days"], "day") if line["days"] else "never",
        "setting": lambda line: line["setting"],
        "are": lambda line: line["done"],
        "old now": lambda line: line["old_rows"],
        "MB": lambda line: round(line["old_bytes"] / 1e6, 1),
        "oldest": lambda line: line["oldest"],
    }
    print_list("", columns, documents, documents, "", as_json=as_json)


@command.command("sizes")
@json_option
def sizes(as_json: bool) -> None:
    """Show the size of each table and how much it grew in 7 days, the largest first.

    The job retention measures the sizes every night. Rows are PostgreSQL's estimate.

    \b
    Example: fleet retention sizes
    """
    with transaction() as tx:
        lines = list_table_sizes(tx, utc_now())
    columns: Columns = {
        "table": "table_name",
        "rows": "row_count",
        "MB": lambda line: round(line.byte_count / 1e6, 1),
        "rows grown": lambda line: line.rows_grown if line.since else None,
        "MB grown": lambda line: round(line.bytes_grown / 1e6, 1) if line.since else None,
        "since": "since",
    }
    print_list("", columns, lines, [*map(to_document, lines)], "", as_json=as_json)


@command.command("verify")
@click.option("--shop", type=SHOP, default="", help="Only this shop (its slug).")
@json_option
def verify(shop: str, as_json: bool) -> None:
    """Read all archived events and compare them with the database, the audit chain and their keys.

    Events whose key was destroyed by a redaction cannot be read; their archives are verified all the same.
    Exit code 1 if an archive is missing or altered.

    \b
    Example: fleet retention verify --json
    """
    store = open_store(get_settings().archive_url)
    with transaction() as tx:
        shop_id, slugs = find_shop_id(tx, shop), find_slugs(tx)
    lines = [*verify_archives(transaction, store, shop_id)]
    columns: Columns = {
        "archive": "id",
        "shop": lambda line: slugs.get(line.shop_id, line.shop_id),
        "object": "object_key",
        "bytes": "object_bytes",
        "events": "events",
        "readable": "readable",
        "key destroyed": "destroyed",
        "in the chain": lambda line: "yes" if line.is_in_audit else "archived with it",
        "fault": "fault",
    }
    documents = [line._asdict() for line in lines]
    print_list("", columns, lines, documents, "No archived events.", as_json=as_json)
    if faulty := [line for line in lines if line.fault]:
        raise click.ClickException(
            f"missing or altered: {len(faulty)} of {format_count(len(lines), 'archive')}"
        )


def _document(line: OldRows, days: int) -> dict[str, Any]:
    return {
        "table": line.rule.table,
        "rows": line.rule.rows,
        "days": days,
        "setting": line.rule.setting,
        "done": line.rule.done,
        "old_rows": line.rows,
        "old_bytes": line.bytes,
        "oldest": line.oldest,
        "why": line.rule.why,
    }
