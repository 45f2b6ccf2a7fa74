"""``fleet stock pool|pools``: items that several shops sell from one stock."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    csv_option,
    dry_run_option,
    json_option,
    read_csv_file,
)
from services.cli.output import print_json, print_table
from services.cli.params import POOL, SHOP
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.csv_files import parse_csv
from services.core.db import transaction
from services.core.errors import WorkError
from services.shopify.shop_access import open_admin
from services.shopify.stock.levels import LevelKey
from services.shopify.stock.pool_checks import (
    PoolInvalid,
    PoolLink,
    list_linked,
    list_members,
    list_pools,
    list_shop_skus,
    plan_links,
    plan_wanted_links,
)
from services.shopify.stock.pool_links import HeldLevels, plan_figures, record_links, set_buffer, unlink_items
from services.shops.shops import Shop


@click.command("pools", cls=ReportingCommand)
@click.argument("name", type=POOL, default="")
@json_option
def pools(name: str, as_json: bool) -> None:
    """Show the pools, or the pool NAME: each sku's figure, what each shop holds, and what is wrong.

    \b
    Example: fleet stock pools mugs
    """
    with transaction() as tx:
        found = list_pools(tx, name)
    if as_json:
        print_json([one._asdict() for one in found])
        return
    if not found:
        click.echo("No pool yet: fleet shops set SHOP --stock-owner pool:NAME, for each of its shops")
    for one in found:
        rows = [
            (item["sku"], item["available"], *(item["held"].get(slug, "-") for slug in one.shops))
            for item in one.goods
        ]
        empty = f"Pool {one.name} has no shops: fleet shops set SHOP --stock-owner pool:{one.name}"
        if one.shops:
            todo = f"fleet stock pool {one.name} --all --dry-run"
            empty = f"Pool {one.name} of {', '.join(one.shops)} has no goods yet: {todo}"
        title = f"Pool {one.name}, {one.safety_buffer} kept back"
        print_table(title, ("sku", "pool", *one.shops), rows, empty)
        for fault in one.faults:
            click.echo(f"  {fault}")


@click.command("pool", cls=ReportingCommand)
@click.argument("name", type=POOL)
@click.option("--sku", "skus", multiple=True, help="Link this sku in every shop of the pool. Repeatable.")
@click.option(
    "--all", "is_all", is_flag=True, help="Every sku that all its shops have; with --remove, of the pool."
)
@csv_option(
    "sku,shop,shop_sku: the shop's own sku where it differs, and - where it is not sold", is_required=False
)
@click.option(
    "--from", "source", type=SHOP, default="", metavar="SHOP", help="Whose figure is right where they differ."
)
@click.option("--buffer", type=click.IntRange(0, 1_000_000), help="Pieces of each sku to keep from sale.")
@click.option("--remove", is_flag=True, help="Take the skus out of the pool.")
@dry_run_option
@actor_option
@json_option
def pool(
    name: str,
    skus: tuple[str, ...],
    is_all: bool,
    file: Path | None,
    source: str,
    buffer: int | None,
    remove: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Link skus to the pool NAME, take them out, or set how many pieces are kept from sale.

    The shops of a pool are those with --stock-owner pool:NAME (`fleet shops set`). What each shop holds is
    read from Shopify first. A sku that is new to the pool begins with what the shops hold alike, or with
    what --from SHOP holds; the other shops get that figure.

    \b
    Example: fleet stock pool mugs --sku MUG-0001 --from harbour --dry-run
             fleet stock pool mugs --all --from harbour
             fleet stock pool mugs --buffer 2
    """
    if not (skus or is_all or file or buffer is not None):
        raise click.UsageError("nothing to do: name --sku, --all, --csv or --buffer")
    who = audit_author(actor)
    done: dict[str, Any] = {"changed": not dry_run}
    with transaction() as tx:
        members = list_members(tx, name)
        slugs = [shop.slug for shop in members]
        if source and source not in slugs:
            raise PoolInvalid(f"--from {source} should be a shop of the pool: {', '.join(slugs)}")
        shop_skus = _parse_shop_skus(read_csv_file(file), slugs) if file else {}
        known = list_linked(tx, name)
        in_pool = {one.sku for one in known}
        every = in_pool if remove else _find_common(tx, members, known)
        wanted = {*skus, *(sku for _, sku in shop_skus)} | (every if is_all else set())
        shop_skus = {(one.slug, one.sku): one.shop_sku for one in known} | shop_skus
        links = [] if remove else plan_links(tx, plan_wanted_links(members, wanted, shop_skus))
    if remove:
        if missing := sorted(wanted - in_pool):
            raise PoolInvalid(f"sku={', '.join(missing)} is not in pool {name}: `fleet stock pools {name}`")
        done["removed"] = sorted(wanted)
        if not dry_run:
            with transaction() as tx:
                unlink_items(tx, name, wanted, utc_now(), **who)
    elif links:
        new = [link for link in links if link.key not in {LevelKey.from_row(one) for one in known}]
        held = _read_levels(new)
        figures = plan_figures(new, held, in_pool, source)
        done["linked"] = [
            {"sku": link.sku, "shop": link.shop.slug, **link.shop_key._asdict()} for link in new
        ]
        done["figures"] = [figure._asdict() for figure in figures]
        if not dry_run and new:
            with transaction() as tx:
                done["pushes"] = record_links(tx, name, new, figures, held, utc_now(), **who)
    if buffer is not None:
        done["safety_buffer"] = buffer
        if not dry_run:
            with transaction() as tx:
                done["pushes"] = done.get("pushes", 0) + set_buffer(tx, name, buffer, utc_now(), **who)
    print_json(done) if as_json else _print(name, done)


