"""Signatures of verified hashes: Ed25519, with a key derived from ``SECRET_KEY``.

A chain proves order and content to a reader who trusts one of its hashes. The signature makes a hash
trustworthy: a writer of the database without the key cannot make one.
"""

from typing import TYPE_CHECKING, NamedTuple

from services.core.errors import ShopfleetError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from services.core.settings import Settings

_PURPOSE = b"shopfleet/audit-sign/v1"


class SignaturesUnavailable(ShopfleetError):
    """The package ``cryptography``, which checks signatures, is not installed."""


class Signer:
    """Signs with the current key; knows the public key of the previous one, too. Its repr has no key."""

    __slots__ = ("_key", "known_keys", "public_key")

    def __init__(self, secret_key: str, previous: str = "") -> None:
        self._key = _derive(secret_key)
        self.public_key = _public_hex(self._key)
        """32 bytes in hex; not secret."""
        self.known_keys = frozenset(
            {self.public_key, _public_hex(_derive(previous))} if previous else {self.public_key}
        )

    def sign(self, message: bytes) -> str:
        """Return the signature of ``message``: 64 bytes in hex."""
        return self._key.sign(message).hex()


def make_signer(settings: "Settings") -> Signer:
    """Return the signer of this installation."""
    return Signer(settings.secret_key, settings.secret_key_previous)


def unknown_key(public_key: str) -> str:
    """Return the fault of a signature with the unknown ``public_key``."""
    return f"it is signed with {public_key[:16]}..., which is neither our current key nor the previous one"


def is_signed(message: bytes, public_key: str, signature: str) -> bool:
    """Whether ``signature`` matches ``message`` and ``public_key``, whosever key that is."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise SignaturesUnavailable(
            "signatures need the package cryptography: pip install cryptography"
        ) from None
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
            bytes.fromhex(signature), message
        )
    except (InvalidSignature, ValueError):
        return False
    return True


class Checkpoint(NamedTuple):
    """A signed head of the chain of ``shop_id``."""

    shop_id: int | None
    seq: int
    hash: str
    at: str
    public_key: str
    signature: str

    def is_genuine(self) -> bool:
        """Whether the signature matches this head and the key it names."""
        message = checkpoint_message(self.shop_id, self.seq, self.hash, self.at)
        return is_signed(message, self.public_key, self.signature)


def checkpoint_message(shop_id: int | None, seq: int, row_hash: str, at: str) -> bytes:
    """Return the bytes that a checkpoint's signature covers."""
    chain = "fleet" if shop_id is None else f"shop {shop_id}"
    return f"shopfleet/audit-checkpoint/v1\n{chain}\n{seq}\n{row_hash}\n{at}".encode()


def _derive(secret_key: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if not secret_key:
        raise ValueError("SECRET_KEY is empty: it needs at least 32 random characters")
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def _public_hex(key: "Ed25519PrivateKey") -> str:
    return key.public_key().public_bytes_raw().hex()
