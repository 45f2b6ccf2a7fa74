"""The shapes of the secrets that people paste. Pure.

A wrong paste shows up here, with a name and what would be right, and not next week as a row of 401s.
No message ever repeats the secret.
"""

import binascii
import re
from types import MappingProxyType

from services.core.errors import ShopfleetError
from services.providers.smtp_url import SmtpUrlInvalid, parse_smtp_url

_NOT_THIS = MappingProxyType(
    {
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
)

_ALLOWED = MappingProxyType(
    {
        "shopify-webhook": ("shpss_",),
        "shopify-token": ("shpat_", "shpca_"),
        "shopify-refresh-token": ("shprt_",),
        "shopify-client-id": (),
        "shopify-client-secret": ("shpss_",),
        "stripe-webhook": ("whsec_",),
        "stripe-key": ("sk_", "rk_"),
        "openphone-webhook": ("whsec_",),
        "standard-webhook": ("whsec_",),
        "sendgrid-key": ("SG.",),
        "resend-key": ("re_",),
        "graph-client-secret": (),
        "smtp-url": (),
    }
)

_RIGHT = MappingProxyType(
    {
        "shopify-webhook": "the app's client secret (or the one under Settings > Notifications)",
        "shopify-token": "the Admin API access token, which begins with shpat_",
        "shopify-refresh-token": "the refresh token given with an expiring token; it begins with shprt_",
        "shopify-client-id": "the app's client id (the API key of the Dev Dashboard), 32 characters",
        "shopify-client-secret": "the app's client secret, which begins with shpss_",
        "stripe-webhook": "the endpoint's signing secret, which begins with whsec_",
        "stripe-key": "a secret or restricted key, which begins with sk_ or rk_",
        "openphone-webhook": "whsec_ and base64, or the older signing key, which is base64",
        "standard-webhook": "whsec_ and base64 of 24 to 64 bytes",
        "sendgrid-key": "an API key with the permission Mail Send, which begins with SG.",
        "resend-key": "an API key, which begins with re_",
        "graph-client-secret": "the client secret's value, about 40 characters (not its id)",
        "smtp-url": "smtp://, smtp+starttls:// or smtps://, then user:password@host:port",
    }
)

_MUST_BEGIN = ("sendgrid-key", "resend-key")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BASE64_KINDS = ("openphone-webhook", "standard-webhook")


class SecretInvalid(ShopfleetError):
    """A pasted secret cannot be what it is meant to be. The message says what would be right."""


def parse_secret(name: str, pasted: str) -> str:
    """Return ``pasted`` without the white space around it, once it looks like a secret of the kind ``name``.

    ``name`` is that of ``fleet shops secret``: ``stripe-webhook``, ``shopify-token``...;
    ``standard-webhook`` may be followed by ``:<source>``. An unknown name is checked for plain text only.
    Raises ``SecretInvalid``.
    """
    text = pasted.strip()
    kind = name.partition(":")[0]
    right = _RIGHT.get(kind, "printable text in one line")
    if not text:
        raise SecretInvalid(f"{name} is empty: it should be {right}")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise SecretInvalid(f"{name} holds white space or unprintable characters: it should be {right}")
    if len(text) > 4096:
        raise SecretInvalid(f"{name} has {len(text)} characters: it should be {right}")
    for prefix, meaning in _NOT_THIS.items():
        if kind in _ALLOWED and text.startswith(prefix) and prefix not in _ALLOWED[kind]:
            raise SecretInvalid(f"{name} looks like {meaning} ({prefix}...): it should be {right}")
    if kind in _MUST_BEGIN and not text.startswith(_ALLOWED[kind]):
        raise SecretInvalid(f"{name} does not begin with {_ALLOWED[kind][0]}: it should be {right}")
    if kind == "graph-client-secret" and _UUID.fullmatch(text):
        raise SecretInvalid(f"{name} looks like the secret's id (a UUID): it should be {right}")
    if kind == "smtp-url":
        try:
            parse_smtp_url(text)
        except SmtpUrlInvalid:
            raise SecretInvalid(f"{name} names no mail server: it should be {right}") from None
    if kind in _BASE64_KINDS and not _is_base64(text.removeprefix("whsec_")):
        raise SecretInvalid(f"{name} is not base64: it should be {right}")
    return text


def _is_base64(text: str) -> bool:
    """Tell whether ``text`` is base64 of at least one byte; missing padding is forgiven."""
    try:
        return bool(binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True))
    except binascii.Error:
        return False
