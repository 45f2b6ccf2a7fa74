"""``fleet outreach``: people who get reminders and sequences, their consents, and who would get what."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from services.cli.base import (
    CommandGroup,
    actor_option,
    audit_author,
    csv_option,
    dry_run_option,
    find_shop_id,
    json_option,
    limit_option,
    one_shop_option,
    read_csv_file,
    shop_option,
)
from services.cli.output import (
    Columns,
    print_json,
    print_lines,
    print_list,
    print_unchanged,
    safe_text,
    warn_if_cut,
)
from services.cli.params import INPUT_FILE, KnownType
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction, transaction_or_plan
from services.core.errors import InputInvalid
from services.core.times import format_time
from services.mail.suppressions import find_suppressed
from services.outreach.consents import withdraw
from services.outreach.people import find_ids, import_people, list_consents, list_people, parse_people_csv
from services.outreach.plan import TOO_LATE
from services.outreach.preview import SeriesPreview, preview_series
from services.outreach.series import SERIES, Series
from services.outreach.texts import USUAL, check_step, delete_text, read_texts, save_text
from services.shops.shops import find_slugs, get_shop, list_shops

_KIND = KnownType("kind", lambda: SERIES)
_EMAIL = click.option("--email", default="", help="Only the people with this address.")


@click.group("outreach", cls=CommandGroup)
def command() -> None:
    """Reminders and sequences: import people, see their consents, unsubscribe, preview.

    \b
    Example: fleet outreach people --shop harbour
    """


@command.command("import")
@one_shop_option
@csv_option("external_id,email and more, see docs/outreach.md")
@dry_run_option
@actor_option
@json_option
def import_file(shop: str, file: Path, dry_run: bool, actor: str, as_json: bool) -> None:
    """Import people, their activity and their consents; a second import of a file changes nothing.

    \b
    Example: fleet outreach import --shop harbour --csv people.csv --dry-run
    """
    now = utc_now()
    people = parse_people_csv(read_csv_file(file), now)
    if not people:
        raise InputInvalid(f"file={str(file)!r} has no line below its first")
    with transaction_or_plan(dry_run=dry_run) as tx:
        found = import_people(tx, get_shop(tx, shop).id, people, now=now, **audit_author(actor))
    if as_json:
        print_json({"shop": shop, "dry_run": dry_run, **found._asdict()})
        return
    would = "Would import" if dry_run else "Imported"
    click.echo(
        f"{would} {len(people):,} people of {shop}: {found.new:,} new, {found.changed:,} changed, "
        f"{found.unchanged:,} unchanged, {format_count(found.consents, 'new consent')}."
    )


@command.command("people")
@shop_option
@_EMAIL
@limit_option
@json_option
def people(shop: str, email: str, limit: int, as_json: bool) -> None:
    """List people with their zone, last activity, the consent that holds and what stops their mails.

    \b
    Example: fleet outreach people --shop harbour --email ada@example.com
    """
    with transaction() as tx:
        slugs = find_slugs(tx)
        found = list_people(tx, find_shop_id(tx, shop), email=email, limit=limit)
        reasons = find_suppressed(tx, {(one.shop_id, one.email) for one in found if one.email})
    columns: Columns = {
        "shop": lambda one: slugs[one.shop_id], "id": "external_id", "email": "email", "name": "name",
        "zone": "timezone",
        "signed up": lambda one: format_time(one.signed_up_at),
        "active": lambda one: format_time(one.last_active_at),
        "consent": _describe_consent,
        "stopped by": lambda one: ", ".join(reasons.get((one.shop_id, one.email), ())),
    }  # fmt: skip
    documents = _list_documents(found, slugs)
    for one in documents:
        one["stopped_by"] = reasons.get((one["shop_id"], one["email"]), ())
    empty = "No people: `fleet outreach import --shop SHOP --csv FILE`."
    print_list("", columns, found, documents, empty, as_json=as_json)


def _list_documents(found: Sequence[Any], slugs: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{**one._asdict(), "shop": slugs[one.shop_id]} for one in found]


def _describe_consent(one: Any) -> str:
    if one.withdrawn_at:
        return "withdrawn"
    until = f" until {format_time(one.expires_at)}" if one.expires_at else ""
    return f"{one.consent}{until}" if one.consent else "none"


@command.command("consents")
@shop_option
@_EMAIL
@limit_option
@json_option
def consents(shop: str, email: str, limit: int, as_json: bool) -> None:
    """List consents, newest first: basis, source, when they end and when they were withdrawn.

    \b
    Example: fleet outreach consents --shop harbour --json
    """
    with transaction() as tx:
        slugs = find_slugs(tx)
        found = list_consents(tx, find_shop_id(tx, shop), email=email, limit=limit)
    columns: Columns = {
        "shop": lambda one: slugs[one.shop_id], "id": "external_id", "email": "email", "basis": "basis",
        "source": "source",
        "given": lambda one: format_time(one.given_at), "ends": lambda one: format_time(one.expires_at),
        "withdrawn": lambda one: format_time(one.withdrawn_at), "by": "withdrawn_by",
    }  # fmt: skip
    print_list("", columns, found, _list_documents(found, slugs), "No consent.", as_json=as_json)


@command.command("unsubscribe")
@click.argument("email")
@one_shop_option
@dry_run_option
@actor_option
@json_option
def unsubscribe(email: str, shop: str, dry_run: bool, actor: str, as_json: bool) -> None:
    """Withdraw every consent of the people with an address: no mail goes to them from now on.

    \b
    Example: fleet outreach unsubscribe ada@example.com --shop harbour
    """
    now = utc_now()
    with transaction_or_plan(dry_run=dry_run) as tx:
        shop_id = get_shop(tx, shop).id
        ids = find_ids(tx, shop_id, email)
        if not ids:
            raise InputInvalid(f"email={email!r}: {shop} has nobody with this address")
        count = withdraw(tx, shop_id, ids, "command", now=now, **audit_author(actor))
    if as_json:
        document = {"shop": shop, "email": email, "people": len(ids), "consents": count}
        print_json(document | {"changed": not dry_run})
    elif not count:
        print_unchanged(f"{email} has no consent that holds. No commercial mail goes to it.")
    else:
        click.echo(
            f"{'Would withdraw' if dry_run else 'Withdrew'} {format_count(count, 'consent')} of {email}."
        )


@command.command("text")
@click.argument("kind", type=_KIND)
@one_shop_option
@click.option("--step", default="", help="Of the founder sequence: day1, day2 or day3.")
@click.option("--subject", help="May contain {name}, {shop} and {last_active}.")
@click.option("--file", type=INPUT_FILE, help="The text; - reads standard input.")
@click.option("--show", is_flag=True, help="Print the text in use; change nothing.")
@click.option("--default", "is_default", is_flag=True, help="Use the usual text again.")
@dry_run_option
@actor_option
@json_option
def text(
    kind: str,
    shop: str,
    step: str,
    subject: str | None,
    file: Path | None,
    show: bool,
    is_default: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Replace, show or take back the text of a series at a shop.

    Sender and link to unsubscribe are always added.

    \b
    Examples: fleet outreach text reminders --shop harbour --subject 'Hello {name}' --file body.txt
              fleet outreach text founder --shop harbour --step day1 --show
    """
    if [show, is_default, subject is not None or file is not None].count(True) != 1:
        raise click.UsageError("give --subject and --file, or --show, or --default")
    series = SERIES[kind]
    if show:
        _show_text(shop, series, step, as_json=as_json)
        return
    if not is_default and (subject is None or file is None):
        raise click.UsageError("a new text needs both --subject and --file")
    body = read_csv_file(file) if file else ""
    with transaction_or_plan(dry_run=dry_run) as tx:
        author: Any = {"now": utc_now(), **audit_author(actor)}
        found = get_shop(tx, shop)
        if subject is None:
            subject, _ = delete_text(tx, found, series, step, **author)
        else:
            save_text(tx, found, series, step, (subject, body), **author)
    if as_json:
        document = {"shop": shop, "kind": kind, "step": step, "subject": subject, "is_default": is_default}
        print_json(document | {"changed": not dry_run})
        return
    verb = "would have" if dry_run else "has"
    click.echo(f"{kind}{f' {step}' if step else ''} of {shop} {verb} the subject {subject!r}.")


