"""``fleet mail transport``: how a shop's mail is sent, where each value comes from, and how to change it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from sqlalchemy import Connection

from services.cli.base import (
    ReportingCommand,
    actor_option,
    audit_author,
    dry_run_option,
    json_option,
    one_shop_option,
)
from services.cli.output import print_json, print_table, safe_text, to_document
from services.cli.params import KnownType
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, join_faults
from services.core.settings import MAIL_TRANSPORTS, get_settings
from services.core.times import format_time
from services.mail.connection_lines import ConnectionLine, list_shop_lines
from services.mail.remedies import MailSender, find_remedy
from services.mail.routes import find_routes
from services.mail.transports import SECRETS, MailRoute
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from services.shops.mail_transport import (
    OF_GRAPH,
    MailChoice,
    get_mail_choice,
    list_choice_faults,
    plan_mail_choice,
    record_mail_choice,
)
from services.shops.secrets import find_secrets, list_secret_states
from services.shops.shops import Shop, ShopInvalid, get_shop

OWN, FLEETS = "the shop's own", "the fleet's"
COLUMNS = ("shop", "provider", "state", "since", "code", "details", "what to do")


@click.command("transport", cls=ReportingCommand, shop_position=0)
@one_shop_option
@click.option(
    "--use",
    "transport",
    type=KnownType("transport", lambda: MAIL_TRANSPORTS),
    help="Its own account: smtp, graph, sendgrid, resend or file.",
)
@click.option("--sender", help='"Harbour <mail@harbour.example>"; "" is the fleet\'s.')
@click.option("--tenant-id", help="For graph: the tenant's id, or a domain of it.")
@click.option("--client-id", help="For graph: the app's id.")
@click.option("--mailbox", help="For graph: the mailbox it sends from.")
@click.option("--default", "is_default", is_flag=True, help="Send as the fleet does.")
@dry_run_option
@actor_option
@json_option
def transport(
    shop: str, is_default: bool, dry_run: bool, actor: str, as_json: bool, **options: str | None
) -> None:
    """Show how the mail of a shop is sent, and where each value comes from; with options, change it.

    Record the secret first (fleet shops secret): without it nothing is changed. Workers use the new values at
    once, without a restart.

    \b
    Examples: fleet mail transport --shop harbour
              fleet mail transport --shop harbour --use resend --sender "Harbour <mail@harbour.example>"
              fleet mail transport --shop harbour --default
    """
    changes = {field: value for field, value in options.items() if value is not None}
    if is_default:
        if set(changes) - {"sender"}:
            raise click.UsageError("--default is the fleet's transport: only --sender can be added")
        changes = {"transport": "", "sender": "", **changes}
    with transaction() as tx:
        stored = get_shop(tx, shop)
        before = get_mail_choice(tx, stored.id, is_locked=bool(changes) and not dry_run)
        after = plan_mail_choice(before, changes)
        if changes:
            _check(tx, stored, after)
        is_new = after != before
        if is_new and not dry_run:
            record_mail_choice(tx, stored, after, now=utc_now(), **audit_author(actor))
        document = _describe_route(tx, stored)
    if as_json:
        change = {"changed": is_new and not dry_run, "would_change": is_new, "after": after.document}
        print_json(document | (change if changes else {}))
        return
    if changes:
        click.echo(safe_text(_describe_change(stored, before, after, dry_run=dry_run)))
    if not dry_run:
        _print_mail_route(document)


def _describe_route(tx: Connection, shop: Shop) -> dict[str, Any]:
    """Return how the shop's mail is sent, without its secret. Without a ``fault`` it can be sent."""
    settings = get_settings()
    choice = get_mail_choice(tx, shop.id)
    route = find_routes(tx, {shop.id})[shop.id]
    used, is_own = choice.transport or settings.mail_transport, bool(choice.transport)
    lines = [one for one in list_shop_lines(tx, shop.id, shop.slug) if one.is_used and one.provider == used]
    fault, to_do = "", ""
    if isinstance(route, Misconfigured):
        fault = f"{route.code}: {route}"
        to_do = find_remedy(route.code, MailSender(used, shop.slug, is_own=is_own))
    sender, sender_source = (
        (choice.sender, OWN) if choice.sender else (settings.mail_from, f"{FLEETS} MAIL_FROM")
    )
    values = [
        ("transport", used, OWN if is_own else f"{FLEETS} MAIL_TRANSPORT"),
        ("sender", sender, sender_source),
    ]
    if used == "graph":
        fleets = (settings.graph_tenant_id, settings.graph_client_id, settings.graph_sender)
        names = ("GRAPH_TENANT_ID", "GRAPH_CLIENT_ID", "GRAPH_SENDER")
        for field, fleets_value, setting in zip(OF_GRAPH, fleets, names, strict=True):
            own = (field, getattr(choice, field), OWN)
            values.append(own if is_own else (field, fleets_value, f"{FLEETS} {setting}"))
    elif used == "smtp" and isinstance(route, MailRoute):
        values.append(
            ("server", _format_server(route.secret), f"{OWN} smtp-url" if is_own else f"{FLEETS} SMTP_URL")
        )
    elif used == "file":
        folder = settings.mail_folder / str(shop.id) if is_own else settings.mail_folder
        values.append(("folder", str(folder), f"{FLEETS} MAIL_FOLDER"))
    if name := SECRETS.get(choice.transport, ""):
        states = {state.name: state for state in list_secret_states(tx, shop.id, utc_now())}
        value = f"recorded {format_time(states[name].recorded_at)}" if name in states else "missing"
        values.append(("secret", value, f"fleet shops secret {shop.slug} {name} --stdin"))
    return {
        "shop": shop.slug,
        "values": [{"name": name, "value": value, "source": source} for name, value, source in values],
        "fault": fault,
        "to_do": to_do,
        "connection": to_document(lines[0]) if lines else None,
    }


