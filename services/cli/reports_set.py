"""``fleet reports set | pause | resume | remove``: changes the scheduled reports of a company."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import (
    Decorator,
    ReportingCommand,
    actor_option,
    add_options,
    audit_author,
    dry_run_option,
    json_option,
    one_shop_option,
)
from services.cli.output import print_json
from services.cli.params import KnownType
from services.core.clock import utc_now
from services.core.db import transaction_or_plan
from services.core.errors import InputInvalid
from services.core.times import format_time
from services.jobs.definition import Covers
from services.jobs.schedule import explain_schedule, list_next_slots
from services.shops.shops import Shop, get_shop
from services.timesheets.definition import FILTERS, WEEK_BEGINS, ReportDefinition, describe
from services.timesheets.overtime import RULES
from services.timesheets.report_files import FORMATS
from services.timesheets.report_kinds import KINDS
from services.timesheets.store import find_report, get_report, remove_report, save_report

name_argument = click.argument("name", metavar="REPORT")
change_options: Decorator = add_options(one_shop_option, dry_run_option, actor_option, json_option)


def document_report(
    one: ReportDefinition, shop: Shop, last: Row[Any] | None, now: datetime
) -> dict[str, Any]:
    """Return what the commands show of a report; ``last`` is its newest run."""
    (slot,) = list_next_slots(one.schedule, shop.zone, now)
    return {
        "shop": shop.slug,
        "name": one.name,
        **describe(one),
        "when": f"{explain_schedule(one.schedule)} ({shop.timezone})",
        "next": "paused" if one.paused_at else format_time(slot, shop.zone),
        "last": f"{last.period} {last.status}" if last else "-",
    }


def _parse_ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InputInvalid(f"{text!r} should be numbers with commas, such as 12,15")
    return [int(part) for part in parts]


@click.command("set", cls=ReportingCommand)
@name_argument
@click.option("--kind", type=KnownType("kind", lambda: KINDS), help=f"One of {', '.join(KINDS)}.")
@click.option("--schedule", help="Five cron fields in the company's zone: '0 6 * * 1' is Mondays at 06:00.")
@click.option(
    "--covers",
    type=KnownType("period", lambda: [*Covers]),
    help="What each report covers: day, week or month.",
)
@click.option("--recipients", help="Mail addresses with commas; they replace the former ones.")
@click.option("--formats", help=f"Files of the mail, with commas: {', '.join(FORMATS)}; '' for none.")
@click.option("--overtime", type=KnownType("rule", lambda: RULES), help=f"The rule: {', '.join(RULES)}.")
@click.option("--week-begins", type=KnownType("day", lambda: WEEK_BEGINS), help="monday or sunday.")
@click.option("--day-begins", type=click.IntRange(0, 23), help="The local hour at which a day begins.")
@click.option("--user-ids", help="Only these people, by QuickBooks Time's number, with commas; '' for all.")
@click.option("--jobcode-ids", help="Only these job codes; '' for all.")
@click.option("--group-ids", help="Only these groups; '' for all.")
@change_options
def set_report(name: str, shop: str, dry_run: bool, actor: str, as_json: bool, **given: Any) -> None:
    """Add a report, or change the given fields of one.

    \b
    Example: fleet reports set Pay --shop harbour --kind payroll --schedule '0 6 * * 1' --recipients a@b.ca
             fleet reports set Pay --shop harbour --formats xlsx,pdf --overtime CA-BC --week-begins sunday
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        stored = get_shop(tx, shop)
        before = find_report(tx, stored.id, " ".join(name.split()))
        report = save_report(tx, _merge(before, name, stored, given), now=utc_now(), **audit_author(actor))
    document = document_report(report, stored, None, utc_now())
    if as_json:
        print_json(document | {"changed": not dry_run})
        return
    verb = ("would be " if dry_run else "") + ("changed" if before else "added")
    click.echo(f"Report {report.name!r} of {shop} {verb}: {document['when']}; next {document['next']}.")


def _merge(before: ReportDefinition | None, name: str, shop: Shop, given: dict[str, Any]) -> ReportDefinition:
    values = {key: value for key, value in given.items() if value is not None}
    filters = dict(before.filters) if before else {}
    for key in FILTERS:
        if key in values:
            filters[key] = _parse_ids(values.pop(key))
    for key in ("recipients", "formats"):
        if key in values:
            values[key] = [part.strip() for part in values[key].split(",") if part.strip()]
    if "covers" in values:
        values["covers"] = Covers(values["covers"])
    if before is not None:
        return replace(before, **values, filters=filters)
    missing = [key for key in ("kind", "schedule", "recipients") if key not in values]
    if missing:
        options = ", ".join(f"--{key}" for key in missing)
        raise click.UsageError(f"{shop.slug} has no report {name!r} yet: a new one needs {options} too")
    is_live = KINDS[values["kind"]].is_live
    usual: dict[str, Any] = {"covers": Covers.MOMENT if is_live else Covers.WEEK}
    return ReportDefinition(name=name, shop_id=shop.id, filters=filters, **usual | values)


def _pause(name: str, shop: str, *, is_paused: bool, dry_run: bool, actor: str, as_json: bool) -> None:
    now = utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        report = get_report(tx, get_shop(tx, shop).id, name)
        paused_at = (report.paused_at or now) if is_paused else None
        save_report(tx, replace(report, paused_at=paused_at), now=now, **audit_author(actor))
    state = "paused" if is_paused else "resumed"
    if as_json:
        print_json({"shop": shop, "report": name, "is_paused": is_paused, "changed": not dry_run})
    else:
        click.echo(f"Report {name!r} of {shop} {'would be ' if dry_run else ''}{state}.")


@click.command("pause", cls=ReportingCommand)
@name_argument
@change_options
def pause(name: str, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Stop sending a report by its schedule; `send` still works.

    \b
    Example: fleet reports pause Payroll --shop harbour
    """
    _pause(name, shop, is_paused=True, dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("resume", cls=ReportingCommand)
@name_argument
@change_options
def resume(name: str, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Send a paused report again, from its next time on.

    \b
    Example: fleet reports resume Payroll --shop harbour
    """
    _pause(name, shop, is_paused=False, dry_run=dry_run, actor=actor, as_json=as_json)


@click.command("remove", cls=ReportingCommand)
@name_argument
@change_options
def remove(name: str, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Delete a report with its history; mails that went out stay.

    \b
    Example: fleet reports remove Payroll --shop harbour
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        report = get_report(tx, get_shop(tx, shop).id, name)
        remove_report(tx, report, now=utc_now(), **audit_author(actor))
    if as_json:
        print_json({"shop": shop, "report": name, "changed": not dry_run})
    else:
        click.echo(f"Report {name!r} of {shop} {'would be ' if dry_run else ''}removed.")
