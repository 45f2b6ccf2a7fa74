"""``fleet stock count|adjust|import``: what lies on the shelves of a shop that owns its stock figures."""

from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy import Connection

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
from services.shopify.stock.count_file import CountLine, parse_counts_csv
from services.shopify.stock.counts import (
    Count,
    CountChange,
    CountRefused,
    adjust_level,
    get_item,
    plan_counts,
    record_counts,
)
from services.shops.shops import Shop, get_shop

READINGS = 3
"""How often the levels are read, where one changes while it is read."""

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
@click.option("--pieces", required=True, type=click.IntRange(0, 1_000_000_000), help="Pieces on the shelf.")
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
    """Take a count: so many pieces lie on the shelf, those of open orders included.

    What Shopify holds back for open orders, damage and the like is read at the same moment and subtracted;
    the rest is pushed as available.

    \b
    Example: fleet stock count harbour --sku MUG-0001 --location 65536001 --pieces 24
    """
    line = CountLine(item, sku, location, pieces)
    _take(shop, [line], dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("import")
@click.argument("shop")
@csv_option("pieces, location_id and inventory_item_id or sku")
@dry_run_option
@actor_option
@json_option
@report_errors
def import_counts(shop: str, file: Path, dry_run: bool, actor: str, as_json: bool) -> None:
    """Take the counts of a file, all of them or, where one line is wrong, none.

    \b
    Example: fleet stock import harbour --csv counts.csv --dry-run
    """
    _take(shop, parse_counts_csv(read_csv_file(file)), dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("adjust")
@click.argument("shop")
@_item
@_sku
@_location
@click.option("--delta", required=True, type=int, help="Pieces more, or fewer with a minus.")
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
    now = utc_now()
    with transaction() as tx:
        found = get_shop(tx, shop)
        (counted,) = _resolve(tx, found, [CountLine(item, sku, location, 0)])
        place = ShopLevelKey(counted.inventory_item_id, counted.location_id)
        by, request_id = operator_label(actor), new_request_id()
        shift = adjust_level(tx, found.id, place, delta, reason, now, by=by, request_id=request_id)
    if as_json:
        print_json({"before": shift.before, "after": shift.after, **place._asdict()})
    else:
        click.echo(
            f"{shift.before} -> {shift.after}; the push is planned: fleet work list --topic inventory_push"
        )


def _take(slug: str, lines: Sequence[CountLine], *, dry_run: bool, actor: str, as_json: bool) -> None:
    with transaction() as tx:
        shop = get_shop(tx, slug)
        counts = _resolve(tx, shop, lines)
        plan_counts(tx, shop.id, counts)
    places = [ShopLevelKey(one.inventory_item_id, one.location_id) for one in counts]
    try:
        shelf = open_admin(shop.id)
        for _ in range(READINGS):
            counted_at = utc_now()
            held = shelf.get_levels(places)
            if all(one.updated_at is None or one.updated_at < counted_at for one in held.values()):
                break
        else:
            raise CountRefused(f"a level changed at Shopify during each of {READINGS} readings: run it again")
    except WorkError as fault:
        raise click.ClickException(
            f"{slug}: Shopify's levels could not be read ({fault}); run it again"
        ) from fault
    with transaction() as tx:
        changes = plan_counts(tx, shop.id, counts, held)
        if not dry_run:
            by, request_id = operator_label(actor), new_request_id()
            record_counts(tx, shop.id, changes, held, counted_at, utc_now(), by=by, request_id=request_id)
    _show(changes, dry_run=dry_run, as_json=as_json)


def _show(changes: Sequence[CountChange], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"changed": not dry_run, "counts": [change._asdict() for change in changes]})
        return
    columns = ("sku", "item", "location", "pieces", "held back", "was", "available")
    print_table("", columns, [tuple(change) for change in changes], "The file has no counts.")
    count = f"{len(changes)} level" + ("" if len(changes) == 1 else "s")
    click.echo(f"Would count {count}." if dry_run else f"Counted {count}; what differs is pushed.")


def _resolve(tx: Connection, shop: Shop, lines: Sequence[CountLine]) -> list[Count]:
    """Return the counts of ``lines``; raise ``CountRefused`` naming every line whose level is not clear."""
    counts: list[Count] = []
    faults: list[str] = []
    for line in lines:
        try:
            location = line.location_id or int(shop.stock_location_id or 0)
            if not location:
                raise CountRefused("location: name one with --location, or set the shop's stock_location_id")
            if (line.inventory_item_id is None) == (not line.sku):
                raise CountRefused("name the item by its number or by its sku, not by both")
            item = line.inventory_item_id or get_item(tx, shop.id, line.sku)
            counts.append(Count(item, location, line.pieces))
        except CountRefused as fault:
            faults.append(f"line {line.number}: {fault}" if line.number else str(fault))
    places = [one[:2] for one in counts]
    faults += [f"item {item} at location {location} is counted twice: keep one line"
               for item, location in sorted(set(places)) if places.count((item, location)) > 1]  # fmt: skip
    if faults:
        raise CountRefused("; ".join(faults))
    return counts