def format_route(route: MailRoute) -> str:
    """Return the transport of ``route`` and where it sends to: ``smtp, mail.example.com``."""
    options = dict(route.options)
    where = {
        "smtp": _format_server(route.secret, with_port=False) if route.transport == "smtp" else "",
        "graph": options.get("mailbox", ""),
        "file": options.get("folder", ""),
    }.get(route.transport)
    return f"{route.transport}, {where}" if where else route.transport


def print_connections(title: str, lines: Sequence[ConnectionLine]) -> None:
    """Print ``lines`` as a table."""
    empty = "No connection was used yet: fleet mail test ADDRESS uses one."
    print_table(title, COLUMNS, [line.cells for line in lines], empty)


def _print_mail_route(route: dict[str, Any]) -> None:
    rows = [tuple(value.values()) for value in route["values"]]
    print_table(f"Mail of {route['shop']}", ("what", "value", "where it comes from"), rows, "")
    faults, line = [], route["connection"]
    if line is None:
        click.echo(f"Connection: not used yet. fleet mail test ADDRESS --shop {route['shop']}")
    elif line["status"] == "ok":
        click.echo(f"Connection: ok since {format_time(line['since'])}")
    else:
        broken = f"broken since {format_time(line['since'])}, {line['code']}: {line['detail']}"
        faults.append((f"Connection: {broken}", line["to_do"]))
    if route["fault"]:
        faults.append((f"It cannot be sent: {route['fault']}", route["to_do"]))
    for fault, to_do in faults:
        click.echo(safe_text(f"{fault}\nTo do: {to_do or 'correct what the message describes'}"))


def _format_server(url: str, *, with_port: bool = True) -> str:
    """Return the mail server of ``url``. A plain ``#`` or ``/`` in a password ends the host."""
    parts = urlsplit(url)
    try:
        server = parse_smtp_url(url)
    except SmtpUrlInvalid:
        server = None
    if server is None or parts.path.strip("/") or parts.query or parts.fragment:
        return "not readable: special characters should be percent-encoded"
    return f"{server.host}:{server.port}" if with_port else server.host


def _check(tx: Connection, shop: Shop, choice: MailChoice) -> None:
    """Raise ``ShopInvalid`` with every fault of ``choice``, including a missing secret."""
    faults = list_choice_faults(choice)
    if name := SECRETS.get(choice.transport):
        secret = find_secrets(tx, [(shop.id, name)]).get((shop.id, name))
        if not isinstance(secret, str):
            fault = f"{name} cannot be decrypted ({secret})" if secret else f"{shop.slug} has no {name}"
            faults.append(f"{fault}: record it first, fleet shops secret {shop.slug} {name} --stdin")
    if faults:
        raise ShopInvalid(join_faults(faults))


def _describe_change(shop: Shop, before: MailChoice, after: MailChoice, *, dry_run: bool) -> str:
    if before == after:
        return f"{shop.slug}: mail already uses {after}, nothing changed."
    verb = "would use" if dry_run else "uses"
    test = "" if dry_run else f"\nNext: fleet mail test ADDRESS --shop {shop.slug}"
    return f"{shop.slug}: mail {verb} {after}; before: {before}.{test}"
