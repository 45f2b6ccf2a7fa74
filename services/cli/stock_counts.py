"""``fleet stock count|import|adjust``: stock counts and corrections of a shop that owns its stock figures."""

from collections.abc import Sequence
from pathlib import Path

import click

from services.cli.base import (
    actor_option,
    csv_option,
    dry_run_option,
    json_option,
    new_request_id,
    operator_label,
    read_csv_file,
    report_errors,
)
from services.cli.output import print_json, print_table
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import WorkError
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.admin import open_admin
from services.shopify.stock.count_store import adjust_level, record_counts
from services.shopify.stock.counts import (
    MOST_PIECES,
    CountChange,
    CountLine,
    CountRefused,
    parse_counts_csv,
    plan_counts,
    resolve_counts,
)
from services.shops.shops import get_shop

MAX_READS = 3
"""How often the levels are read, where one changes during the read."""

_item = click.option("--item", type=click.IntRange(min=1), help="The inventory item (its number at Shopify).")
_sku = click.option("--sku", default="", help="The item's sku, where no other item of the shop has it.")
_location = click.option(
    "--location",
    type=click.IntRange(min=1),
    help="The location (its number at Shopify); without it the shop's stock_location_id.",
)


@click.command("count")
@click.argument("shop")
@_item
@_sku
@_location
@click.option("--pieces", required=True, type=click.IntRange(0, MOST_PIECES), help="Pieces in stock.")
@dry_run_option
@actor_option
@json_option
@report_errors
def count(
    shop: str,
    item: int | None,
    sku: str,
    location: int | None,
    pieces: int,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Record a count: the pieces in stock, those of open orders included.

    What Shopify holds back for open orders, damage and the like is read at the same moment and subtracted;
    the rest is pushed as available.

    \b
    Example: fleet stock count harbour --sku MUG-0001 --location 65536001 --pieces 24
    """
    lines = [CountLine(item, sku, location, pieces)]
    _record(shop, lines, dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("import")
@click.argument("shop")
@csv_option("pieces, location_id and inventory_item_id or sku")
@dry_run_option
@actor_option
@json_option
@report_errors
def import_counts(shop: str, file: Path, dry_run: bool, actor: str, as_json: bool) -> None:
    """Record the counts of a file: all of them or, where one line is wrong, none.

    \b
    Example: fleet stock import harbour --csv counts.csv --dry-run
    """
    lines = parse_counts_csv(read_csv_file(file))
    _record(shop, lines, dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("adjust")
@click.argument("shop")
@_item
@_sku
@_location
@click.option("--delta", required=True, type=int, help="Pieces to add, or to subtract with a minus.")
@click.option("--reason", required=True, help="Why, for the audit.")
@actor_option
@json_option
@report_errors
def adjust(
    shop: str,
    item: int | None,
    sku: str,
    location: int | None,
    delta: int,
    reason: str,
    actor: str,
    as_json: bool,
) -> None:
    """Correct a counted level by --delta pieces; the figure is pushed.

    \b
    Example: fleet stock adjust harbour --sku MUG-0001 --location 65536001 --delta -2 --reason "broken"
    """
    with transaction() as tx:
        found = get_shop(tx, shop)
        line = CountLine(item, sku, location, 0)
        (counted,) = resolve_counts(tx, found.id, found.stock_location_id, [line])
        key = ShopLevelKey(counted.inventory_item_id, counted.location_id)
        by, request_id = operator_label(actor), new_request_id()
        change = adjust_level(tx, found.id, key, delta, reason, utc_now(), by=by, request_id=request_id)
    if as_json:
        print_json({"before": change.before, "after": change.after, **key._asdict()})
    else:
        planned = "the push is planned: fleet work list --topic inventory_push"
        click.echo(f"{change.before} -> {change.after}; {planned}")


def _record(slug: str, lines: Sequence[CountLine], *, dry_run: bool, actor: str, as_json: bool) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        counts = resolve_counts(tx, shop.id, shop.stock_location_id, lines)
        plan_counts(tx, shop.id, counts)
    keys = [ShopLevelKey(one.inventory_item_id, one.location_id) for one in counts]
    try:
        api = open_admin(shop.id)
        for _ in range(MAX_READS):
            counted_at = utc_now()
            held = api.get_levels(keys)
            if all(level.updated_at is None or level.updated_at < counted_at for level in held.values()):
                break
        else:
            raise CountRefused(f"a level changed at Shopify during each of {MAX_READS} reads: run it again")
    except WorkError as fault:
        what = f"{slug}: Shopify's levels could not be read ({fault}); run it again"
        raise click.ClickException(what) from fault
    with transaction() as tx:
        changes = plan_counts(tx, shop.id, counts, held)
        if not dry_run:
            by, request_id = operator_label(actor), new_request_id()
            record_counts(tx, shop.id, changes, held, counted_at, utc_now(), by=by, request_id=request_id)
    _print(changes, dry_run=dry_run, as_json=as_json)


def _print(changes: Sequence[CountChange], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"changed": not dry_run, "counts": [change._asdict() for change in changes]})
        return
    columns = ("sku", "item", "location", "pieces", "held back", "was", "available")
    print_table("", columns, changes, "The file has no counts.")
    levels = f"{len(changes)} level" + ("" if len(changes) == 1 else "s")
    click.echo(f"Would count {levels}." if dry_run else f"Counted {levels}; what differs is pushed.")
