"""``fleet labels``: barcodes of orders for the shop floor."""

from collections.abc import Sequence
from pathlib import Path

import click

from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    one_shop_option,
)
from services.cli.output import print_json
from services.cli.params import OUTPUT_FILE
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction_or_plan
from services.shopfloor.labels import FORMATS, LAYOUTS, render_pdf, render_png
from services.shopfloor.print_labels import read_labels
from services.shops.shops import get_shop


@click.group("labels", cls=CommandGroup)
def command() -> None:
    """Barcode labels of orders, for a scanner or the camera of a phone.

    \b
    Example: fleet labels print 1001 1002 --shop harbour --out labels.pdf
    """


@command.command("print")
@click.argument("orders", nargs=-1, required=True, metavar="ORDER...")
@one_shop_option
@click.option("--out", "file", type=OUTPUT_FILE, help="The file to write; default: labels.pdf or labels.png.")
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="pdf", show_default=True, help="Of the file."
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="roll",
    show_default=True,
    help="roll: 62 mm wide, a page each; a4: sheets of 21 labels.",
)
@dry_run_option
@actor_option
@json_option
def print_labels(
    orders: Sequence[str],
    shop: str,
    file: Path | None,
    kind: str,
    layout: str,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Write labels of ORDERs to a file, with Code 128 and QR of the number at Shopify. PNG: one label.

    An ORDER is its id at Shopify, or its name, such as #1001.

    \b
    Examples:
      fleet labels print 1001 1002 --shop harbour --layout a4 --out labels.pdf
      fleet labels print 1001 --shop harbour --format png --out label.png
    """
    if kind == "png" and len(orders) > 1:
        raise click.UsageError("--format png takes one ORDER: print several as pdf")
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = get_shop(tx, shop)
        labels = read_labels(tx, found, orders, now=utc_now(), **audit_author(actor))
    file = file or Path(f"labels.{kind}").absolute()
    content = render_png(labels[0]) if kind == "png" else render_pdf(labels, layout)
    if not dry_run:
        file.write_bytes(content)
    if as_json:
        documents = [one._asdict() for one in labels]
        print_json({"file": str(file), "format": kind, "labels": documents, "changed": not dry_run})
        return
    verb = "would have" if dry_run else "has"
    click.echo(f"{file} {verb} {format_count(len(labels), 'label')}, {format_count(len(content), 'byte')}.")
