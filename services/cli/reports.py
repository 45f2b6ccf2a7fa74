"""``fleet reports``: the scheduled reports of a company; preview, send and history."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row

from services.cli.base import (
    CommandGroup,
    audit_author,
    json_option,
    limit_option,
    notify_workers,
    one_shop_option,
    shop_option,
)
from services.cli.incident_link import incident_option, link_incident
from services.cli.output import Columns, print_json, print_list, print_table, safe_text
from services.cli.params import OUTPUT_FOLDER
from services.cli.reports_set import (
    change_options,
    document_report,
    name_argument,
    pause,
    remove,
    resume,
    set_report,
)
from services.core.clock import utc_now
from services.core.db import Page, transaction, transaction_or_plan
from services.core.errors import WorkError
from services.core.times import format_time
from services.shops.connections import recorded_calls
from services.shops.shops import find_slugs, get_shop, list_shops
from services.timesheets.compose import MadeReport, make_report
from services.timesheets.report_files import format_row
from services.timesheets.store import (
    check_period,
    get_report,
    list_reports,
    list_runs,
    start_report,
)

_PERIOD = click.option(
    "--period", default="", help="Such as 2026-W47, 2026-11 or 2026-11-20 (default: the newest that is over)."
)


@click.group("reports", cls=CommandGroup)
def command() -> None:
    """Reports on hours worked that companies get by mail: list, change, preview, send, history.

    They are made from QuickBooks Time. A report goes out once for each period.

    \b
    Example: fleet reports list --shop harbour
    """


@command.command("list")
@shop_option
@json_option
def list_all(shop: str, as_json: bool) -> None:
    """List the reports with their schedule in words, the next time, and how the last one ended.

    \b
    Example: fleet reports list --shop harbour --json
    """
    now = utc_now()
    with transaction() as tx:
        shops = {one.id: one for one in list_shops(tx) if shop in ("", one.slug)}
        found = [one for one in list_reports(tx) if one.shop_id in shops]
        last = {one.id: next(iter(list_runs(tx, report_id=one.id, limit=1)), None) for one in found}
    documents = [document_report(one, shops[one.shop_id], last[one.id], now) for one in found]
    columns: Columns = {
        "shop": "shop", "report": "name", "kind": "kind", "when": "when", "next": "next", "last": "last",
        "recipients": lambda line: len(line["recipients"]),
    }  # fmt: skip
    print_list(
        "", columns, documents, documents, "No report is set: `fleet reports set --help`.", as_json=as_json
    )


@command.command("preview")
@name_argument
@_PERIOD
@one_shop_option
@click.option("--folder", type=OUTPUT_FOLDER, help="Write the files into this folder, too.")
@json_option
def preview(name: str, period: str, shop: str, folder: Path | None, as_json: bool) -> None:
    """Make a report and print it; nothing is stored or sent.

    \b
    Example: fleet reports preview Payroll --shop harbour --period 2026-W47 --folder /tmp/payroll
    """
    now = utc_now()
    with transaction() as tx:
        stored = get_shop(tx, shop)
        report = get_report(tx, stored.id, name)
    period = check_period(report, period, now, stored.zone) if period else report.period_at(now, stored.zone)
    try:
        with recorded_calls(stored.id):
            made = make_report(report, stored, period, now)
    except WorkError as fault:
        raise click.ClickException(f"{fault.code}: {fault.detail}") from fault
    written = _write_files(made, folder) if folder else []
    if as_json:
        print_json(
            {
                "shop": shop, "report": name, "period": period, "notes": made.table.notes, "files": written,
                "columns": [one.title for one in made.table.columns],
                "rows": [format_row(row, made.table) for row in made.table.rows],
                "totals": format_row(made.table.totals, made.table),
            }
        )  # fmt: skip
        return
    lines = [format_row(row, made.table) for row in made.table.rows]
    if lines and any(value is not None for value in made.table.totals):
        lines.append(["Total", *format_row(made.table.totals, made.table)[1:]])
    titles = [one.title for one in made.table.columns]
    print_table(f"{made.head.name}: {made.head.period}", titles, lines, "No time was recorded.")
    for note in made.table.notes:
        click.echo(safe_text(note))
    for path in written:
        click.echo(f"Wrote {path}")


def _write_files(made: MadeReport, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for file in made.files:
        (folder / file.name).write_bytes(file.content)
    return [str(folder / file.name) for file in made.files]


@command.command("send")
@name_argument
@_PERIOD
@incident_option
@change_options
def send(
    name: str, period: str, incident: int | None, shop: str, dry_run: bool, actor: str, as_json: bool
) -> None:
    """Send a report now; one that went out for the period does not go again.

    \b
    Example: fleet reports send Payroll --shop harbour --period 2026-W47
    """
    author: Any = {"now": utc_now(), **audit_author(actor)}
    with transaction_or_plan(dry_run=dry_run) as tx:
        stored = get_shop(tx, shop)
        report = get_report(tx, stored.id, name)
        started = start_report(tx, report, stored, period or None, origin="cli", **author)
        if started.ref:
            link_incident(tx, incident, f"report {name!r} for {started.period} started", **author)
    note = notify_workers([started.ref]) if started.ref and not dry_run else ""
    if as_json:
        print_json(
            {"shop": shop, "report": name, "period": started.period, "status": started.status,
             "started": started.ref is not None and not dry_run}
        )  # fmt: skip
        return
    if started.ref is None:
        click.echo(f"{name!r} for {started.period} is {started.status} already: it does not go again.")
        return
    sent = "would be sent" if dry_run else "is sent by the workers: `fleet reports history` shows the result"
    click.echo(f"{name!r} for {started.period} {sent}.")
    if note:
        click.echo(note)


@command.command("history")
@click.argument("name", metavar="[REPORT]", default="")
@shop_option
@limit_option
@json_option
def history(name: str, shop: str, limit: int, as_json: bool) -> None:
    """List the runs of reports, newest first, with the reason of a failure.

    \b
    Example: fleet reports history Payroll --shop harbour
    """
    with transaction() as tx:
        slugs = find_slugs(tx)
        runs = _find_runs(tx, name, shop, limit)
    columns: Columns = {
        "shop": lambda run: slugs[run.shop_id], "report": "name", "period": "period", "status": "status",
        "sent at": lambda run: format_time(run.sent_at), "by": "started_by",
        "reason": lambda run: f"{run.error_code}: {run.error}" if run.error_code else "",
    }  # fmt: skip
    documents = [{**run._asdict(), "shop": slugs[run.shop_id]} for run in runs]
    print_list("", columns, runs, documents, "No report has run.", as_json=as_json)


def _find_runs(tx: Connection, name: str, shop: str, limit: int) -> Page[Row[Any]]:
    if name and not shop:
        raise click.UsageError("a report belongs to a shop: give --shop too")
    shop_id = get_shop(tx, shop).id if shop else None
    report = get_report(tx, shop_id, name) if name and shop_id else None
    return list_runs(tx, shop_id=shop_id, report_id=report.id if report else None, limit=limit)


for changing in (set_report, pause, resume, remove):
    command.add_command(changing)
