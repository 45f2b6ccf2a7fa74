"""``fleet month-close``: show, preview and verify monthly packages; set a tax profile."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from services.audit.queries import use_snapshot
from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    one_shop_option,
)
from services.cli.output import Columns, print_fields, print_json, print_list, print_table
from services.cli.params import MONTH, OUTPUT_FOLDER
from services.cli.usage import hidden_alias
from services.closing.corrections import (
    ClosedMonth,
    Correction,
    find_closed_month,
    find_new_corrections,
    list_checked_months,
    list_closed_months,
    list_corrections,
    merge_corrections,
)
from services.closing.month_package import MANIFEST_NAME, build_package, find_costs, list_package_faults
from services.closing.profit_and_loss import (
    format_account,
    list_count_notes,
    net_sales,
    sum_statement,
    sum_tax,
)
from services.closing.tax_profile import TaxProfile, find_tax_profile, record_tax_profile
from services.closing.tax_rates import TAXES
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.ledger.audit_text import format_money, format_money_change
from services.providers.object_store import open_store
from services.shops.shops import Shop, get_shop


@click.group("month-close", cls=CommandGroup)
def command() -> None:
    """Show, preview and verify monthly packages; set where a shop collects sales tax.

    A job closes the month: fleet jobs run monthly-close --shop SHOP --period 2026-10

    \b
    Example: fleet month-close show 2026-10 --shop harbour
    """


@command.command("show", shop_position=0)
@click.argument("period", type=MONTH, default="")
@one_shop_option
@json_option
def show(shop: str, period: str, as_json: bool) -> None:
    """Show the figures, files, hashes and corrections of a closed month; without PERIOD list all of them.

    \b
    Example: fleet month-close show 2026-10 --shop harbour --json
    """
    with transaction() as tx:
        stored = get_shop(tx, shop, is_removed_allowed=True)
        if not period:
            _print_months(stored, list_closed_months(tx, stored.id), as_json=as_json)
            return
        closed = _get_closed(tx, stored, period)
        corrections = list_corrections(tx, stored.id, period=period)
        of_earlier = list_corrections(tx, stored.id, found_in=period)
    if as_json:
        print_json(
            {**closed._asdict(), "shop": shop, "corrections": [c._asdict() for c in corrections],
             "told_here": [c._asdict() for c in of_earlier]}
        )  # fmt: skip
        return
    head = {
        "closed at": closed.closed_at,
        "zone": closed.figures["zone"],
        "manifest": closed.manifest_key,
        "its SHA-256": closed.manifest_sha256,
    }
    print_fields(f"{stored.name}: {period}", head)
    for currency, accounts in closed.figures["accounts"].items():
        sums = sum_statement(accounts, closed.figures["counts"])
        sums = {label[:1].lower() + label[1:]: cents for label, cents in sums.items()}
        sums |= {f"{tax} to remit": cents for tax, cents in sum_tax(accounts).items()}
        print_fields(f"\n{currency}", {name: format_money(cents, currency) for name, cents in sums.items()})
    for note in list_count_notes(closed.figures["counts"]):
        click.echo(f"\n{note}")
    click.echo()
    rows = [(file["name"], file["size"], file["sha256"]) for file in closed.files]
    print_table("Files", ("file", "bytes", "SHA-256"), rows, "No files.")
    _print_corrections("Changed since it was closed", corrections)
    _print_corrections("Corrections of earlier months in this package", of_earlier)


@command.command("preview", shop_position=0)
@click.argument("period", type=MONTH)
@one_shop_option
@click.option("--to", "folder", type=OUTPUT_FOLDER, required=True)
@json_option
def preview(shop: str, period: str, folder: Path, as_json: bool) -> None:
    """Write the files of a month as of today into a folder; nothing is closed, stored or sent.

    Works for the current month, and for a closed one, which does not change.

    \b
    Example: fleet month-close preview 2026-11 --shop harbour --to november
    """
    store = open_store(get_settings().archive_url)
    with transaction() as tx:
        stored = get_shop(tx, shop)
        earlier = list_checked_months(tx, stored.id, period)
    costs = {closed.period: find_costs(store, closed) for closed in earlier}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with transaction() as tx:
            use_snapshot(tx)
            new = find_new_corrections(tx, stored.id, earlier, costs)
            corrections = merge_corrections(list_corrections(tx, stored.id, found_in=period), new)
            package = build_package(tx, stored, period, stored.zone, corrections, folder)
    except OSError as fault:
        reason = f"{folder} cannot be written: {fault.strerror}. Name another folder with --to"
        raise click.ClickException(reason) from fault
    if as_json:
        document = {"folder": str(folder), "figures": package.figures, "manifest_sha256": package.sha256}
        print_json(document | {"files": package.files})
        return
    for file in package.files:
        click.echo(f"{folder / file['name']}  {format_count(file['size'], 'byte')}")
    click.echo(f"{folder / MANIFEST_NAME}")
    for note in list_count_notes(package.figures["counts"]):
        click.echo(note)
    click.echo("Nothing was closed.")


@command.command("verify", shop_position=0)
@click.argument("period", type=MONTH)
@one_shop_option
@json_option
def verify(shop: str, period: str, as_json: bool) -> None:
    """Check a stored package against its manifest and its row. Exit code 1 if anything differs.

    \b
    Example: fleet month-close verify 2026-10 --shop harbour
    """
    store = open_store(get_settings().archive_url)
    with transaction() as tx:
        closed = _get_closed(tx, get_shop(tx, shop, is_removed_allowed=True), period)
    faults = list(list_package_faults(store, closed.manifest_key, closed.manifest_sha256, closed.files))
    if as_json:
        print_json({"status": "altered" if faults else "verified", "faults": faults})
    else:
        for fault in faults:
            click.secho(fault, fg="red", bold=True)
        state = "not as it was closed" if faults else "as it was closed"
        files = format_count(len(closed.files), "file")
        click.echo(f"{period}: {files} with their manifest, {state}; in {store.describe()}")
    if faults:
        raise click.exceptions.Exit(1)


@command.command("tax-profile", shop_position=0)
@one_shop_option
@click.option("--province", help="The shop's own province, such as CA-BC.")
@click.option("--gst", "gst_number", help="GST/HST number, such as '123456789 RT0001'.")
@click.option("--pst", "pst_number", help="PST number of that province.")
@click.option("--qst", "qst_number", help="QST number.")
@click.option("--registered", help=f"Taxes it must collect: {','.join(TAXES)} or PST:CA-SK; '' for none.")
@click.option(
    "--pst-exempt",
    help="Goods without provincial tax: type:Bicycles, tag:NAME or sku:SKU, by comma; '' for none.",
)
@dry_run_option
@actor_option
@json_option
def tax_profile(
    shop: str,
    registered: str | None,
    pst_exempt: str | None,
    dry_run: bool,
    actor: str,
    as_json: bool,
    **options: str | None,
) -> None:
    """Set where a shop collects sales tax and its registration numbers; without options show them.

    \b
    Example: fleet month-close tax-profile --shop harbour --province CA-BC --registered GST,PST
    """
    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if registered is not None:
        changes["registered"] = _split_list(registered)
    if pst_exempt is not None:
        changes["pst_exempt"] = _split_list(pst_exempt)
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = get_shop(tx, shop).id
        if changes:
            profile = record_tax_profile(tx, shop_id, changes, now=utc_now(), **audit_author(actor))
        else:
            profile = find_tax_profile(tx, shop_id)
    document = _profile_document(profile)
    title = f"Tax profile of {shop}" + (" (would be)" if dry_run else "")
    print_json(document) if as_json else print_fields(title, document)


def _split_list(text: str) -> list[str]:
    return sorted({one for part in text.split(",") if (one := part.strip())})


close = hidden_alias(command, "close")


def _profile_document(profile: TaxProfile) -> dict[str, Any]:
    registered = profile.registered
    every = "not set: every tax in the rates"
    return {
        "province": profile.province,
        "registered": every if registered is None else ", ".join(sorted(registered)),
        "PST-exempt goods": ", ".join(profile.pst_exempt),
        **{f"{tax} number": profile.numbers.get(tax, "") for tax in ("GST", "PST", "QST")},
    }


def _print_months(shop: Shop, months: list[ClosedMonth], *, as_json: bool) -> None:
    columns: Columns = {
        "month": "period",
        "closed at": "closed_at",
        "net sales": lambda closed: format_money(
            net_sales(closed.figures["accounts"].get(shop.currency, {})), shop.currency
        ),
        "manifest": lambda closed: closed.manifest_sha256[:16],
    }
    empty = f"No month of {shop.slug} was closed yet: fleet jobs run monthly-close --shop {shop.slug}"
    if shop.removed_at:
        empty = f"No month of {shop.slug} was closed before the shop was removed"
    documents = [closed._asdict() for closed in months]
    print_list("", columns, months, documents, empty, as_json=as_json)


def _print_corrections(title: str, corrections: list[Correction]) -> None:
    rows = [
        (c.period, format_account(c.account), format_money_change(c.before, c.after, c.currency))
        for c in corrections
    ]
    print_table(title, ("month", "account", "was -> is"), rows, f"{title}: nothing.")


def _get_closed(tx: Connection, shop: Shop, period: str) -> ClosedMonth:
    if closed := find_closed_month(tx, shop.id, period):
        return closed
    hint = f": fleet jobs run monthly-close --shop {shop.slug} --period {period}"
    if shop.removed_at:
        hint = f" and cannot be: the shop was removed on {shop.removed_at:%Y-%m-%d}"
    elif (ends := period_bounds(Covers.MONTH, period, shop.zone)[1]) > utc_now():
        to_do = f"fleet month-close preview {period} --shop {shop.slug} --to FOLDER"
        hint = f": it ends {format_time(ends, shop.zone)}. Its figures until now: {to_do}"
    raise click.ClickException(f"{period} of {shop.slug} is not closed{hint}")
