"""Which transport sends a shop's mail, and the open transports of this process."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Lock

import orjson

from services.core.errors import Misconfigured
from services.core.settings import MAIL_TRANSPORTS, Settings
from services.ledger.work import FLEET
from services.providers.outgoing_mail import MailTransport
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from services.shops.mail_transport import OF_GRAPH, MailChoice

MAX_OPEN_TRANSPORTS = 64
"""Open transports per process; the least recently used one is closed first."""

SECRETS: Mapping[str, str] = {
    "smtp": "smtp-url",
    "graph": "graph-client-secret",
    "sendgrid": "sendgrid-key",
    "resend": "resend-key",
    "file": "",
}
"""The shop's secret that each transport of its own needs (``fleet shops secret``)."""

REPEATABLE_FOR = {"resend": timedelta(hours=24), "file": timedelta.max}
"""For how long a transport recognizes a repeated mail. Others do not."""

RATES = {"resend": 5.0}
"""Mails per second that a service documents for one account; ``MAIL_RATE_PER_SECOND`` overrides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRoute:
    """How a mail is sent. ``owner`` is the shop that chose it (None: the fleet's own mail).

    ``account`` is the shop whose account sends, or ``FLEET``.
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
    def fingerprint(self) -> str:
        """Identifies the account, if its transport recognizes repeats; empty otherwise."""
        if not self.repeatable_for:
            return ""
        key = orjson.dumps([self.transport, self.secret, self.options])
        return hashlib.sha256(key).hexdigest()[:16]

    @property
    def limit(self) -> str:
        return f"mail.{self.transport}"

    @property
    def repeatable_for(self) -> timedelta:
        """For how long the transport recognizes a repeated mail."""
        return REPEATABLE_FOR.get(self.transport, timedelta(0))


def make_fleet_route(settings: Settings) -> MailRoute:
    """Return the route of every shop that has none of its own."""
    name = settings.mail_transport
    options = {"folder": str(settings.mail_folder), "tenant_id": settings.graph_tenant_id}
    options |= {"client_id": settings.graph_client_id, "mailbox": settings.graph_sender}
    secrets = {
        "smtp": settings.smtp_url,
        "graph": settings.graph_client_secret,
        "sendgrid": settings.sendgrid_api_key,
        "resend": settings.resend_api_key,
    }
    return _make_route(None, FLEET, name, settings.mail_from, secrets.get(name, ""), options, settings)


def make_shop_route(shop_id: int, choice: MailChoice, secret: str | None, settings: Settings) -> MailRoute:
    """Return the shop's route: without a transport in ``choice`` the fleet's, with the shop's sender.

    Raises ``Misconfigured`` naming what is missing.
    """
    name, sender = choice.transport, choice.sender or settings.mail_from
    if not name:
        return replace(make_fleet_route(settings), owner=shop_id, sender=sender)
    if name not in MAIL_TRANSPORTS:
        raise Misconfigured(
            "mail.transport_unknown", f"mail.transport={name!r} should be one of {', '.join(MAIL_TRANSPORTS)}"
        )
    needed = SECRETS[name]
    if needed and not secret:
        hint = f"it has no {needed}: `fleet mail accounts` shows the command that records it"
        raise Misconfigured("mail.no_secret", f"the shop's mail goes through {name} and {hint}")
    names = OF_GRAPH if name == "graph" else ()
    if missing := [option for option in names if not getattr(choice, option)]:
        raise Misconfigured("mail.incomplete", f"the shop's mail settings lack {', '.join(missing)}")
    options = {"folder": str(settings.mail_folder / str(shop_id))}
    options |= {option: getattr(choice, option) for option in names}
    return _make_route(shop_id, shop_id, name, sender, secret or "", options, settings)


def _make_route(
    owner: int | None,
    account: int,
    transport: str,
    sender: str,
    secret: str,
    options: Mapping[str, str],
    settings: Settings,
) -> MailRoute:
    names = ("graph_api_base", "graph_login_base", "sendgrid_api_base", "resend_api_base")
    bases = {name: getattr(settings, name).rstrip("/") for name in names}
    return MailRoute(
        owner=owner,
        account=account,
        transport=transport,
        sender=sender,
        secret=secret,
        options=tuple(sorted({**options, **bases}.items())),
        rate_per_second=settings.mail_rate_per_second or RATES.get(transport, 0.0),
        connections=settings.mail_connections,
    )


def open_transport(route: MailRoute) -> MailTransport:
    """Return a new transport for ``route``; raise ``Misconfigured`` for an unreadable SMTP URL."""
    options = dict(route.options)
    # Imported here: most workers send no mail, and the HTTP client is slow to load.
    match route.transport:
        case "smtp":
            from services.providers.smtp import SmtpTransport

            try:
                return SmtpTransport(parse_smtp_url(route.secret), connections=route.connections)
            except SmtpUrlInvalid as fault:
                raise Misconfigured("smtp.url_wrong", f"SMTP_URL (or smtp-url): {fault}") from fault
        case "graph":
            from services.providers.graph_mail import GraphTransport

            return GraphTransport(route.secret, options)
        case "sendgrid":
            from services.providers.mail_services import SendGridTransport

            return SendGridTransport(route.secret, options["sendgrid_api_base"])
        case "resend":
            from services.providers.mail_services import ResendTransport

            return ResendTransport(route.secret, options["resend_api_base"])
    from pathlib import Path

    from services.providers.mail_file import FileTransport

    return FileTransport(Path(options["folder"]))


class OpenTransports:
    """The open transports of one process, by route. A changed secret makes another route."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[object, ...], MailTransport] = OrderedDict()
        self._lock = Lock()

    def get(self, route: MailRoute) -> MailTransport:
        """Return the transport of ``route``, opened at first use."""
        key = (route.transport, route.secret, route.options, route.connections)
        with self._lock:
            transport = self._open.get(key)
            if transport is None:
                transport = self._open[key] = open_transport(route)
            self._open.move_to_end(key)
            old = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - MAX_OPEN_TRANSPORTS)]
        for unused in old:
            unused.close()
        return transport

    def close(self) -> None:
        with self._lock:
            open_now, self._open = self._open, OrderedDict()
        for transport in open_now.values():
            transport.close()
