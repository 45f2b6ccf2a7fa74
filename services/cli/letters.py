"""``fleet letters``: the weekly letters to owners; a person reads, changes, approves or holds each."""

from collections.abc import Callable
from datetime import UTC, date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
from sqlalchemy import Connection, Row

from services.cli.base import (
    CommandGroup,
    Decorator,
    ReportingCommand,
    actor_option,
    add_options,
    audit_author,
    dry_run_option,
    json_option,
    limit_option,
    notify_workers,
    read_csv_file,
    shop_option,
)
from services.cli.output import Columns, print_fields, print_json, print_list, safe_text, to_document
from services.cli.params import INPUT_FILE, ParsedType, RowType
from services.closing.letters import (
    add_planned,
    approve_letter,
    describe_state,
    edit_letter,
    get_letter,
    hold_letter,
    list_letters,
    list_planned,
    remove_planned,
)
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.core.errors import InputInvalid
from services.core.settings import get_settings
from services.core.times import format_time
from services.jobs.definition import Covers
from services.jobs.schedule import period_bounds
from services.ledger.accept import record_work
from services.shops.shops import get_shop

LETTER = RowType("letter", "owner_letters", "fleet letters list")
PLANNED = RowType("planned change", "planned_changes", "fleet letters planned")


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputInvalid(f"{text!r} should be a day such as 2026-12-07") from None


def _parse_week(text: str) -> str:
    try:
        if text:
            period_bounds(Covers.WEEK, text, UTC)
    except ValueError:
        raise InputInvalid(f"{text!r} should be a week such as 2026-W47") from None
    return text


DAY, WEEK = ParsedType("day", _parse_day), ParsedType("week", _parse_week)
letter_argument = click.argument("letter", type=LETTER)
change_options: Decorator = add_options(dry_run_option, actor_option, json_option)


@click.group("letters", cls=CommandGroup)
def command() -> None:
    """Weekly letters to shop owners: drafted on Monday 08:00, mailed on Tuesday 10:00 in the shop's zone.

    Until then a person may read and change a letter, mail it earlier, or hold it.

    \b
    Example: fleet letters list --week 2026-W47
    """


@command.command("list")
@shop_option
@click.option("--week", type=WEEK, default="", help="Only letters about this week, such as 2026-W47.")
@limit_option
@json_option
def list_all(shop: str, week: str, limit: int, as_json: bool) -> None:
    """List letters, the newest week first: the state, and when each is or was mailed.

    \b
    Example: fleet letters list --shop harbour
    """
    with transaction() as tx:
        shop_ids = [get_shop(tx, shop, is_removed_allowed=True).id] if shop else None
        letters = list_letters(tx, shop_ids=shop_ids, week=week, limit=limit)
    columns: Columns = {
        "id": "id", "shop": "slug", "week": "week", "state": describe_state,
        "mailed": _describe_mailing, "subject": "subject",
    }  # fmt: skip
    none = "There is no letter: the job owner-letter drafts them on Monday 08:00."
    print_list("", columns, letters, [_make_document(one) for one in letters], none, as_json=as_json)


def _describe_mailing(letter: Row[Any]) -> str:
    zone = ZoneInfo(letter.timezone)
    if letter.status == "draft":
        return f"planned {format_time(letter.send_at, zone)}"
    return format_time(letter.sent_at, zone)


def _make_document(letter: Row[Any]) -> dict[str, Any]:
    """Return a letter as JSON values."""
    document = to_document(letter)
    document["shop"], document["state"] = document.pop("slug"), describe_state(letter)
    return document


@command.command("show")
@letter_argument
@json_option
def show(letter: int, as_json: bool) -> None:
    """Print a letter as its owner will read it.

    \b
    Example: fleet letters show 1
    """
    with transaction() as tx:
        found = get_letter(tx, letter)
    if as_json:
        print_json(_make_document(found))
        return
    zone = ZoneInfo(found.timezone)
    by = f"by {found.decided_by}" if found.decided_by else ""
    print_fields(
        f"Letter {found.id} of {found.slug} for {found.week}",
        {
            "state": " ".join(part for part in (describe_state(found), by, found.reason) if part),
            "planned": format_time(found.send_at, zone),
            "mailed": format_time(found.sent_at, zone),
            "changed": f"{format_time(found.edited_at, zone)} {found.edited_by}".strip(),
            "subject": found.subject,
        },
    )
    click.echo()
    for paragraph in found.body.split("\n\n"):
        click.echo(safe_text(paragraph) + "\n")


