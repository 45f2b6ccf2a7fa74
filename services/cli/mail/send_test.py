"""``fleet mail test``: sends a test mail through the outbox and prints its result."""

import time
from datetime import datetime, timedelta
from typing import Any

import click
from sqlalchemy import Connection, Row

from services.cli.base import (
    ReportingCommand,
    actor_option,
    json_option,
    new_request_id,
    notify_workers,
    operator_label,
)
from services.cli.mail.route import format_route
from services.cli.output import print_json, safe_text
from services.cli.params import SHOP, ParsedType
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid, Misconfigured
from services.core.log_redaction import quote_value
from services.core.setting_urls import is_full_address, is_mail_address
from services.core.settings import get_settings
from services.core.times import format_time
from services.ledger.accept import WorkRef, record_work
from services.ledger.queries import WorkLine, get_work
from services.mail.compose import compose_mail
from services.mail.outbox import record_mails
from services.mail.outbox_admin import get_mail
from services.mail.remedies import MailSender, find_remedy
from services.mail.routes import find_routes
from services.mail.system_mails import TEST_MAIL
from services.mail.transports import MailRoute
from services.providers.outgoing_mail import AddressInvalid, ascii_address
from services.shops.shops import Shop, get_shop

POLL_SECONDS = 0.1


def _parse_address(text: str) -> str:
    if is_mail_address(text) and not is_full_address(text):
        example = f"{text.rpartition('@')[0]}@example.com"
        raise InputInvalid(
            f"{quote_value(text)} has a domain without a period: it should be such as {example}"
        )
    try:
        ascii_address(text)
    except AddressInvalid as fault:
        raise InputInvalid(str(fault)) from fault
    return text


ADDRESS = ParsedType("address", _parse_address)


@click.command("test", cls=ReportingCommand)
@click.argument("address", type=ADDRESS, metavar="ADDRESS")
@click.option(
    "--shop", "slug", type=SHOP, default="", help="Send as this shop's mail (default: as the fleet's)."
)
@click.option(
    "--timeout",
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 600, min_open=True),
    default=30,
    show_default=True,
    help="Most seconds to wait.",
)
@click.option("--no-wait", is_flag=True, help="Put it into the outbox and do not wait for its status.")
@actor_option
@json_option
@click.pass_context
def test(
    ctx: click.Context, address: str, slug: str, wait_seconds: float, no_wait: bool, actor: str, as_json: bool
) -> None:
    """Send a test mail to ADDRESS through the outbox, wait for its status, and print what to do.

    Exit code 0: the mail server accepted it (or --no-wait). 1: it did not, or not in time.

    \b
    Example: fleet mail test ada@example.com --shop harbour
    """
    now = utc_now()
    with transaction() as tx:
        shop = get_shop(tx, slug) if slug else None
        route = _get_route(tx, shop)
        mail_id, work = _record(tx, address, shop, route, operator_label(actor), now)
    note = notify_workers([work])
    if note and not as_json:
        click.echo(note, err=True)
    sender = MailSender(route.transport, slug, is_own=route.owner == route.account)
    until = now if no_wait else now + timedelta(seconds=wait_seconds)
    status = _wait(mail_id, work.id, sender, until, is_silent=as_json or no_wait)
    if not (no_wait or status["is_sent"] or status["is_final"]):
        status["message"] = f"not sent within {wait_seconds:g} s: {status['message']}"
        hint = "check with fleet doctor that a worker of queue email runs and nothing is paused"
        status["to_do"] = f"{hint}; then {status['to_do']}"
    if as_json:
        print_json(status)
    else:
        to_do = f"\nTo do: {status['to_do']}" if status["to_do"] else ""
        click.echo(safe_text(f"mail {mail_id}: {status['message']}{to_do}"))
    ctx.exit(0 if status["is_sent"] or no_wait else 1)


def _get_route(tx: Connection, shop: Shop | None) -> MailRoute:
    key = shop.id if shop else None
    route = find_routes(tx, {key})[key]
    if isinstance(route, Misconfigured):
        command = f"fleet mail transport --shop {shop.slug}" if shop else "fleet doctor"
        raise click.ClickException(f"no mail can be sent: {route.code}: {route}. See `{command}`")
    return route


def _record(
    tx: Connection, address: str, shop: Shop | None, route: MailRoute, by: str, now: datetime
) -> tuple[int, WorkRef]:
    mail = compose_mail(
        TEST_MAIL,
        {"transport": format_route(route), "sender": route.sender, "requested_by": by, "requested_at": now},
        shop=shop,
        recipient=address,
        period=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        zone=shop.zone if shop else get_settings().zone,
    )
    work = record_mails(tx, [mail], now, request_id=new_request_id())
    if not work:
        raise click.ClickException("a test mail to this address has the same second: try again")
    (ref,) = record_work(tx, work, now)
    return int(work[0].key), ref


def _wait(
    mail_id: int, work_id: int, sender: MailSender, until: datetime, *, is_silent: bool
) -> dict[str, Any]:
    """Return the status once it is final, or at ``until``; print the changes before unless ``is_silent``."""
    printed = ""
    while True:
        with transaction() as tx:
            work = get_work(tx, work_id)  # before the mail: once the work is done, the mail has its result
            status = _plan_status(get_mail(tx, mail_id), work, sender, until)
        if status["is_final"]:
            return status
        if status["message"] != printed and not is_silent:
            printed = status["message"]
            click.echo(f"mail {mail_id}: {safe_text(printed)}", err=True)
        if utc_now() >= until:
            return status
        time.sleep(POLL_SECONDS)


def _plan_status(mail: Row[Any], work: WorkLine, sender: MailSender, until: datetime) -> dict[str, Any]:
    """Return the status of a test mail, and what to do. ``until`` is when the command stops waiting.

    ``is_final`` is false while a worker may still change the status.
    """
    code, detail = work.error_code or mail.error_code or "", work.last_error or mail.last_error or ""
    reason = f"{code}: {detail}" if code else ""
    status, is_final, to_do = mail.status, True, ""
    remedy, show = find_remedy(code, sender), f"fleet mail show {mail.id}"
    if mail.status == "sent":
        code, text = "", f"sent through {mail.transport}, Message-ID {mail.message_id}"
        text += f"; the service's id is {mail.provider_id}" if mail.provider_id else ""
    elif mail.status == "unknown":
        text, to_do = f"handed over, and it is unknown whether it arrived: {reason}", show
    elif mail.status == "refused":
        text, to_do = f"refused: {reason}", remedy or show
    elif work.status in ("dead", "discarded"):
        status, text = work.status, f"not sent: {reason}"
        to_do = remedy or f"correct what the message describes; then celery -A tasks requeue --id {work.id}"
    elif work.next_retry_at is not None and work.locked_at is None:
        is_final = work.next_retry_at > until
        text = f"waits until {format_time(work.next_retry_at)}: {reason}"
        to_do = f"nothing, it is retried automatically; see {show} and fleet mail accounts"
    else:
        is_final, to_do = False, show
        text = "a worker sends it" if work.locked_at or work.status != "pending" else "waits for a worker"
    return {
        "mail_id": mail.id,
        "status": status,
        "is_final": is_final,
        "message": text,
        "code": code,
        "to_do": to_do,
        "transport": mail.transport,
        "message_id": mail.message_id,
        "provider_id": mail.provider_id,
        "is_sent": status == "sent",
    }
