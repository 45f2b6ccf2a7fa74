"""``fleet backfill``: record provider objects without a webhook, and show the sync cursors."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Connection

from services.audit.append import append_change
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    find_shop_id,
    json_option,
    one_shop_option,
    shop_option,
)
from services.cli.output import Columns, print_json, print_list, print_table
from services.cli.params import SINCE
from services.closing.gap_backfill import (
    BackfillResult,
    backfill_providers,
    describe_backfill,
    find_fault,
)
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.mail.connection_lines import list_shop_lines
from services.shopify.backfill.state import find_state
from services.shops.connections import recorded_calls
from services.shops.secrets import list_secret_states
from services.shops.shops import Shop, find_slugs, get_shop

_CURSORS = """
select shop_id, provider, stream, synced_until, synced_at,
       synced_until as reached_at, synced_at as pulled_at -- former names, readable until 0.2
  from sync_cursors
 where %(shop_id)s::int is null or shop_id = %(shop_id)s order by shop_id, provider, stream
"""


@click.group(cls=CommandGroup)
def command() -> None:
    """Record the objects in the providers' lists that no webhook delivered.

    \b
    Example: fleet backfill run --shop harbour --since 24h --dry-run
    """


@command.command("run")
@one_shop_option
@click.option(
    "--since", type=SINCE, help="Start here instead of at the cursors: 24h, 2026-11-20 or 2026-11-20T08:00Z."
)
@click.option("--reason", default="", help="Why, for the audit.")
@dry_run_option
@actor_option
@json_option
def run(shop: str, since: datetime | None, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Read Shopify's and Stripe's own lists, and record the events that are missing here.

    The job gap-healing does the same every hour. Workers process these events like others. No event is
    recorded twice. What was recorded is in the audit. Exit code 1 if a provider cannot be read. A credential
    that a provider refuses or accepts sets the state of the shop's connection, also with --dry-run.

    \b
    Examples:
      fleet backfill run --shop harbour
      fleet backfill run --shop harbour --since 2026-11-20 --dry-run
    """
    now, author = utc_now(), audit_author(actor)
    with transaction() as tx:
        stored = get_shop(tx, shop)
        to_do = find_missing_access(tx, stored)
    with recorded_calls(stored.id):
        request_id = author["request_id"]
        results = backfill_providers(stored.id, now, request_id, since=since, is_dry=dry_run)
    with transaction() as tx:
        if not dry_run and (mutation := describe_backfill(results, reason)):
            append_change(tx, "backfill.run", {stored.id: [mutation]}, now=now, **author)
        state = find_state(tx, stored.id)
        lines = list_shop_lines(tx, stored.id, shop)
    refused = {result.provider for result in results if result.fault}
    to_do |= {line.provider: line.to_do for line in lines if line.to_do and line.provider in refused}
    is_cut = since is not None and state.orders_since is not None and since < state.orders_since
    limit = state.describe_limit(shop, stored.zone) if is_cut else ""
    if as_json:
        documents = [_document(result, to_do) for result in results]
        print_json({"shop": shop, "at": now, "dry_run": dry_run, "providers": documents, "limit": limit})
    else:
        _print_results(results, to_do, dry_run)
        if limit:
            click.echo(limit)
    if fault := find_fault(results):
        remedy = next((to_do.get(one.provider, "") for one in results if one.fault is fault), "")
        raise ShopfleetError(f"{fault}; {remedy}") if remedy else fault


@command.command("status")
@shop_option
@json_option
def status(shop: str, as_json: bool) -> None:
    """Show up to which time each list of a provider was read, per shop. Changes nothing.

    \b
    Example: fleet backfill status --shop harbour
    """
    with transaction() as tx:
        rows = tx.exec_driver_sql(_CURSORS, {"shop_id": find_shop_id(tx, shop)}).all()
        slugs = find_slugs(tx)
    columns: Columns = {
        "shop": lambda row: slugs.get(row.shop_id, row.shop_id),
        "provider": "provider",
        "list": "stream",
        "read up to": "synced_until",
        "read at": "synced_at",
    }
    documents = [{"shop": slugs.get(row.shop_id)} | row._asdict() for row in rows]
    for document in documents:
        del document["shop_id"]
    empty = "Nothing was read yet: the job gap-healing reads every hour, `fleet backfill run` reads now."
    print_list("Read up to", columns, rows, documents, empty, as_json=as_json)


def find_missing_access(tx: Connection, shop: Shop) -> dict[str, str]:
    """Return what ``shop`` lacks and the command that records it, by provider that cannot be read."""
    recorded = {state.name for state in list_secret_states(tx, shop.id, utc_now())}
    lacks = [] if shop.shopify_domain else ["shopify_domain"]
    lacks += [] if "shopify-token" in recorded else ["shopify-token"]
    missing = {"shopify": f"no {' and no '.join(lacks)}: fleet shops connect {shop.slug}"} if lacks else {}
    if "stripe-key" not in recorded:
        missing["stripe"] = f"no stripe-key: fleet shops secret {shop.slug} stripe-key --stdin"
    return missing


def _document(result: BackfillResult, to_do: Mapping[str, str]) -> dict[str, Any]:
    return {
        "provider": result.provider,
        "state": result.state,
        "seen": result.counts.get("seen", 0),
        "entered": result.topics,
        **({"detail": result.fault.detail} if result.fault else {}),
        **({"to_do": to_do[result.provider]} if result.provider in to_do else {}),
    }


def _print_results(results: list[BackfillResult], to_do: Mapping[str, str], is_dry: bool) -> None:
    verb = "would be recorded" if is_dry else "recorded"
    rows = [(result.provider, topic, count) for result in results for topic, count in result.topics.items()]
    print_table("", ("provider", "topic", verb), rows, f"Nothing {verb}.")
    for result in results:
        seen = f", {result.counts.get('seen', 0)} compared" if result.counts else ""
        hint = f", {to_do[result.provider]}" if result.provider in to_do else ""
        click.echo(f"{result.provider}: {result.state}{seen}{hint}")
