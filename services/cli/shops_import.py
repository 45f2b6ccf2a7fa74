"""``fleet shops import``: add many shops from one CSV file."""

from pathlib import Path

import click

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    read_csv_file,
)
from services.cli.output import print_json
from services.cli.params import INPUT_FILE
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.shops.shop_import import add_shops, parse_shops_csv


@click.command("import", cls=ReportingCommand)
@click.argument("file", type=INPUT_FILE)
@actor_option
@dry_run_option
@json_option
def import_shops(file: Path, actor: str, dry_run: bool, as_json: bool) -> None:
    """Add the shops of a CSV file: all of them, or none if a line is wrong; - reads standard input.

    The first line names the columns, in any order. slug, name, timezone and currency are required;
    owner_email, accountant_email, shopify_domain, stock_location_id and stock_owner may be there. A shop that
    exists with the same values is left alone, so that a file can be imported again. Secrets are not in the
    file: fleet shops secret SHOP NAME --from-file, or fleet shops connect SHOP --from-file.

    \b
    Example: fleet shops import shops.csv --dry-run
    """
    text = read_csv_file(file)
    with transaction() as tx:
        shops = parse_shops_csv(tx, text)
        slugs = [shop.slug for shop in shops if not shop.exists]
        if not dry_run:
            slugs = add_shops(tx, shops, utc_now(), **audit_author(actor))
    unchanged = len(shops) - len(slugs)
    if as_json:
        print_json({"dry_run": dry_run, "added": slugs, "unchanged": unchanged})
        return
    verb = "would be added" if dry_run else "added"
    click.echo(f"{format_count(len(slugs), 'shop')} {verb}, {unchanged} there already")
    if slugs and not dry_run:
        click.echo("Next, for each: fleet shops connect SHOP --from-file FILE")
