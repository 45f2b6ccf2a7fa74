"""``fleet mail``: lists mails, stores decisions about stuck ones, and sets up how they are sent."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from sqlalchemy import Row

from services.cli.base import (
    CommandGroup,
    actor_option,
    add_options,
    audit_author,
    confirm,
    dry_run_option,
    find_shop_id,
    force_option,
    json_option,
    limit_option,
    notify_workers,
    shop_option,
)
from services.cli.mail.preview import MAIL_KIND, preview
from services.cli.mail.route import print_connections, transport
from services.cli.mail.send_test import test
from services.cli.mail.suppressions import suppressions
from services.cli.output import Columns, print_fields, print_json, print_list, print_table, to_document
from services.cli.params import MAIL, KnownType
from services.cli.usage import hidden_alias
from services.core.clock import utc_now
from services.core.db import transaction, transaction_or_plan
from services.mail.connection_lines import list_connection_lines
from services.mail.outbox_admin import (
    MailDecision,
    find_mails,
    get_mail,
    list_mail_events,
    mark_mail_delivered,
    resend_mail,
)
from services.mail.tables import STATUSES
from services.providers.outgoing_mail import mask_address
from services.shops.shops import find_slugs

_decision_options = add_options(
    click.argument("mail_id", type=MAIL),
    click.option("--reason", required=True, help="What you saw, for the audit."),
    force_option,
    dry_run_option,
    actor_option,
    json_option,
)


@click.group(cls=CommandGroup)
def command() -> None:
    """List the fleet's mails, decide about stuck ones, and set up how they are sent.

    \b
    Examples: fleet mail list --status unknown
              fleet mail test ada@example.com
              fleet mail preview daily_anomalies --shop harbour
    """


@command.command("list")
@shop_option
@click.option(
    "--status",
    type=KnownType("statuses", lambda: STATUSES, is_list=True),
    default="",
    help="Comma-separated: queued, sending, sent, unknown, refused.",
)
@click.option("--kind", type=MAIL_KIND, default="", help="Only this type of mail, such as daily_anomalies.")
@click.option("--bounced", is_flag=True, help="Only mails that bounced or were dropped after they were sent.")
@limit_option
@json_option
def list_mails(
    shop: str, status: tuple[str, ...], kind: str, bounced: bool, limit: int, as_json: bool
) -> None:
    """List mails, newest first; addresses are masked.

    \b
    Example: fleet mail list --status unknown,refused
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = find_mails(tx, shop_id=shop_id, statuses=status, kind=kind, is_bounced=bounced, limit=limit)
        slugs = find_slugs(tx)
    documents = [_document(line, slugs) for line in lines]
    columns: Columns = {
        "id": "id",
        "shop": lambda line: _shop(line, slugs),
        "kind": "kind",
        "period": "period",
        "to": lambda line: mask_address(line.recipient),
        "status": _state,
        "transport": "transport",
        "created": "created_at",
        "sent": "sent_at",
        "error": "error_code",
    }
    print_list("", columns, lines, documents, "No mail matches.", as_json=as_json)


def _state(line: Row[Any]) -> str:
    is_dropped = line.status in ("queued", "sending") and line.work_status in ("dead", "discarded")
    if is_dropped:
        return f"{line.status}, work is {line.work_status}"
    after = "bounced" if line.bounced_at else "delivered" if line.delivered_at else ""
    return f"{line.status}, {after}" if after else str(line.status)


@command.command("show")
@click.argument("mail_id", type=MAIL)
@json_option
def show(mail_id: int, as_json: bool) -> None:
    """Show one mail's status, with its address and its ids at the transport.

    \b
    Example: fleet mail show 42
    """
    with transaction() as tx:
        line = get_mail(tx, mail_id)
        document = _document(line, find_slugs(tx)) | {"recipient": line.recipient}
        events = list_mail_events(tx, mail_id)
    if as_json:
        print_json(document | {"events": events})
        return
    print_fields(f"Mail {line.id}", {name: value for name, value in document.items() if name != "shop_id"})
    if events:
        rows = [tuple(event.values()) for event in events]
        print_table("What the mail service reported", ("at", "what", "by", "details"), rows, "")
    if line.is_stuck:
        click.echo(
            "It is unknown whether it arrived. Ask the recipient or search for the Message-ID, then\n"
            f"  fleet mail mark-sent {line.id} --reason ...   if it did\n"
            f"  fleet mail resend {line.id} --reason ...      if it did not"
        )


@command.command()
@_decision_options
def resend(**options: Any) -> None:
    """Send a mail once more, as a new one.

    \b
    Example: fleet mail resend 42 --reason "not in her mailbox, nor in spam"
    """
    _decide("resend", resend_mail, "sent again", **options)


@command.command("mark-sent")
@_decision_options
def mark_sent(**options: Any) -> None:
    """Count a mail of unknown outcome as sent, because it arrived.

    \b
    Example: fleet mail mark-sent 42 --reason "she has it"
    """
    _decide("mark as sent", mark_mail_delivered, "marked as sent", **options)


@command.command()
@json_option
def accounts(as_json: bool) -> None:
    """List every connection that was ever used: whether it accepts our credentials, and since when.

    A connection is broken from the first refusal on, and ok with the next call or mail that succeeds.

    \b
    Example: fleet mail accounts
    """
    with transaction() as tx:
        lines = list_connection_lines(tx)
    if as_json:
        print_json([to_document(line) for line in lines])
    else:
        print_connections("", lines)


_aliases = (hidden_alias(mark_sent, "forget"), hidden_alias(accounts, "connections"))
for _command in (*_aliases, preview, suppressions, transport, test):
    command.add_command(_command)


def _decide(
    action: str,
    decide: Callable[..., Sequence[Any]],
    result: str,
    mail_id: int,
    reason: str,
    force: bool,
    dry_run: bool,
    actor: str,
    as_json: bool,
) -> None:
    with transaction() as tx:
        line = get_mail(tx, mail_id)
    question = f"{action}: mail {line.id}, {line.kind} to {line.recipient}, which is {line.status}?"
    confirm(question, force=force or dry_run)
    with transaction_or_plan(dry_run=dry_run) as tx:
        work = decide(tx, MailDecision(mail_id=mail_id, reason=reason, **audit_author(actor)), utc_now())
    note = "" if dry_run else notify_workers(work)
    text = f"mail {mail_id} {'would be' if dry_run else 'is'} {result}. {note}".strip()
    print_json({"id": mail_id, "changed": not dry_run, "note": text}) if as_json else click.echo(text)


def _document(line: Row[Any], slugs: dict[int, str]) -> dict[str, Any]:
    return line._asdict() | {"shop": _shop(line, slugs), "recipient": mask_address(line.recipient)}


def _shop(line: Row[Any], slugs: dict[int, str]) -> str:
    return "fleet" if line.shop_id is None else slugs.get(line.shop_id, str(line.shop_id))
