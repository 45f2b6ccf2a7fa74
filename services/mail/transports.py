"""Which transport sends a shop's mail, and the open transports of this process."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from services.core.errors import Misconfigured
from services.core.settings import MAIL_TRANSPORTS, Settings
from services.ledger.work import FLEET
from services.providers.outgoing_mail import OutgoingMail
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url

OPEN_AT_ONCE = 64
"""Transports that a process keeps open; the one that was unused the longest is closed first."""

SECRETS = MappingProxyType(
    {
        "smtp": "smtp-url",
        "graph": "graph-client-secret",
        "sendgrid": "sendgrid-key",
        "resend": "resend-key",
        "file": "",
    }
)
"""The secret of a shop that its own transport needs (``fleet shops secret``)."""

REPEATABLE_FOR: Mapping[str, timedelta] = MappingProxyType(
    {"resend": timedelta(hours=24), "file": timedelta.max}
)
"""For how long the same mail may be handed over again without becoming two. The others: not at all."""

RATES = MappingProxyType({"resend": 5.0})
"""Mails a second that a service takes from one account, where it says so; ``MAIL_RATE_PER_SECOND`` wins."""


class Transport(Protocol):
    """Hands letters over. Safe for many threads."""

    def send(self, letter: OutgoingMail) -> str:
        """The other side has taken charge of ``letter``; return its id there. Raises a ``WorkError``."""
        ...

    def close(self) -> None:
        """Give up what is kept open and not in use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a mail leaves. ``owner`` is the shop that set it up so, ``account`` the one that pays for it.

    None and ``FLEET`` are the fleet itself.
    """

    owner: int | None
    account: int
    transport: str
    sender: str
    secret: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = ()
    rate_per_second: float = 0.0
    connections: int = 32

    @property
    def account_key(self) -> tuple[str, str, tuple[tuple[str, str], ...], int]:
        """What two routes share that can share connections."""
        return (self.transport, self.secret, self.options, self.connections)

    @property
    def fingerprint(self) -> str:
        """What tells the accounts of a transport that knows repeats apart; empty for the others."""
        if not self.repeatable_for:
            return ""
        known = orjson.dumps([self.transport, self.secret, self.options])
        return hashlib.sha256(known).hexdigest()[:16]

    @property
    def limit(self) -> str:
        """The name of its rate limit."""
        return f"mail.{self.transport}"

    @property
    def repeatable_for(self) -> timedelta:
        """For how long the same mail may be handed over again without becoming two."""
        return REPEATABLE_FOR.get(self.transport, timedelta(0))


def fleet_route(settings: Settings) -> Route:
    """Return the route of every shop that has none of its own."""
    name = settings.mail_transport
    options = {"folder": str(settings.mail_folder)} | _bases(settings)
    options |= {"tenant_id": settings.graph_tenant_id, "client_id": settings.graph_client_id}
    options |= {"mailbox": settings.graph_sender}
    secret = {
        "smtp": settings.smtp_url,
        "graph": settings.graph_client_secret,
        "sendgrid": settings.sendgrid_api_key,
        "resend": settings.resend_api_key,
    }.get(name, "")
    return _route(None, FLEET, name, settings.mail_from, secret, options, settings)


def shop_route(shop_id: int, wanted: Mapping[str, Any], secret: str | None, settings: Settings) -> Route:
    """Return the shop's own route, as ``shop_config.settings -> 'mail'`` says.

    Without a ``transport`` there it is the fleet's, with the shop's own ``sender`` if it has one.
    Raises ``Misconfigured`` naming what is missing.
    """
    name = str(wanted.get("transport") or "")
    sender = str(wanted.get("sender") or settings.mail_from)
    if not name:
        fleet = fleet_route(settings)
        return _route(shop_id, FLEET, fleet.transport, sender, fleet.secret, dict(fleet.options), settings)
    if name not in MAIL_TRANSPORTS:
        raise Misconfigured(
            "mail.transport_unknown", f"mail.transport={name!r} should be one of {', '.join(MAIL_TRANSPORTS)}"
        )
    needed = SECRETS[name]
    if needed and not secret:
        raise Misconfigured(
            "mail.no_secret",
            f"the shop's mail goes through {name} and it has no {needed}: "
            f"`fleet shops secret SHOP {needed} --stdin`",
        )
    options = {"folder": str(settings.mail_folder / str(shop_id))} | _bases(settings)
    names = ("tenant_id", "client_id", "mailbox") if name == "graph" else ()
    if missing := [option for option in names if not wanted.get(option)]:
        raise Misconfigured("mail.incomplete", f"the shop's mail settings lack {', '.join(missing)}")
    options |= {option: str(wanted[option]) for option in names}
    return _route(shop_id, shop_id, name, sender, secret or "", options, settings)


def open_transport(route: Route) -> Transport:
    """Return a new transport for ``route``; raise ``Misconfigured`` where its address makes no sense."""
    options = dict(route.options)
    # Loaded where they are used: most workers send no mail, and the HTTP client is not small.
    match route.transport:
        case "smtp":
            from services.providers.smtp import SmtpTransport

            try:
                server = parse_smtp_url(route.secret)
            except SmtpUrlInvalid as fault:
                raise Misconfigured("smtp.url_wrong", f"SMTP_URL (or smtp-url): {fault}") from fault
            return SmtpTransport(server, connections=route.connections)
        case "graph":
            from services.providers.graph_mail import GraphAccount, GraphTransport

            return GraphTransport(
                GraphAccount(
                    tenant_id=options["tenant_id"],
                    client_id=options["client_id"],
                    client_secret=route.secret,
                    mailbox=options["mailbox"],
                    api_base=options["graph_api_base"],
                    login_base=options["graph_login_base"],
                )
            )
        case "sendgrid":
            from services.providers.sendgrid import SendGridTransport

            return SendGridTransport(route.secret, options["sendgrid_api_base"])
        case "resend":
            from services.providers.resend import ResendTransport

            return ResendTransport(route.secret, options["resend_api_base"])
    from pathlib import Path

    from services.providers.mail_file import FileTransport

    return FileTransport(Path(options["folder"]))


class OpenTransports:
    """The transports of one process, by route. A secret that changed makes another route."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[object, ...], Transport] = OrderedDict()
        self._lock = Lock()

    def get(self, route: Route) -> Transport:
        """Return the open transport of ``route``, opening it if it is the first time."""
        with self._lock:
            transport = self._open.get(route.account_key)
            if transport is None:
                transport = self._open[route.account_key] = open_transport(route)
            self._open.move_to_end(route.account_key)
            old = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - OPEN_AT_ONCE)]
        for unused in old:
            unused.close()
        return transport

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            gone = [self._open.popitem()[1] for _ in range(len(self._open))]
        for transport in gone:
            transport.close()


def _bases(settings: Settings) -> dict[str, str]:
    names = ("graph_api_base", "graph_login_base", "sendgrid_api_base", "resend_api_base")
    return {name: getattr(settings, name).rstrip("/") for name in names}


def _route(
    owner: int | None,
    account: int,
    name: str,
    sender: str,
    secret: str,
    options: Mapping[str, str],
    settings: Settings,
) -> Route:
    return Route(
        owner=owner,
        account=account,
        transport=name,
        sender=sender,
        secret=secret,
        options=tuple(sorted(options.items())),
        rate_per_second=settings.mail_rate_per_second or RATES.get(name, 0.0),
        connections=settings.mail_connections,
    )
