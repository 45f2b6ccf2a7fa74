"""``fleet mail list|show|resend|forget``: the outbox, and what only a person can decide about a mail."""

from typing import Any

import click

from services.cli.base import (
    actor_option,
    confirm,
    find_shop_id,
    force_option,
    json_option,
    limit_option,
    new_request_id,
    notify_workers,
    operator_label,
    report_errors,
    split_list,
)
from services.cli.output import print_fields, print_json, print_table
from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.outbox_admin import (
    Decision,
    MailLine,
    find_mails,
    get_mail,
    mark_mail_delivered,
    resend_mail,
)
from services.providers.outgoing_mail import mask_address
from services.shops.shops import find_slugs


@click.command("list")
@click.option("--shop", default="", help="Only this shop (its slug).")
@click.option("--status", default="", help="Comma-separated: queued, sending, sent, unknown, refused.")
@click.option("--kind", default="", help="Only this kind, such as daily_anomalies.")
@limit_option
@json_option
@report_errors
def list_mails(shop: str, status: str, kind: str, limit: int, as_json: bool) -> None:
    """List mails, newest first; addresses are masked.

    \b
    Example: fleet mail list --status unknown,refused
    """
    with transaction() as tx:
        shop_id = find_shop_id(tx, shop)
        lines = find_mails(tx, shop_id=shop_id, statuses=split_list(status), kind=kind, limit=limit)
        slugs = find_slugs(tx)
    if as_json:
        print_json([_document(line, slugs) for line in lines])
        return
    print_table(
        "",
        ("id", "shop", "kind", "period", "to", "status", "transport", "created", "sent", "fault"),
        [
            (
                line.id,
                _shop(line, slugs),
                line.kind,
                line.period,
                mask_address(line.recipient),
                _status(line),
                line.transport,
                line.created_at,
                line.sent_at,
                line.error_code or "",
            )
            for line in lines
        ],
        "No mail matches.",
    )


@click.command("show")
@click.argument("mail_id", type=int)
@json_option
@report_errors
def show(mail_id: int, as_json: bool) -> None:
    """Show one mail's fate, with its address and its ids at the transport.

    \b
    Example: fleet mail show 42
    """
    with transaction() as tx:
        line = get_mail(tx, mail_id)
        slugs = find_slugs(tx)
    document = _document(line, slugs) | {"recipient": line.recipient}
    if as_json:
        print_json(document)
        return
    print_fields(f"Mail {line.id}", {name: value for name, value in document.items() if name != "shop_id"})
    if line.is_stuck:
        click.echo(
            "Nobody knows whether it arrived. Ask its reader, or search for the Message-ID, then\n"
            f"  fleet mail forget {line.id} --reason ...   if it did\n"
            f"  fleet mail resend {line.id} --reason ...   if it did not"
        )


@click.command()
@click.argument("mail_id", type=int)
@click.option("--reason", required=True, help="Why, for the audit.")
@force_option
@actor_option
@report_errors
def resend(mail_id: int, reason: str, force: bool, actor: str) -> None:
    """Send a mail once more, as a new one.

    \b
    Example: fleet mail resend 42 --reason "not in her mailbox, nor in spam"
    """
    _decide("resend", mail_id, reason, force, actor)


@click.command()
@click.argument("mail_id", type=int)
@click.option("--reason", required=True, help="What you saw, for the audit.")
@force_option
@actor_option
@report_errors
def forget(mail_id: int, reason: str, force: bool, actor: str) -> None:
    """Count a mail of unknown outcome as sent, because it arrived.

    \b
    Example: fleet mail forget 42 --reason "she has it"
    """
    _decide("forget", mail_id, reason, force, actor)


def _decide(what: str, mail_id: int, reason: str, force: bool, actor: str) -> None:
    with transaction() as tx:
        line = get_mail(tx, mail_id)
    confirm(f"{what} mail {line.id}, {line.kind} to {line.recipient}, which is {line.status}?", force=force)
    decision = Decision(mail_id=mail_id, by=operator_label(actor), reason=reason, request_id=new_request_id())
    with transaction() as tx:
        refs = (resend_mail if what == "resend" else mark_mail_delivered)(tx, decision, utc_now())
    told = notify_workers(refs)
    click.echo(f"mail {mail_id}: {'goes out again' if what == 'resend' else 'counts as sent'}")
    if told:
        click.echo(told)


def _document(line: MailLine, slugs: dict[int, str]) -> dict[str, Any]:
    return line._asdict() | {
        "shop": _shop(line, slugs),
        "recipient": mask_address(line.recipient),
        "is_stuck": line.is_stuck,
    }


def _shop(line: MailLine, slugs: dict[int, str]) -> str:
    return "fleet" if line.shop_id is None else slugs.get(line.shop_id, str(line.shop_id))


def _status(line: MailLine) -> str:
    if line.status in ("queued", "sending") and line.work_status in ("dead", "discarded"):
        return f"{line.status}, work is {line.work_status}"
    return line.status
