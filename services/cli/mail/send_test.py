"""``fleet mail test``: a mail that goes the way of all others, and what became of it."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import click
from sqlalchemy import Connection

from services.cli.base import (
    actor_option,
    json_option,
    new_request_id,
    notify_workers,
    operator_label,
    report_errors,
)
from services.cli.mail.route import format_route
from services.cli.mail.test_status import TestStatus, judge, plan_late
from services.cli.output import print_json, safe_text, to_document
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.ledger.accept import WorkRef, record_work
from services.ledger.queries import get_work
from services.mail.advice import MailSender
from services.mail.compose import compose
from services.mail.outbox import record_mails
from services.mail.outbox_admin import get_mail
from services.mail.routes import find_routes
from services.mail.system_mails import plan_test
from services.mail.transports import Route
from services.providers.outgoing_mail import AddressInvalid, ascii_address
from services.shops.shops import Shop, get_shop

LOOK_EVERY_SECONDS = 0.1


@click.command("test")
@click.argument("address")
@click.option("--shop", "slug", default="", help="As this shop's mail leaves (default: as the fleet's own).")
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(0, 600), default=30, show_default=True, help="Seconds."
)
@click.option("--no-wait", is_flag=True, help="Put it into the outbox, and do not wait for its fate.")
@actor_option
@json_option
@click.pass_context
@report_errors
def test(
    ctx: click.Context,
    address: str,
    slug: str,
    wait_seconds: float,
    no_wait: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Send a mail to ADDRESS as any other is sent, wait for its fate, and say what to do about it.

    Exit code 0: the other side took charge of it (or --no-wait). 1: it did not, or not in time.

    \b
    Example: fleet mail test ada@example.com --shop harbour
    """
    try:
        ascii_address(address)
    except AddressInvalid as fault:
        raise click.UsageError(str(fault)) from fault
    now = utc_now()
    with transaction() as tx:
        shop = get_shop(tx, slug) if slug else None
        route = _get_route(tx, shop)
        mail_id, ref = _record(tx, address, shop, route, operator_label(actor), now)
    told = notify_workers([ref])
    way = MailSender(route.transport, slug, is_own=route.owner == route.account)
    if told and not as_json:
        click.echo(told, err=True)
    fate = _look(mail_id, ref.id, way, now)
    if not no_wait:
        until = now + timedelta(seconds=wait_seconds)
        for fate in _follow(mail_id, ref.id, way, until):
            if not as_json and not fate.is_final:
                click.echo(f"mail {mail_id}: {safe_text(fate.said)}", err=True)
        if not fate.is_sent and not fate.is_final:
            fate = plan_late(fate, wait_seconds)
    if as_json:
        print_json(to_document(fate) | {"is_sent": fate.is_sent})
    else:
        click.echo(f"mail {mail_id}: {safe_text(fate.said)}")
        if fate.to_do:
            click.echo(f"To do: {safe_text(fate.to_do)}")
    ctx.exit(0 if fate.is_sent or no_wait else 1)


def _get_route(tx: Connection, shop: Shop | None) -> Route:
    key = shop.id if shop else None
    route = find_routes(tx, {key})[key]
    if isinstance(route, Misconfigured):
        command = f"fleet mail transport {shop.slug}" if shop else "fleet doctor"
        raise click.ClickException(
            f"nothing was sent, as nothing can be: {route.code}: {route}. `{command}` says more"
        )
    return route


def _record(
    tx: Connection, address: str, shop: Shop | None, route: Route, by: str, now: datetime
) -> tuple[int, WorkRef]:
    facts = plan_test(transport=format_route(route), sender=route.sender, asked_by=by, asked_at=now)
    mail = compose(
        "test",
        facts,
        shop=shop,
        recipient=address,
        period=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        zone=shop.zone if shop else get_settings().zone,
    )
    work = record_mails(tx, [mail], now, request_id=new_request_id())
    if not work:
        raise click.ClickException("a test to this address was asked for in this very second: ask again")
    (ref,) = record_work(tx, work, now)
    return int(work[0].key), ref


def _look(mail_id: int, work_id: int, way: MailSender, until: datetime) -> TestStatus:
    with transaction() as tx:
        work = get_work(tx, work_id)  # the mail after it: where the work is done, the mail says how it ended
        return judge(get_mail(tx, mail_id), work, way, until)


def _follow(mail_id: int, work_id: int, way: MailSender, until: datetime) -> Iterator[TestStatus]:
    """Yield the fate whenever it says something new, until it is final or ``until`` is there."""
    said = ""
    while True:
        fate = _look(mail_id, work_id, way, until)
        if fate.said != said:
            said = fate.said
            yield fate
        if fate.is_final or utc_now() >= until:
            return
        time.sleep(LOOK_EVERY_SECONDS)
