"""Which secrets a shop may have, and how long a replaced one stays good. Pure.

What a value looks like is its provider's affair: ``services.providers.secrets``.
"""

import base64
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from services.providers.secrets import SecretInvalid

STANDARD_PREFIX = "standard-webhook:"
_SOURCE = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class SecretKind:
    """One secret of a shop. A webhook secret verifies what comes in; a token opens what we call."""

    name: str
    what: str
    is_webhook: bool = False

    @property
    def keep_previous(self) -> timedelta:
        """How long the replaced value stays good unless told otherwise.

        A sender may sign with the old webhook secret for an hour (Shopify) or a day (Stripe) after a
        rotation; a replaced token is never used again.
        """
        return timedelta(hours=24) if self.is_webhook else timedelta(0)


_ALL = (
    SecretKind("shopify-webhook", "the app's client secret that signs Shopify's webhooks", is_webhook=True),
    SecretKind("stripe-webhook", "the endpoint's signing secret, whsec_...", is_webhook=True),
    SecretKind(
        "openphone-webhook",
        "Quo's whsec_... secret or OpenPhone's base64 signing key",
        is_webhook=True,
    ),
    SecretKind("shopify-token", "the Admin API access token, shpat_..."),
    SecretKind("shopify-refresh-token", "the refresh token that came with an expiring token, shprt_..."),
    SecretKind("shopify-client-id", "the app's client id, which refreshes expiring tokens"),
    SecretKind("shopify-client-secret", "the app's client secret, which refreshes expiring tokens"),
    SecretKind("stripe-key", "the restricted or secret API key, rk_... or sk_..."),
    SecretKind("quo-key", "the Quo (OpenPhone) API key"),
    SecretKind("notion-token", "the Notion integration token"),
    SecretKind("quickbooks-time-token", "the QuickBooks Time API token"),
    SecretKind("smtp-url", "the shop's own mail server, smtp+starttls://user:password@host:587"),
    SecretKind("graph-client-secret", "the value of the Entra app's client secret (not its id)"),
    SecretKind("sendgrid-key", "the SendGrid API key, SG...."),
    SecretKind("resend-key", "the Resend API key, re_..."),
)
SECRET_NAMES = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every fixed name. ``standard-webhook:<source>`` comes on top, one for each Standard Webhooks sender."""


def get_kind(name: str) -> SecretKind:
    """Return the kind of the secret ``name``; ``standard-webhook/acme`` means ``standard-webhook:acme``."""
    name = name.replace("standard-webhook/", STANDARD_PREFIX, 1)
    if name in SECRET_NAMES:
        return SECRET_NAMES[name]
    source = name.removeprefix(STANDARD_PREFIX)
    if source != name and _SOURCE.fullmatch(source):
        return SecretKind(name, f"the whsec_... secret of {source}", is_webhook=True)
    allowed = ", ".join([*SECRET_NAMES, f"{STANDARD_PREFIX}<source>"])
    raise SecretInvalid(f"secret name {name!r} should be one of {allowed} (a source is a-z, 0-9 and '-')")


def make_value(kind: SecretKind) -> str:
    """Return a fresh random webhook secret (256 bits); a token can only come from its provider."""
    if not kind.is_webhook:
        raise SecretInvalid(f"{kind.name} cannot be generated: it is {kind.what}, given out by the provider")
    if kind.name == "shopify-webhook":
        return secrets.token_hex(32)
    if kind.name == "stripe-webhook":
        return "whsec_" + secrets.token_hex(32)
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
