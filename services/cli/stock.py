"""``fleet stock``: stock and low stock, reorder points, counts and corrections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from services.cli.base import (
    ID,
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    csv_option,
    dry_run_option,
    json_option,
    one_shop_option,
    read_csv_file,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import Columns, print_json, print_lines, print_list, print_table
from services.cli.stock_pools import pool, pools
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.core.errors import InputInvalid, WorkError, describe_unknown
from services.shopify.shop_access import open_admin
from services.shopify.stock.count_store import adjust_level, record_counts
from services.shopify.stock.counts import (
    MAX_PIECES,
    CountLine,
    CountRefused,
    parse_counts_csv,
    plan_counts,
    resolve_counts,
)
from services.shopify.stock.low_stock import (
    ReorderInvalid,
    ReorderPoint,
    count_reorder_points,
    find_stock,
    list_low_stock,
    list_reorder_changes,
    parse_point,
    parse_reorder_csv,
    record_reorder_points,
)
from services.shops.shops import get_shop

MAX_READS = 3
"""How often the levels are read at most, if one changes during the read."""

_COLUMNS: Columns = {
    "sku": "sku",
    "title": "title",
    "location": lambda line: line.location or line.location_id,
    "available": "available",
    "at Shopify": "shopify_available",
    "reorder at": "reorder_point",
    "sold 30 d": "sold_30d",
    "days left": lambda line: "no sales" if line.days_cover is None else str(line.days_cover),
    "seen": "observed_at",
}
_LOW_COLUMNS = {name: column for name, column in _COLUMNS.items() if name not in ("at Shopify", "seen")}

_change_options = add_options(dry_run_option, actor_option, json_option)
_level_options = add_options(
    click.option(
        "--item", "inventory_item_id", type=ID,
        help="The inventory item (its number at Shopify).",
    ),
    click.option("--sku", default="", help="The item's sku, if no other item of the shop has it."),
    click.option(
        "--location", "location_id", type=ID,
        help="The location (its number at Shopify); by default the shop's stock_location_id.",
    ),
)  # fmt: skip


@click.group(cls=CommandGroup)
def command() -> None:
    """Show stock and low stock, set reorder points, enter counts, and share stock between shops.

    \b
    Example: fleet stock low --shop harbour
    """


command.add_command(pool)
command.add_command(pools)


@command.command("low")
@one_shop_option
@json_option
def low(shop: str, as_json: bool) -> None:
    """List the levels below their reorder point; the one that runs out first is first.

    Days left: how long the pieces last at the sales rate of the last 30 days. Levels without a reorder point
    are left out.

    \b
    Example: fleet stock low --shop harbour
    """
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        found = list_low_stock(tx, shop_id, utc_now())
        points, levels = count_reorder_points(tx, shop_id)
    counted = format_count(levels, "level")
    empty = f"Nothing is below its reorder point; {points:,} of {counted} have one."
    if not points:
        empty = (
            f"{shop} has {counted} and no reorder point, so nothing can be low. Set one with "
            f"`fleet stock reorder-point SKU N --shop {shop}`."
        )
    documents = [line._asdict() for line in found]
    print_list(f"Low stock of {shop}", _LOW_COLUMNS, found, documents, empty, as_json=as_json)


@command.command("show", shop_position=0)
@click.argument("sku", default="")
@one_shop_option
@json_option
def show(shop: str, sku: str, as_json: bool) -> None:
    """Show the stock of a shop, or of one SKU: our figure, and Shopify's last known figure.

    \b
    Example: fleet stock show MUG-0001 --shop harbour
    """
    with transaction() as tx:
        shop_id = get_shop(tx, shop).id
        found = find_stock(tx, shop_id, utc_now(), sku)
        if sku and not found:
            known = (line.sku for line in find_stock(tx, shop_id, utc_now()))
            raise InputInvalid(f"{shop} has no stock of {sku!r}: sku={describe_unknown(sku, known)}")
    documents = [line._asdict() for line in found]
    print_list(f"Stock of {shop}", _COLUMNS, found, documents, f"{shop} has no stock.", as_json=as_json)


@command.command("reorder-point", shop_position=0)
@one_shop_option
@click.argument("sku")
@click.argument("point", metavar="N")
@click.option("--location", type=ID, help="Only at this location (its number at Shopify).")
@_change_options
def reorder_point(shop: str, sku: str, point: str, location: int | None, **options: Any) -> None:
    """Set the reorder point of SKU: with fewer than N pieces it is low. N may be "none".

    \b
    Example: fleet stock reorder-point MUG-0001 12 --shop harbour
             fleet stock reorder-point MUG-0001 none --shop harbour --location 65536001
    """
    try:
        wanted = [ReorderPoint(sku, None if point == "none" else parse_point(point or "-"), location)]
    except ReorderInvalid as fault:
        raise click.BadParameter(f'{fault}, or "none"', param_hint="N") from fault
    _set_points(shop, wanted, **options)


@command.command("reorder-points", shop_position=0)
@one_shop_option
@csv_option("sku,reorder_point[,location_id]")
@_change_options
def reorder_points(shop: str, file: Path, **options: Any) -> None:
    """Set the reorder points in a file: all of them or, if one line is wrong, none.

    An empty reorder_point removes the point. A line without a location is for all locations of its sku.

    \b
    Example: fleet stock reorder-points --shop harbour --csv points.csv --dry-run
    """
    _set_points(shop, parse_reorder_csv(read_csv_file(file)), **options)


def _set_points(slug: str, wanted: Sequence[ReorderPoint], dry_run: bool, actor: str, as_json: bool) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        changes = list_reorder_changes(tx, shop.id, wanted)
        if not dry_run:
            record_reorder_points(tx, shop.id, changes, utc_now(), **audit_author(actor))
    if as_json:
        print_json({"changed": not dry_run, "changes": [change._asdict() for change in changes]})
        return
    columns = {"sku": "sku", "location": "location_id", "was": "before", "is": "after"}
    print_lines("", columns, changes, "Nothing to change.")
    if changes:
        levels = format_count(len(changes), "level")
        click.echo(f"Would change {levels}." if dry_run else f"Changed {levels}.")


@command.command("count", shop_position=0)
@one_shop_option
@_level_options
@click.option("--pieces", required=True, type=click.IntRange(0, MAX_PIECES), help="Pieces in stock.")
@incident_option
@_change_options
def count(shop: str, incident: int | None, dry_run: bool, actor: str, as_json: bool, **level: Any) -> None:
    """Record a count: the pieces in stock, including those of open orders.

    The pieces that Shopify holds back for open orders, damage and so on are read at the same moment and
    subtracted; the rest is pushed as available.

    \b
    Example: fleet stock count --shop harbour --sku MUG-0001 --location 65536001 --pieces 24
    """
    _record_counts(shop, [CountLine(**level)], dry_run, actor, as_json, incident)


@command.command("import", shop_position=0)
@one_shop_option
@csv_option("pieces, location_id and inventory_item_id or sku")
@_change_options
def import_counts(shop: str, file: Path, **options: Any) -> None:
    """Record the counts in a file: all of them or, if one line is wrong, none.

    \b
    Example: fleet stock import --shop harbour --csv counts.csv --dry-run
    """
    _record_counts(shop, parse_counts_csv(read_csv_file(file)), **options)


@command.command("adjust", shop_position=0)
@one_shop_option
@_level_options
@click.option(
    "--delta",
    required=True,
    type=click.IntRange(-MAX_PIECES, MAX_PIECES),
    help="Pieces to add, or to subtract with a minus.",
)
@click.option("--reason", required=True, help="Why, for the audit.")
@_change_options
def adjust(
    shop: str, delta: int, reason: str, dry_run: bool, actor: str, as_json: bool, **level: Any
) -> None:
    """Correct a counted level by --delta pieces, and push the new figure.

    \b
    Example: fleet stock adjust --shop harbour --sku MUG-0001 --location 65536001 --delta -2 --reason "broken"
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = get_shop(tx, shop)
        ((key, _),) = resolve_counts(tx, found.id, found.stock_location_id, [CountLine(**level, pieces=0)])
        change = adjust_level(tx, found.id, key, delta, reason, utc_now(), **audit_author(actor))
    if as_json:
        figures = {"before": change.before, "after": change.after}
        print_json({"changed": not dry_run, **figures, **key._asdict()})
    else:
        planned = "the push is planned: fleet work list --topic inventory_push"
        planned = "nothing was changed" if dry_run else planned
        click.echo(f"{change.before} -> {change.after}; {planned}")


def _record_counts(
    slug: str,
    lines: Sequence[CountLine],
    dry_run: bool,
    actor: str,
    as_json: bool,
    incident: int | None = None,
) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        counts = resolve_counts(tx, shop.id, shop.stock_location_id, lines)
        plan_counts(tx, shop.id, counts)
    try:
        api = open_admin(shop.id)
        for _ in range(MAX_READS):
            counted_at = utc_now()
            held = api.fetch_levels([count.key for count in counts])
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
            author = audit_author(actor)
            record_counts(tx, shop.id, changes, held, counted_at, utc_now(), **author)
            skus = ", ".join(change.sku or str(change.inventory_item_id) for change in changes)
            link_incident(tx, incident, f"counted {skus} at {slug}", now=utc_now(), **author)
    if as_json:
        print_json({"changed": not dry_run, "counts": [change._asdict() for change in changes]})
        return
    columns = ("sku", "item", "location", "pieces", "held back", "was", "available")
    print_table("", columns, changes, "The file has no counts.")
    levels = format_count(len(changes), "level")
    click.echo(f"Would count {levels}." if dry_run else f"Counted {levels}; differences are pushed.")
