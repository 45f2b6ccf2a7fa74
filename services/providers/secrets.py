"""The shapes of the secrets that people paste. Pure.

A wrong paste shows up here, with a name and what would be right, and not next week as a row of 401s.
No message ever repeats the secret.
"""

import binascii
from types import MappingProxyType

from services.core.errors import ShopfleetError

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
        "whsec_": "a webhook signing secret",
        "whpk_": "a Standard Webhooks public key",
        "-----BEGIN": "a PEM file",
    }
)

_ALLOWED = MappingProxyType(
    {
        "shopify-webhook": ("shpss_",),
        "shopify-token": ("shpat_", "shpca_"),
        "stripe-webhook": ("whsec_",),
        "stripe-key": ("sk_", "rk_"),
        "openphone-webhook": ("whsec_",),
        "standard-webhook": ("whsec_",),
    }
)

_RIGHT = MappingProxyType(
    {
        "shopify-webhook": "the app's client secret (or the one under Settings > Notifications)",
        "shopify-token": "the Admin API access token, which begins with shpat_",
        "stripe-webhook": "the endpoint's signing secret, which begins with whsec_",
        "stripe-key": "a secret or restricted key, which begins with sk_ or rk_",
        "openphone-webhook": "whsec_ and base64, or the older signing key, which is base64",
        "standard-webhook": "whsec_ and base64 of 24 to 64 bytes",
    }
)

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
    if kind in _BASE64_KINDS and not _is_base64(text.removeprefix("whsec_")):
        raise SecretInvalid(f"{name} is not base64: it should be {right}")
    return text


def _is_base64(text: str) -> bool:
    """Tell whether ``text`` is base64 of at least one byte; missing padding is forgiven."""
    try:
        return bool(binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True))
    except binascii.Error:
        return False
