"""``fleet shops remove``: export a shop's data, and delete what nothing has to prove."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    force_option,
    json_option,
    shop_argument,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import print_json, print_table
from services.cli.params import OUTPUT_FOLDER
from services.cli.progress import ListProgress
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import NothingToDo, WorkError
from services.privacy.shop_removal import (
    KEPT,
    OF_OTHER_KEYS,
    WEBHOOKS_IGNORED_FOR,
    count_rows,
    delete_rows,
    export_shop,
    is_unrecorded,
    list_tables,
    mark_removed,
    record_removed,
)
from services.shopify.backfill.run import NO_ACCESS
from services.shopify.shop_access import open_admin
from services.shopify.subscriptions.check import delete_subscriptions
from services.shops.fields import OF_POOL
from services.shops.shops import Shop, get_shop

SETTLE_SECONDS = 5.0
"""Every process of the ingress ignores the shop's webhooks after this time."""

MAX_PASSES = 24
"""A worker may still have work of the shop: its rows are deleted again until a pass finds none."""


@click.command("remove", cls=ReportingCommand)
@shop_argument
@click.option(
    "--export",
    "folder",
    type=OUTPUT_FOLDER,
    help="The folder for the shop's data, written before anything is deleted.",
)
@click.option(
    "--confirm",
    "confirmed",
    default="",
    metavar="SHOP",
    help="The shop again, instead of an answer.",
)
@incident_option
@actor_option
@dry_run_option
@force_option
@json_option
def remove(
    slug: str,
    folder: Path | None,
    confirmed: str,
    incident: int | None,
    actor: str,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Remove a shop for good: export its data, delete it, and ignore its late webhooks.

    The audit chain, the closed months and the proofs of privacy requests stay. The shop's webhook
    subscriptions at Shopify are deleted; webhooks that still come are verified and answered 200 for 30 days,
    and change nothing. The slug cannot be used again. If the command is interrupted, run it again.

    \b
    Examples:
      fleet shops remove harbour --dry-run
      fleet shops remove harbour --export harbour-data
    """
    with transaction() as tx:
        shop = get_shop(tx, slug, is_removed_allowed=True)
        is_marked, is_begun = shop.removed_at is not None, is_unrecorded(tx, shop.id)
        deleted, kept = (count_rows(tx, shop.id, tables) for tables in (list_tables(tx), tuple(KEPT)))
    if shop.stock_owner.startswith(OF_POOL):
        raise click.ClickException(
            f"{slug} shares its stock in {shop.stock_owner}: take it out first with "
            f"`fleet shops set {slug} --stock-owner shopify`"
        )
    if dry_run:
        _print_plan(shop, deleted, kept, as_json=as_json)
        return
    if is_marked and not deleted and not is_begun:
        raise NothingToDo(f"{slug} was removed already: only its audit chain and closed months are here")
    if folder is None and not is_marked:
        raise click.UsageError("name a folder for the shop's data: --export FOLDER; or try --dry-run")
    if not as_json:
        _print_plan(shop, deleted, kept, as_json=False)
    _confirm(slug, slug if force else confirmed)
    author = audit_author(actor)
    exported: dict[str, int] = {}
    if not is_marked and folder is not None:
        try:
            with ListProgress() as progress:
                exported = export_shop(shop, folder, progress)
        except OSError as fault:
            reason = f"{fault.filename or folder}: {fault.strerror}"
            raise click.ClickException(
                f"{reason}; the export is not whole, so nothing was deleted"
            ) from fault
        _unsubscribe(shop)
        with transaction() as tx:
            mark_removed(tx, shop, utc_now(), **author)
            link_incident(tx, incident, f"removes {slug}", now=utc_now(), **author)
    with ListProgress() as progress:
        delete_rows(shop, utc_now(), progress)
        for _ in range(MAX_PASSES):
            time.sleep(SETTLE_SECONDS)
            late = delete_rows(shop, utc_now(), progress)
            if not late.keys() - OF_OTHER_KEYS.keys():  # late webhooks are counted for 30 days
                break
    with transaction() as tx:
        counts = record_removed(tx, shop, utc_now(), **author)
    if as_json:
        print_json({"shop": slug, "exported": exported, "deleted": counts, "kept": kept})
        return
    where = f"; its data is in {folder}" if exported else ""
    click.echo(f"removed {slug}: {format_count(sum(counts.values()), 'row')} deleted{where}")
    click.echo(
        f"Its late webhooks are ignored for {WEBHOOKS_IGNORED_FOR.days} days. Remove the app in the shop's "
        "admin at Shopify, and delete the shop's webhook endpoints at Stripe and Quo."
    )


def _print_plan(shop: Shop, deleted: dict[str, int], kept: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json({"shop": shop.slug, "delete": deleted, "keep": kept, "why": dict(KEPT)})
        return
    rows: list[tuple[Any, ...]] = [(table, count, "deleted", "") for table, count in sorted(deleted.items())]
    rows += [(table, count, "kept", KEPT[table]) for table, count in sorted(kept.items())]
    rows.append(("shop_secrets", None, "deleted", "webhook secrets after 30 days, to verify late webhooks"))
    print_table(f"Shop {shop.slug}", ("table", "rows", "what happens", "why"), rows, "")


def _confirm(slug: str, confirmed: str) -> None:
    if not confirmed and sys.stdin.isatty():
        confirmed = str(click.prompt(f"Type {slug} to remove it for good", default="", err=True))
    if not confirmed:
        raise click.UsageError(f"confirm the removal with --confirm {slug} or -f; nothing was changed")
    if confirmed.strip() != slug:
        raise click.ClickException(f"{confirmed.strip()!r} is not {slug}: nothing was changed")


def _unsubscribe(shop: Shop) -> None:
    """Delete the shop's webhook subscriptions at Shopify; without access say so and go on."""
    try:
        count = delete_subscriptions(open_admin(shop.id), shop)
    except WorkError as fault:
        if fault.code in NO_ACCESS:
            click.echo("not connected to Shopify: no webhook subscription to delete", err=True)
            return
        click.echo(f"no webhook subscription was deleted at Shopify: {fault.code}: {fault.detail}", err=True)
        return
    click.echo(f"{format_count(count, 'webhook subscription')} deleted at Shopify", err=True)
