"""All outside systems. A new one is a module with its ``Provider`` record and a line in ``PROVIDERS``."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from services.core.errors import describe_unknown
from services.providers.mail_events import RESEND, SENDGRID
from services.providers.openphone import OPENPHONE
from services.providers.provider import Provider, SecretInvalid, SecretKind
from services.providers.shopify import SHOPIFY
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url
from services.providers.standard_webhooks import STANDARD
from services.providers.stripe import STRIPE
from services.providers.twilio_credentials import find_credentials_fault

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SOURCE = re.compile(r"[a-z0-9-]{1,40}")


def _find_smtp_fault(url: str) -> str:
    try:
        parse_smtp_url(url)
    except SmtpUrlInvalid:
        return "names no mail server"
    return ""


def _find_id_fault(value: str) -> str:
    return "looks like the secret's id (a UUID)" if _UUID.fullmatch(value) else ""


_CALLED_ONLY = {
    "notion": SecretKind(
        name="notion-key",
        description="the access token of the connection in Notion",
        expected="the connection's access token, which begins with ntn_ (older ones with secret_)",
        prefixes=(),
    ),
    "twilio": SecretKind(
        name="twilio-credentials",
        description="the Twilio account's SID and its auth token, AC...:TOKEN",
        expected="the account's SID, a colon and its auth token (AC...:TOKEN), or AC...:SK...:SECRET",
        prefixes=(),
        find_fault=find_credentials_fault,
    ),
    "smtp": SecretKind(
        name="smtp-url",
        description="the shop's own mail server, smtp+starttls://user:password@host:587",
        expected="smtp://, smtp+starttls:// or smtps://, then user:password@host:port",
        prefixes=(),
        find_fault=_find_smtp_fault,
    ),
    "graph": SecretKind(
        name="graph-client-secret",
        description="the value of the Entra app's client secret (not its id)",
        expected="the client secret's value, about 40 characters (not its id)",
        prefixes=(),
        find_fault=_find_id_fault,
    ),
}
"""Outside systems that send no webhook, each with its secret."""

_QUICKBOOKS_TIME = Provider(
    name="quickbooks-time",
    label="QuickBooks Time",
    secrets=(
        SecretKind(name="quickbooks-time-token", description="the QuickBooks Time access token"),
        SecretKind(name="quickbooks-time-refresh-token", description="the QuickBooks Time refresh token"),
        SecretKind(name="quickbooks-time-client-id", description="the client id of the QuickBooks Time app"),
        SecretKind(
            name="quickbooks-time-client-secret",
            description="the client secret of the QuickBooks Time app",
            has_overlap=True,
        ),
    ),
)

PROVIDERS: tuple[Provider, ...] = (
    SHOPIFY,
    STRIPE,
    OPENPHONE,
    STANDARD,
    _QUICKBOOKS_TIME,
    SENDGRID,
    RESEND,
    *(Provider(name=name, secrets=(kind,)) for name, kind in _CALLED_ONLY.items()),
)
_BY_NAME = {provider.name: provider for provider in PROVIDERS}

WEBHOOK_PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {provider.name: provider for provider in PROVIDERS if provider.read}
)


def list_routes(providers: Mapping[str, Provider]) -> list[str]:
    """Return the names of ``providers``, each with ``:<source>`` if it has sources."""
    return [f"{name}:<source>" if one.has_sources else name for name, one in providers.items()]


SENDERS: Mapping[str, Provider] = MappingProxyType(
    {sender.name: provider for provider in PROVIDERS for sender in provider.senders}
)
"""The provider of each webhook sender."""

SECRET_KINDS: Mapping[str, SecretKind] = MappingProxyType(
    {kind.name: kind for provider in PROVIDERS if not provider.has_sources for kind in provider.secrets}
)
"""Every secret with a fixed name. ``standard-webhook:<source>`` exists once for each source."""

SOURCE_KINDS: Mapping[str, SecretKind] = MappingProxyType(
    {f"{kind.name}:": kind for provider in PROVIDERS if provider.has_sources for kind in provider.secrets}
)
"""Every secret that exists once for each source, by the prefix of its name."""


_OTHER_NAMES = {"quo-webhook": "openphone-webhook", "notion-token": "notion-key"}


def find_provider(name: str) -> Provider | None:
    """Return the provider of an event or a connection; ``standard:<source>`` belongs to ``standard``."""
    return _BY_NAME.get(name.partition(":")[0])


def get_secret_kind(name: str) -> SecretKind:
    """Return the kind of the secret ``name``; ``standard-webhook/acme`` means ``standard-webhook:acme``.

    Quo is the new name of OpenPhone: ``quo-webhook`` means ``openphone-webhook``.

    Raises ``SecretInvalid`` with the names that exist.
    """
    name = _OTHER_NAMES.get(name, name)
    if name in SECRET_KINDS:
        return SECRET_KINDS[name]
    kind_name, _, source = name.replace("/", ":", 1).partition(":")
    for prefix, kind in SOURCE_KINDS.items():
        if kind_name == kind.name and _SOURCE.fullmatch(source):
            return replace(kind, name=prefix + source, description=kind.description.format(source=source))
    allowed = [*SECRET_KINDS, *(f"{prefix}<source>" for prefix in SOURCE_KINDS)]
    raise SecretInvalid(f"secret name {describe_unknown(name, allowed)} (a source is a-z, 0-9 and '-')")


def sign(
    sender: str, body: bytes, secret: str, *, topic: str, webhook_id: str, domain: str, now: datetime
) -> dict[str, str]:
    """Return the headers that ``sender`` (a key of ``SENDERS``) sends with ``body``."""
    (found,) = (one for one in SENDERS[sender].senders if one.name == sender)
    return found.sign(body, secret.encode(), topic=topic, webhook_id=webhook_id, domain=domain, now=now)
