"""Encryption of secrets at rest, with a key derived from ``SECRET_KEY``."""

import base64
from functools import cache
from typing import TYPE_CHECKING

from services.core.errors import ShopfleetError
from services.core.settings import get_settings

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

# Imported only where a secret is sealed or opened: most processes never do that.
SEALING = ("cryptography.fernet", "cryptography.hazmat.primitives.kdf.hkdf")
_PURPOSE = b"shopfleet/seal/v1"


class SealBroken(ShopfleetError):
    """A sealed value cannot be opened: it was altered, or sealed with another key or context."""


def _fernet(secret_key: str) -> "Fernet":
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


class Sealer:
    """Seals with the current key, and opens values of the current and the previous key.

    ``context`` is the place of a value (``shop/7/stripe-key``). It is sealed with the value, so a value that
    is copied to another shop's row cannot be opened there.
    """

    __slots__ = ("_current", "_keys")

    def __init__(self, secret_key: str, previous: str = "") -> None:
        if not secret_key:
            raise SealBroken("SECRET_KEY is empty: it needs at least 32 random characters")
        from cryptography.fernet import MultiFernet

        self._current = _fernet(secret_key)
        self._keys = MultiFernet([self._current, *([_fernet(previous)] if previous else [])])

    def seal(self, value: bytes, context: str) -> bytes:
        """Return ``value`` sealed for ``context``. Equal values have different results."""
        return self._keys.encrypt(_prefix(context) + value)

    def is_current(self, sealed: bytes) -> bool:
        """Return whether ``sealed`` was sealed with the current key."""
        from cryptography.fernet import InvalidToken

        try:
            self._current.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def open(self, sealed: bytes, context: str) -> bytes:
        """Return the value that was sealed for ``context``; raise ``SealBroken`` for anything else."""
        from cryptography.fernet import InvalidToken

        try:
            opened = self._keys.decrypt(sealed)
        except InvalidToken:
            raise SealBroken(
                f"the sealed value of {context} cannot be opened: set SECRET_KEY_PREVIOUS to the key "
                "it was sealed with, or record the secret again"
            ) from None
        prefix = _prefix(context)
        if not opened.startswith(prefix):
            raise SealBroken(f"the sealed value of {context} was sealed for another context")
        return opened[len(prefix) :]


def _prefix(context: str) -> bytes:
    if not context or "\0" in context:
        raise ValueError(f"context={context!r} should be a name without NUL characters")
    return context.encode() + b"\0"


@cache
def get_sealer() -> Sealer:
    settings = get_settings()
    return Sealer(settings.secret_key, settings.secret_key_previous)