def _find_common(tx: Connection, members: Sequence[Shop], known: Sequence[Row[Any]]) -> set[str]:
    """Return the skus that every shop has; what is linked counts by its sku in the pool."""
    common = []
    for shop in members:
        linked = [one for one in known if one.slug == shop.slug and one.is_stocked]
        skus = set(list_shop_skus(tx, shop)) - {one.shop_sku for one in linked}
        common.append(skus | {one.sku for one in linked})
    return set.intersection(*common)


def _read_levels(links: Sequence[PoolLink]) -> HeldLevels:
    held = {}
    for shop in {link.shop.id: link.shop for link in links}.values():
        try:
            keys = [link.shop_key for link in links if link.shop.id == shop.id]
            held[shop.id] = open_admin(shop.id).fetch_levels(keys)
        except WorkError as fault:
            what = f"Shopify's levels could not be read ({fault}); nothing is linked, run it again"
            raise click.ClickException(f"{shop.slug}: {what}") from fault
    return held


def _parse_shop_skus(text: str, slugs: Sequence[str]) -> dict[tuple[str, str], str]:
    """Return the shops' own SKUs by (slug, sku); raise ``PoolInvalid`` naming each wrong line."""

    def parse(cells: Mapping[str, str], _: int) -> tuple[tuple[str, str], str]:
        sku, slug = cells["sku"], cells["shop"]
        if not sku:
            raise ValueError("sku='' should be a sku")
        if slug and slug not in slugs:
            raise ValueError(f"shop={slug!r} should be one of {', '.join(slugs)}")
        return (slug or slugs[0], sku), cells["shop_sku"] or sku

    return dict(parse_csv(text, ("sku", "shop", "shop_sku"), ("sku",), parse, PoolInvalid))


def _print(name: str, done: dict[str, Any]) -> None:
    is_done = done["changed"]
    if "linked" in done:
        columns = ("sku", "begins with", "as held by")
        figures = [tuple(one.values()) for one in done["figures"]]
        print_table(f"Pool {name}", columns, figures, "No sku is new to the pool.")
        click.echo(f"{'Linked' if is_done else 'Would link'} {format_count(len(done['linked']), 'level')}.")
    if "removed" in done:
        click.echo(f"{'Took' if is_done else 'Would take'} {', '.join(done['removed'])} out of pool {name}.")
    if "safety_buffer" in done:
        keeps = "keeps" if is_done else "would keep"
        click.echo(f"Pool {name} {keeps} {done['safety_buffer']} of each sku from sale.")
    if done.get("pushes"):
        pushes = format_count(done["pushes"], "push is", "pushes are")
        click.echo(f"{pushes} planned: fleet work list --topic inventory_push")
