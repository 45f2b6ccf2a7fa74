"""``fleet mail transport``: how a shop's mail is sent, where each value comes from, and how to change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import click
from sqlalchemy import Connection

from services.cli.base import actor_option, audit_author, dry_run_option, json_option, report_errors
from services.cli.output import format_time, print_json, print_table, safe_text, to_document
from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import Settings, get_settings
from services.mail.advice import MailSender, plan_advice
from services.mail.connection_lines import ConnectionLine, find_lines_of
from services.mail.routes import find_routes
from services.mail.transports import SECRETS, Route
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from services.shops.mail_transport import (
    OF_GRAPH,
    MailChoice,
    find_choice_faults,
    get_mail_choice,
    plan_mail_choice,
    record_mail_choice,
)
from services.shops.secrets import find_secret_states, find_secrets
from services.shops.shops import Shop, ShopInvalid, get_shop

OWN = "the shop's own"
COLUMNS = ("shop", "provider", "state", "since", "code", "details", "what to do")


@dataclass(frozen=True, slots=True)
class RouteValue:
    """One value of a route, and where it comes from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRoute:
    """How the mail of ``shop`` is sent. Without a ``fault`` it can be; ``connection`` is None until used."""

    shop: str
    values: tuple[RouteValue, ...]
    fault: str
    to_do: str
    connection: ConnectionLine | None


@click.command("transport")
@click.argument("slug")
@click.option("--use", help="Its own account: smtp, graph, sendgrid, resend or file.")
@click.option("--sender", help='"Harbour <mail@harbour.example>"; "" is the fleet\'s.')
@click.option("--tenant-id", help="For graph: the tenant's id, or a domain of it.")
@click.option("--client-id", help="For graph: the app's id.")
@click.option("--mailbox", help="For graph: the mailbox it sends from.")
@click.option("--default", "is_default", is_flag=True, help="Send as the fleet does.")
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
    """Show how the mail of shop SLUG is sent, and where each value comes from; with options, change it.

    Record the secret first (fleet shops secret): without it nothing is changed. Workers use the new values at
    once, without a restart.

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
            record_mail_choice(tx, shop, after, now=utc_now(), **audit_author(actor))
        route = find_mail_route(tx, shop)
    if as_json:
        change = {"changed": is_new and not dry_run, "would_change": is_new, "after": after.document}
        print_json(to_document(route) | (change if changes else {}))
        return
    if changes:
        click.echo(safe_text(_describe_change(shop, before, after, dry_run=dry_run)))
    if not dry_run:
        _print_mail_route(route)


def find_mail_route(tx: Connection, shop: Shop) -> MailRoute:
    """Return how the shop's mail is sent, without its secret."""
    settings = get_settings()
    choice = get_mail_choice(tx, shop.id)
    route = find_routes(tx, {shop.id})[shop.id]
    used = choice.transport or settings.mail_transport
    lines = [line for line in find_lines_of(tx, shop.id, shop.slug) if line.is_used and line.provider == used]
    fault, to_do = "", ""
    if isinstance(route, Misconfigured):
        fault = f"{route.code}: {route}"
        to_do = plan_advice(route.code, MailSender(used, shop.slug, is_own=bool(choice.transport)))
    values = [
        RouteValue("transport", used, OWN if choice.transport else "the fleet's MAIL_TRANSPORT"),
        RouteValue("sender", choice.sender, OWN)
        if choice.sender
        else RouteValue("sender", settings.mail_from, "the fleet's MAIL_FROM"),
        *_list_account(choice, shop, route if isinstance(route, Route) else None, settings),
        *_list_secret(tx, choice, shop),
    ]
    return MailRoute(
        shop=shop.slug,
        values=tuple(values),
        fault=fault,
        to_do=to_do,
        connection=lines[0] if lines else None,
    )


def format_route(route: Route) -> str:
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


def _print_mail_route(route: MailRoute) -> None:
    rows = [(one.name, one.value, one.source) for one in route.values]
    print_table(f"Mail of {route.shop}", ("what", "value", "where it comes from"), rows, "")
    line = route.connection
    if line is None:
        click.echo(f"Connection: not used yet. fleet mail test ADDRESS --shop {route.shop}")
    elif line.status == "ok":
        click.echo(f"Connection: ok since {format_time(line.since)}")
    else:
        _print_fault(
            f"Connection: broken since {format_time(line.since)}, {line.code}: {line.detail}", line.to_do
        )
    if route.fault:
        _print_fault(f"It cannot be sent: {route.fault}", route.to_do)


def _print_fault(fault: str, to_do: str) -> None:
    click.echo(safe_text(f"{fault}\nTo do: {to_do or 'repair what it says'}"))


def _list_account(
    choice: MailChoice, shop: Shop, route: Route | None, settings: Settings
) -> list[RouteValue]:
    is_own = bool(choice.transport)
    match choice.transport or settings.mail_transport:
        case "graph" if is_own:
            return [RouteValue(name, getattr(choice, name), OWN) for name in OF_GRAPH]
        case "graph":
            return [
                RouteValue("tenant_id", settings.graph_tenant_id, "the fleet's GRAPH_TENANT_ID"),
                RouteValue("client_id", settings.graph_client_id, "the fleet's GRAPH_CLIENT_ID"),
                RouteValue("mailbox", settings.graph_sender, "the fleet's GRAPH_SENDER"),
            ]
        case "smtp" if route:
            source = f"{OWN} smtp-url" if is_own else "the fleet's SMTP_URL"
            return [RouteValue("server", _format_server(route.secret), source)]
        case "file":
            folder = settings.mail_folder / str(shop.id) if is_own else settings.mail_folder
            return [RouteValue("folder", str(folder), "the fleet's MAIL_FOLDER")]
    return []


def _list_secret(tx: Connection, choice: MailChoice, shop: Shop) -> list[RouteValue]:
    name = SECRETS.get(choice.transport, "")
    if not name:
        return []
    states = {state.name: state for state in find_secret_states(tx, shop.id, utc_now())}
    value = f"recorded {format_time(states[name].recorded_at)}" if name in states else "missing"
    return [RouteValue("secret", value, f"fleet shops secret {shop.slug} {name} --stdin")]


def _format_server(url: str, *, with_port: bool = True) -> str:
    """Return the mail server of ``url``. A ``#`` or ``/`` in a password could pass for the host's end."""
    parts = urlsplit(url)
    try:
        server = parse_smtp_url(url)
    except SmtpUrlInvalid:
        server = None
    if server is None or parts.path.strip("/") or parts.query or parts.fragment:
        return "not readable: special characters should be percent-encoded"
    return f"{server.host}:{server.port}" if with_port else server.host


def _plan_changes(use: str | None, is_default: bool, given: dict[str, str]) -> dict[str, str]:
    if not is_default:
        return given | ({} if use is None else {"transport": use})
    if use is not None or set(given) - {"sender"}:
        raise click.UsageError("--default is the fleet's own transport: it goes with --sender alone")
    return {"transport": "", "sender": "", **given}


def _check(tx: Connection, shop: Shop, choice: MailChoice) -> None:
    """Raise ``ShopInvalid`` with every fault; a missing secret is one, as no mail could be sent."""
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


def _describe_change(shop: Shop, before: MailChoice, after: MailChoice, *, dry_run: bool) -> str:
    if before == after:
        return f"{shop.slug}: mail leaves through {after} already, nothing changed."
    verb = "would leave" if dry_run else "leaves"
    test = "" if dry_run else f"\nNext: fleet mail test ADDRESS --shop {shop.slug}"
    return f"{shop.slug}: mail {verb} through {after}; before, through {before}.{test}"