def _show_text(shop: str, series: Series, step: str, *, as_json: bool) -> None:
    check_step(series, step)
    with transaction() as tx:
        subject, body = read_texts(tx, get_shop(tx, shop).id)[series.name, step]
    is_default = (subject, body) == USUAL[series.name, step]
    if as_json:
        document = {"shop": shop, "kind": series.name, "step": step, "is_default": is_default}
        print_json(document | {"subject": subject, "body": body})
        return
    click.echo("The usual text:" if is_default else f"The text of {shop}:")
    click.echo(f"Subject: {safe_text(subject)}\n\n{safe_text(body)}")


@command.command("preview")
@click.argument("kind", type=_KIND)
@shop_option
@limit_option
@json_option
def preview(kind: str, shop: str, limit: int, as_json: bool) -> None:
    """Show who would get a series now and when, and why not the others. Nothing is sent or stored.

    \b
    Example: fleet outreach preview reminders --shop harbour
    """
    now, found = utc_now(), dict[str, SeriesPreview]()
    with transaction() as tx:
        for one in [get_shop(tx, shop)] if shop else list_shops(tx):
            result = preview_series(tx, SERIES[kind], one, now, limit)
            if result.counts or shop:
                found[one.slug] = result
    for result in found.values():
        warn_if_cut(result.people)
    if as_json:
        print_json([_document(slug, one) for slug, one in found.items()])
        return
    if not found:
        click.echo("No shop has people: `fleet outreach import --shop SHOP --csv FILE`.")
    for slug, result in found.items():
        _print_preview(slug, result)


def _print_preview(slug: str, one: SeriesPreview) -> None:
    if one.fault:
        click.echo(f"{slug} sends nothing: {one.fault}")
    people = {name: count for name, count in one.counts.items() if name != TOO_LATE}
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(people.items()))
    late = one.counts.get(TOO_LATE, 0)
    lost = f"; {format_count(late, 'step')} {TOO_LATE}" if late else ""
    click.echo(f"{slug}: {counts or 'nobody'}{lost}")
    columns: Columns = {
        "id": "external_id", "email": "email", "step": "step", "result": "result",
        "starts": lambda person: format_time(person.starts_at),
    }  # fmt: skip
    print_lines("", columns, one.people, "Nobody is in the audience.")


def _document(slug: str, one: SeriesPreview) -> dict[str, Any]:
    return {"shop": slug, **one._asdict(), "people": [person._asdict() for person in one.people]}
