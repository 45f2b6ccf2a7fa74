"""``fleet stock``: what a shop has, what is running out, and from where on it counts as low."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

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
from services.cli.stock_counts import adjust, count, import_counts
from services.cli.stock_pools import pool, pools
from services.core.clock import utc_now
from services.core.db import transaction
from services.shopify.stock.low_stock import find_low_stock, find_stock
from services.shopify.stock.reorder import (
    ReorderChange,
    ReorderInvalid,
    ReorderPoint,
    find_reorder_changes,
    parse_point,
    parse_reorder_csv,
    record_reorder_points,
)
from services.shops.shops import get_shop


@click.group()
def command() -> None:
    """Show stock and what is running out, set reorder points, enter counts, and share stock between shops.

    \b
    Example: fleet stock low --shop harbour
    """


for each in (count, adjust, import_counts, pool, pools):
    command.add_command(each)


@command.command("low")
@click.option("--shop", required=True, help="The shop (its slug).")
@json_option
@report_errors
def low(shop: str, as_json: bool) -> None:
    """List what is under its reorder point, the one that runs out first at the top.

    Days of cover: how long the pieces last at the pace of the last 30 days. A level without a reorder point
    is not watched.

    \b
    Example: fleet stock low --shop harbour
    """
    with transaction() as tx:
        found = find_low_stock(tx, get_shop(tx, shop).id, utc_now())
    if as_json:
        print_json([_document(line) for line in found])
        return
    rows = [
        (
            line.sku, line.title, line.location or line.location_id, line.available, line.reorder_point,
            line.sold_30d, _days(line.days_cover),
        )
        for line in found
    ]  # fmt: skip
    columns = ("sku", "title", "location", "available", "reorder at", "sold 30 d", "days left")
    print_table(f"Low stock of {shop}", columns, rows, "Nothing is under its reorder point.")


@command.command("show")
@click.argument("shop")
@click.argument("sku", default="")
@json_option
@report_errors
def show(shop: str, sku: str, as_json: bool) -> None:
    """Show the stock of SHOP, or of one SKU: what we count, and what Shopify is known to hold.

    \b
    Example: fleet stock show harbour MUG-0001
    """
    with transaction() as tx:
        found = find_stock(tx, get_shop(tx, shop).id, utc_now(), sku)
    if as_json:
        print_json([_document(line) for line in found])
        return
    rows = [
        (
            line.sku, line.title, line.location or line.location_id, line.available, line.shopify_available,
            line.reorder_point, line.sold_30d, _days(line.days_cover), line.observed_at,
        )
        for line in found
    ]  # fmt: skip
    columns = (
        "sku", "title", "location", "available", "at Shopify", "reorder at", "sold 30 d", "days left", "seen",
    )  # fmt: skip
    what = f" of {sku}" if sku else ""
    print_table(f"Stock of {shop}", columns, rows, f"{shop} has no stock{what} that we know of.")


@command.command("reorder-point")
@click.argument("shop")
@click.argument("sku")
@click.argument("point", metavar="N")
@click.option("--location", type=click.IntRange(min=1), help="Only at this location (its number at Shopify).")
@dry_run_option
@actor_option
@json_option
@report_errors
def reorder_point(
    shop: str, sku: str, point: str, location: int | None, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Watch SKU: it is low with fewer than N pieces. N may be "none": not watched any more.

    \b
    Example: fleet stock reorder-point harbour MUG-0001 12
             fleet stock reorder-point harbour MUG-0001 none --location 65536001
    """
    try:
        wanted = [ReorderPoint(sku, None if point == "none" else parse_point(point or "-"), location)]
    except ReorderInvalid as fault:
        raise click.BadParameter(f'{fault}, or "none"', param_hint="N") from fault
    _set(shop, wanted, dry_run=dry_run, actor=actor, as_json=as_json)


@command.command("reorder-points")
@click.argument("shop")
@csv_option("sku,reorder_point[,location_id]")
@dry_run_option
@actor_option
@json_option
@report_errors
def reorder_points(shop: str, file: Path, dry_run: bool, actor: str, as_json: bool) -> None:
    """Set the reorder points of a file, all of them or, where one line is wrong, none.

    An empty reorder_point: the sku is not watched any more. Without a location a line is about every
    location of its sku.

    \b
    Example: fleet stock reorder-points harbour --csv points.csv --dry-run
    """
    _set(shop, parse_reorder_csv(read_csv_file(file)), dry_run=dry_run, actor=actor, as_json=as_json)


def _set(slug: str, wanted: Sequence[ReorderPoint], *, dry_run: bool, actor: str, as_json: bool) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        changes = find_reorder_changes(tx, shop.id, wanted)
        if not dry_run:
            record_reorder_points(
                tx, shop.id, changes, utc_now(), by=operator_label(actor), request_id=new_request_id()
            )
    if as_json:
        print_json({"changed": not dry_run, "changes": [change._asdict() for change in changes]})
        return
    print_table("", ("sku", "location", "was", "is"), _rows(changes), "That is how it is already.")
    if changes:
        count = f"{len(changes)} level" + ("s" if len(changes) > 1 else "")
        click.echo(f"Would change {count}." if dry_run else f"Changed {count}.")


def _rows(changes: Sequence[ReorderChange]) -> list[tuple[object, ...]]:
    return [(change.sku, change.location_id, change.before, change.after) for change in changes]


def _days(cover: Any) -> str:
    return "no sales" if cover is None else str(cover)


def _document(line: Any) -> dict[str, Any]:
    """Return a line for a program: days as a decimal string, as JSON's numbers are binary."""
    return {
        name: value if isinstance(value, int | str | datetime | None) else str(value)
        for name, value in line._asdict().items()
    }