@command.command("edit", cls=ReportingCommand)
@letter_argument
@click.option("--subject", default="", help="The new subject.")
@click.option(
    "--file", type=INPUT_FILE, help="A file with the new text, paragraphs apart by an empty line; -."
)
@change_options
def edit(letter: int, subject: str, file: Path | None, dry_run: bool, actor: str, as_json: bool) -> None:
    """Replace the subject, the text, or both, of a letter that is not mailed yet.

    \b
    Example: fleet letters edit 1 --subject 'Your week, and the new reports'
             fleet letters show 1 --json | jq -r .body > letter.txt
             fleet letters edit 1 --file letter.txt
    """
    if not subject and file is None:
        raise click.UsageError("give --subject, --file, or both")
    body = read_csv_file(file) if file else ""

    def act(tx: Connection, **author: Any) -> Row[Any]:
        found = get_letter(tx, letter)
        return edit_letter(tx, letter, subject or found.subject, body or found.body, **author)

    _change(act, "changed", dry_run=dry_run, actor=actor, as_json=as_json)


@command.command("approve", cls=ReportingCommand)
@letter_argument
@change_options
def approve(letter: int, dry_run: bool, actor: str, as_json: bool) -> None:
    """Mail a letter now, also one that is held.

    \b
    Example: fleet letters approve 1
    """

    def act(tx: Connection, **author: Any) -> Row[Any]:
        found, work = approve_letter(tx, letter, **author)
        refs = record_work(tx, [work], author["now"])
        if not dry_run:
            sent.extend(refs)
        return found

    sent: list[Any] = []
    _change(act, "approved: the workers mail it now", dry_run=dry_run, actor=actor, as_json=as_json)
    notify_workers(sent)


@command.command("hold", cls=ReportingCommand)
@letter_argument
@click.option("--reason", default="", help="Why, for the audit and for other operators.")
@change_options
def hold(letter: int, reason: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Keep a letter until a person approves it.

    \b
    Example: fleet letters hold 1 --reason 'the cause of the outage is not known yet'
    """

    def act(tx: Connection, **author: Any) -> Row[Any]:
        return hold_letter(tx, letter, reason=reason, **author)

    _change(act, "held until a person approves it", dry_run=dry_run, actor=actor, as_json=as_json)


def _change(act: Callable[..., Row[Any]], done: str, *, dry_run: bool, actor: str, as_json: bool) -> None:
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = act(tx, now=utc_now(), **audit_author(actor))
    if as_json:
        print_json(_make_document(found) | {"changed": not dry_run})
        return
    verb = "would be" if dry_run else "is"
    click.echo(f"Letter {found.id} of {found.slug} for {found.week} {verb} {done}.")


@command.command("planned")
@shop_option
@json_option
def planned(shop: str, as_json: bool) -> None:
    """List the planned changes that letters announce until their day is over.

    \b
    Example: fleet letters planned
    """
    today = utc_now().astimezone(get_settings().zone).date()
    with transaction() as tx:
        changes = list_planned(tx, today, get_shop(tx, shop).id if shop else None)
    columns: Columns = {
        "id": "id", "on": "planned_on", "shop": lambda line: line.slug or "all", "text": "text",
        "by": "added_by",
    }  # fmt: skip
    documents = [to_document(one) for one in changes]
    none = "Nothing is planned: `fleet letters plan --help`."
    print_list("", columns, changes, documents, none, as_json=as_json)


@command.command("plan", cls=ReportingCommand)
@click.argument("text")
@click.option("--on", "planned_on", type=DAY, required=True, help="2026-12-07.")
@shop_option
@change_options
def plan(text: str, planned_on: date, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Announce a planned change in the letters of all owners, or of one shop's.

    Letters that are drafted already stay as they are: `fleet letters edit`.

    \b
    Example: fleet letters plan 'the reports page moves, from 06:00 to 06:10' --on 2030-12-07
    """
    now = utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = get_shop(tx, shop) if shop else None
        today = now.astimezone(found.zone if found else get_settings().zone).date()
        shop_id = found.id if found else None
        number = add_planned(tx, text, planned_on, today, shop_id, now=now, **audit_author(actor))
    if as_json:
        print_json(
            {"id": number, "planned_on": str(planned_on), "shop": shop or None, "changed": not dry_run}
        )
        return
    whom = f"the owner of {shop}" if shop else "all owners"
    verb = "would be" if dry_run else "is"
    click.echo(f"Planned change {number} {verb} announced to {whom} until {planned_on} is over.")


@command.command("unplan", cls=ReportingCommand)
@click.argument("planned", type=PLANNED)
@change_options
def unplan(planned: int, dry_run: bool, actor: str, as_json: bool) -> None:
    """Delete a planned change, so that no further letter announces it.

    \b
    Example: fleet letters unplan 1
    """
    with transaction_or_plan(dry_run=dry_run) as tx:
        row = remove_planned(tx, planned, now=utc_now(), **audit_author(actor))
    if as_json:
        print_json({"id": planned, "text": row.text, "changed": not dry_run})
        return
    click.echo(f"Planned change {planned} {'would be' if dry_run else 'is'} deleted.")
