"""``fleet mail transport``: how a shop's mail leaves, where that comes from, and another way for it."""

import click
from sqlalchemy import Connection

from services.cli.base import (
    actor_option,
    dry_run_option,
    json_option,
    new_request_id,
    operator_label,
    report_errors,
)
from services.cli.mail.route import find_mail_route, print_mail_route
from services.cli.output import print_json, safe_text, to_document
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.mail.transports import SECRETS
from services.shops.mail_transport import (
    MailChoice,
    find_choice_faults,
    get_mail_choice,
    plan_mail_choice,
    record_mail_choice,
)
from services.shops.secrets import find_secrets
from services.shops.shops import Shop, ShopInvalid, get_shop


@click.command("transport")
@click.argument("slug")
@click.option("--use", help="Its own account: smtp, graph, sendgrid, resend or file.")
@click.option("--sender", help='"Harbour <mail@harbour.example>"; "" is the fleet\'s.')
@click.option("--tenant-id", help="For graph: the tenant's id, or a domain of it.")
@click.option("--client-id", help="For graph: the app's id.")
@click.option("--mailbox", help="For graph: the mailbox it sends from.")
@click.option("--default", "is_default", is_flag=True, help="As the fleet's mail leaves.")
@dry_run_option
@actor_option
@json_option
@report_errors
def transport(
    slug: str,
    use: str | None,
    is_default: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
    **options: str | None,
) -> None:
    """Show how the mail of shop SLUG leaves, and where each value comes from; with options, change it.

    Record the secret first (fleet shops secret): without it nothing is changed. Workers follow at once,
    without a restart.

    \b
    Examples: fleet mail transport harbour
              fleet mail transport harbour --use resend --sender "Harbour <mail@harbour.example>"
              fleet mail transport harbour --default
    """
    given = {field: value for field, value in options.items() if value is not None}
    changes = _plan_changes(use, is_default, given)
    with transaction() as tx:
        shop = get_shop(tx, slug)
        before = get_mail_choice(tx, shop.id, is_locked=bool(changes) and not dry_run)
        after = plan_mail_choice(before, changes)
        if changes:
            _check(tx, shop, after)
        is_new = after != before
        if is_new and not dry_run:
            record_mail_choice(
                tx, shop, after, now=utc_now(), by=operator_label(actor), request_id=new_request_id()
            )
        way = find_mail_route(tx, shop)
    if as_json:
        told = {"changed": is_new and not dry_run, "would_change": is_new, "after": after.document}
        print_json(to_document(way) | (told if changes else {}))
        return
    if changes:
        click.echo(safe_text(_say(shop, before, after, dry_run=dry_run)))
    if not dry_run:
        print_mail_route(way)


def _plan_changes(use: str | None, is_default: bool, given: dict[str, str]) -> dict[str, str]:
    if not is_default:
        return given | ({} if use is None else {"transport": use})
    if use is not None or set(given) - {"sender"}:
        raise click.UsageError("--default is the fleet's own way: it goes with --sender alone")
    return {"transport": "", "sender": "", **given}


def _check(tx: Connection, shop: Shop, choice: MailChoice) -> None:
    """Every fault at once. A missing secret is one: the shop's mail would lie dead until it came."""
    faults = find_choice_faults(choice)
    if name := SECRETS.get(choice.transport):
        secret = find_secrets(tx, [(shop.id, name)]).get((shop.id, name))
        command = f"fleet shops secret {shop.slug} {name} --stdin"
        if secret is None:
            faults.append(f"{shop.slug} has no {name}: record it first, {command}")
        elif isinstance(secret, SealBroken):
            faults.append(f"{name} does not open ({secret}): record it again, {command}")
    if faults:
        raise ShopInvalid("; ".join(faults))


def _say(shop: Shop, before: MailChoice, after: MailChoice, *, dry_run: bool) -> str:
    if before == after:
        return f"{shop.slug}: mail leaves through {after} already, nothing changed."
    would = "would leave" if dry_run else "leaves"
    test = "" if dry_run else f"\nNext: fleet mail test ADDRESS --shop {shop.slug}"
    return f"{shop.slug}: mail {would} through {after}; before, through {before}.{test}"
