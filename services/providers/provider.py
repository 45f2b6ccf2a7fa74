"""The record of an outside system, for the ingress, the ledger and the commands. Pure."""

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from services.core.counts import format_count
from services.core.errors import InputInvalid
from services.providers.delivery import WebhookDelivery

ReadDelivery = Callable[[Mapping[str, str], bytes, Sequence[bytes], datetime], WebhookDelivery]
"""Takes headers (names in lower case), body, the shop's secrets and the time; raises ``WebhookRejected``."""

_LONGEST_SECRET = 4096
_MEANINGS = {
    "sk_": "a Stripe secret key",
    "rk_": "a Stripe restricted key",
    "pk_": "a Stripe publishable key",
    "we_": "the id of a Stripe webhook endpoint",
    "acct_": "a Stripe account id",
    "shpat_": "a Shopify access token",
    "shpca_": "a Shopify access token",
    "shpss_": "a Shopify client secret",
    "shprt_": "a Shopify refresh token",
    "whsec_": "a webhook signing secret",
    "whpk_": "a Standard Webhooks public key",
    "SG.": "a SendGrid API key",
    "re_": "a Resend API key",
    "-----BEGIN": "a PEM file",
}
"""What a pasted secret is, by its prefix."""


class SecretInvalid(InputInvalid):
    """A pasted secret is of the wrong kind. The message describes a correct one and never contains it."""


REFUSED, MONEY, PLAIN = "refused", "money", "plain"
"""Kinds of event topics: no edit, an owner's edit, an admin's edit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKind:
    """A secret that a shop may have. A webhook secret verifies webhooks; a token authorizes calls."""

    name: str
    description: str
    expected: str = "printable text in one line"
    """What a correct value looks like, for error messages."""
    prefixes: tuple[str, ...] | None = None
    """The known prefixes that are allowed; another known prefix is refused. None: no check."""
    needs_prefix: bool = False
    is_base64: bool = False
    """The value is base64 after an optional ``whsec_``; missing padding is allowed."""
    find_fault: Callable[[str], str] | None = None
    """Returns another fault of a value, or an empty text."""
    is_webhook: bool = False
    has_overlap: bool = False
    """A replaced value stays valid for a day: the provider may accept the new one later."""
    make_value: Callable[[], str] | None = None
    """Returns a random value of 256 bits. None: only the provider can issue one."""

    @property
    def keep_previous(self) -> timedelta:
        """For how long a replaced value stays valid by default.

        A sender may sign with the old webhook secret for an hour (Shopify) or a day (Stripe) after a
        rotation; a replaced token is never used again.
        """
        return timedelta(hours=24) if self.is_webhook or self.has_overlap else timedelta(0)

    def generate(self) -> str:
        """Return a new random value; raise ``SecretInvalid`` for one that only the provider can issue."""
        if self.make_value:
            return self.make_value()
        fault = f"{self.name} cannot be generated: it is {self.description}, issued by the provider"
        raise SecretInvalid(fault)

    def parse(self, pasted: str) -> str:
        """Return ``pasted`` without surrounding white space; raise ``SecretInvalid`` for a wrong value."""
        text = pasted.strip()
        if fault := self._find_fault(text):
            raise SecretInvalid(f"{self.name} {fault}: it should be {self.expected}")
        return text

    def _find_fault(self, text: str) -> str:  # noqa: PLR0911 - a list of checks
        if not text:
            return "is empty"
        if not (text.isascii() and text.isprintable()) or " " in text:
            return "contains white space or unprintable characters"
        if len(text) > _LONGEST_SECRET:
            return f"has {format_count(len(text), 'character')}"
        if self.prefixes is not None:
            for prefix, meaning in _MEANINGS.items():
                if text.startswith(prefix) and prefix not in self.prefixes:
                    return f"looks like {meaning} ({prefix}...)"
            if self.needs_prefix and not text.startswith(self.prefixes):
                return f"does not begin with {' or '.join(self.prefixes)}"
        if self.is_base64 and not _is_base64(text.removeprefix("whsec_")):
            return "is not base64"
        return self.find_fault(text) if self.find_fault else ""


class SignWebhook(Protocol):
    """Returns the headers that the provider sends with ``body``."""

    def __call__(
        self, body: bytes, secret: bytes, *, topic: str, webhook_id: str, domain: str, now: datetime
    ) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSender:
    """A way in which a provider signs webhooks; ``fleet send`` and the demo select it by ``name``."""

    name: str
    sign: SignWebhook
    secret_prefix: str = ""
    """The provider's secrets with this prefix belong to this sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An outside system. ``name`` is its name in webhook URLs, tables, metrics and rate limits."""

    name: str
    label: str = ""
    """Its name in audit texts, if it is not ``name``."""
    secrets: tuple[SecretKind, ...]
    read: ReadDelivery | None = None
    """Verifies and reads a webhook. None: the provider sends none."""
    identifying_headers: frozenset[str] = frozenset()
    """Headers that must not appear twice with different values."""
    has_sources: bool = False
    """Each sender has its own name and secret; its events have the provider ``<name>:<source>``."""
    fleet_setting: str = ""
    """The setting with the webhook secret of the fleet's own account; its URL has ``fleet`` for a shop."""
    senders: tuple[WebhookSender, ...] = ()
    topics: tuple[tuple[str, str], ...] = ()
    """(pattern of an event topic, work topic). The first match counts; without one no work is planned."""
    source_topics: Mapping[str, str] = field(default_factory=dict)
    """Work topic of all events of a source: see ``has_sources``."""
    edit_kinds: tuple[tuple[str, str], ...] = ()
    """(``REFUSED``, ``MONEY`` or ``PLAIN``, patterns of event topics). The first match counts; without one an
    event cannot be edited."""
    call_points: Mapping[str, float] = field(default_factory=dict)
    """Work topics that wait for this provider's rate limit, with the points that one call costs."""
    has_conversations: bool = False
    """Its bodies are calls and messages: a redaction removes their text."""
    refusals_until_dropped: int = 0
    """After so many refused webhooks in a row the provider deletes its subscription; 0: it does not."""

    @property
    def webhook_secret(self) -> SecretKind:
        return next(kind for kind in self.secrets if kind.is_webhook)

    def find_sender(self, name: str, secret: str) -> WebhookSender:
        """Return the sender that signs with ``secret``: by its prefix, else the one called ``name``."""
        for sender in self.senders:
            if sender.secret_prefix and secret.startswith(sender.secret_prefix):
                return sender
        return next(sender for sender in self.senders if sender.name == name)


def make_whsec() -> str:
    """Return a random webhook secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _is_base64(text: str) -> bool:
    """Return whether ``text`` is base64 of at least one byte; missing padding is allowed."""
    try:
        return bool(binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True))
    except binascii.Error:
        return False
