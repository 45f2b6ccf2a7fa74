"""How a shop's mail leaves right now, value by value, with where each one comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import click
from sqlalchemy import Connection

from services.cli.output import format_time, print_table, safe_text
from services.core.clock import utc_now
from services.core.errors import Misconfigured
from services.core.settings import Settings, get_settings
from services.mail.advice import MailSender, plan_advice
from services.mail.connection_lines import ConnectionLine, find_lines_of
from services.mail.routes import find_routes
from services.mail.transports import SECRETS, Route
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from services.shops.mail_transport import OF_GRAPH, MailChoice, get_mail_choice
from services.shops.secrets import find_secret_states
from services.shops.shops import Shop

OWN = "the shop's own"


@dataclass(frozen=True, slots=True)
class RouteValue:
    """One value of a way, and where it comes from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRoute:
    """How the mail of ``shop`` leaves. ``fault`` is empty where it can; ``connection`` None: not used yet."""

    shop: str
    values: tuple[RouteValue, ...]
    fault: str
    to_do: str
    connection: ConnectionLine | None


def find_mail_route(tx: Connection, shop: Shop) -> MailRoute:
    """Return how the shop's mail leaves. No secret is in it."""
    settings = get_settings()
    choice = get_mail_choice(tx, shop.id)
    route = find_routes(tx, {shop.id})[shop.id]
    used = choice.transport or settings.mail_transport
    lines = [line for line in find_lines_of(tx, shop.id, shop.slug) if line.is_used and line.provider == used]
    fault = f"{route.code}: {route}" if isinstance(route, Misconfigured) else ""
    way = MailSender(used, shop.slug, is_own=bool(choice.transport))
    values = [
        RouteValue("transport", used, OWN if choice.transport else "the fleet's MAIL_TRANSPORT"),
        RouteValue("sender", *_pick(choice.sender, settings.mail_from, "MAIL_FROM")),
        *_account(choice, shop, route if isinstance(route, Route) else None, settings),
        *_secret(tx, choice, shop),
    ]
    return MailRoute(
        shop=shop.slug,
        values=tuple(values),
        fault=fault,
        to_do=plan_advice(route.code, way) if isinstance(route, Misconfigured) else "",
        connection=lines[0] if lines else None,
    )


def print_mail_route(way: MailRoute) -> None:
    """Print the way as a table, then whether it works and what to do."""
    rows = [(one.name, one.value, one.source) for one in way.values]
    print_table(f"Mail of {way.shop}", ("what", "value", "where it comes from"), rows, "")
    line = way.connection
    if line is None:
        click.echo(f"Connection: not used yet. fleet mail test ADDRESS --shop {way.shop}")
    elif line.status == "ok":
        click.echo(f"Connection: ok since {format_time(line.since)}")
    else:
        click.echo(
            safe_text(f"Connection: broken since {format_time(line.since)}, {line.code}: {line.detail}")
        )
        click.echo(safe_text(f"To do: {line.to_do or 'mend what it says'}"))
    if way.fault:
        click.echo(safe_text(f"It cannot be sent: {way.fault}"))
        click.echo(safe_text(f"To do: {way.to_do or 'mend what it says'}"))


def format_route(route: Route) -> str:
    """Return how a route leaves, in a few words for a reader: ``smtp, mail.example.com``."""
    options = dict(route.options)
    find: dict[str, Callable[[], str]] = {
        "smtp": lambda: _server(route.secret, with_port=False),
        "graph": lambda: options["mailbox"],
        "file": lambda: options["folder"],
    }
    where = find.get(route.transport, str)()
    return f"{route.transport}, {where}" if where else route.transport


def _server(url: str, *, with_port: bool = True) -> str:
    """Return where the mail server is. A ``#`` or ``/`` in a password would make it look like the host."""
    parts = urlsplit(url)
    try:
        server = parse_smtp_url(url)
    except SmtpUrlInvalid:
        server = None
    if server is None or parts.path.strip("/") or parts.query or parts.fragment:
        return "not readable: special characters should be percent-encoded"
    return f"{server.host}:{server.port}" if with_port else server.host


def _account(choice: MailChoice, shop: Shop, route: Route | None, settings: Settings) -> list[RouteValue]:
    if choice.transport == "graph":
        return [RouteValue(name, getattr(choice, name), OWN) for name in OF_GRAPH]
    match choice.transport or settings.mail_transport:
        case "graph":
            fleet = (settings.graph_tenant_id, settings.graph_client_id, settings.graph_sender)
            names = ("GRAPH_TENANT_ID", "GRAPH_CLIENT_ID", "GRAPH_SENDER")
            return [
                RouteValue(name, value, f"the fleet's {setting}")
                for name, value, setting in zip(OF_GRAPH, fleet, names, strict=True)
            ]
        case "smtp" if route:
            source = f"{OWN} smtp-url" if choice.transport else "the fleet's SMTP_URL"
            return [RouteValue("server", _server(route.secret), source)]
        case "file" if choice.transport:
            return [RouteValue("folder", str(settings.mail_folder / str(shop.id)), "the fleet's MAIL_FOLDER")]
        case "file":
            return [RouteValue("folder", str(settings.mail_folder), "the fleet's MAIL_FOLDER")]
    return []


def _secret(tx: Connection, choice: MailChoice, shop: Shop) -> list[RouteValue]:
    name = SECRETS.get(choice.transport, "")
    if not name:
        return []
    states = [state for state in find_secret_states(tx, shop.id, utc_now()) if state.name == name]
    value = f"recorded {format_time(states[0].recorded_at)}" if states else "missing"
    return [RouteValue("secret", value, f"fleet shops secret {shop.slug} {name} --stdin")]


def _pick(own: str, fleets: str, setting: str) -> tuple[str, str]:
    return (own, OWN) if own else (fleets, f"the fleet's {setting}")
