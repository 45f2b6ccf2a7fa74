"""Signatures of verified hashes and of documents: Ed25519, with a key derived from ``SECRET_KEY``.

A chain proves order and content to a reader who trusts one of its hashes. A signature proves a hash: writing
to the database is not enough to make one. A manifest is a signed document in the store with the range of one
archive and the sums of its objects, so it proves no other range or chain.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from services.audit.chain import TEXT_VERSION
from services.core.errors import ShopfleetError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from services.core.settings import Settings

MANIFEST_FORMAT = "shopfleet-audit-manifest/2"
_UNSIGNED_MANIFEST = "shopfleet-audit-manifest/1"
_PURPOSE = b"shopfleet/audit-sign/v1"
_RANGE = ("shop_id", "first_seq", "first_prev_hash", "last_seq", "last_hash")


class SignaturesUnavailable(ShopfleetError):
    """The package ``cryptography``, which checks signatures, is not installed."""


class Signer:
    """Signs with the current key; has the public key of the previous one, too. Its repr has no key."""

    __slots__ = ("_key", "known_keys", "public_key")

    def __init__(self, secret_key: str, previous: str = "") -> None:
        self._key = _derive(secret_key)
        self.public_key = _public_hex(self._key)
        """32 bytes in hex; not secret."""
        self.known_keys = {self.public_key} | ({_public_hex(_derive(previous))} if previous else set())

    def sign(self, message: bytes) -> str:
        """Return the signature of ``message``: 64 bytes in hex."""
        return self._key.sign(message).hex()


def make_signer(settings: "Settings") -> Signer:
    return Signer(settings.secret_key, settings.secret_key_previous)


def unknown_key(public_key: str) -> str:
    """Return the fault of a signature with the unknown ``public_key``."""
    return f"it is signed with {public_key[:16]}..., which is neither our current key nor the previous one"


def is_signed(message: bytes, public_key: str, signature: str) -> bool:
    """Whether ``signature`` matches ``message`` and ``public_key``, which may be any key."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise SignaturesUnavailable(
            "signatures need the package cryptography: pip install cryptography"
        ) from None
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), message)
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
        """Whether the signature matches this head and ``public_key``."""
        message = checkpoint_message(self.shop_id, self.seq, self.hash, self.at)
        return is_signed(message, self.public_key, self.signature)


def checkpoint_message(shop_id: int | None, seq: int, row_hash: str, at: str) -> bytes:
    """Return the bytes that a checkpoint's signature covers."""
    chain = "fleet" if shop_id is None else f"shop {shop_id}"
    return f"shopfleet/audit-checkpoint/v1\n{chain}\n{seq}\n{row_hash}\n{at}".encode()


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return ``document`` as the bytes that are signed: sorted keys, no spaces."""
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def sign_document(document_format: str, content: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    document = {
        "format": document_format,
        "text_version": TEXT_VERSION,
        **content,
        "public_key": signer.public_key,
    }
    return document | {"signature": signer.sign(canonical_json(document))}


def read_signed(
    data: bytes, document_format: str, signer: Signer, *, is_trusted: bool
) -> tuple[dict[str, Any], str]:
    """Return the document of the format ``document_format`` in ``data``, and why it is not trusted, or "".

    A signature of the current or the previous key is valid. One of an older key is valid if
    ``is_trusted``: a trusted hash or document confirms it.
    """
    try:
        document: dict[str, Any] = orjson.loads(data)
        found, version = document["format"], document.get("text_version", TEXT_VERSION)
        if found != document_format:
            return document, f"its format is {found!r}, not {document_format!r}"
        if version != TEXT_VERSION:
            return document, f"its text_version is {version!r}; this release supports {TEXT_VERSION}"
        signature, public_key = document.pop("signature"), document["public_key"]
        if not is_signed(canonical_json(document), public_key, signature):
            return document, "its signature is not that of its content"
        return document, "" if is_trusted or public_key in signer.known_keys else unknown_key(public_key)
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        return {}, f"it cannot be read: {type(fault).__name__}"


def make_manifest(content: Mapping[str, Any], signer: Signer) -> bytes:
    """Return ``content`` (range, rows, ``objects``) as a signed manifest."""
    return canonical_json(sign_document(MANIFEST_FORMAT, content, signer))


def find_manifest_fault(
    data: bytes,
    expected: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
    signer: Signer,
    *,
    is_trusted: bool,
) -> str:
    """Return why the manifest ``data`` does not prove the range ``expected`` and its ``objects``, or "".

    ``is_trusted``: a trusted hash after the range covers its last hash.
    """
    document, fault = read_signed(data, MANIFEST_FORMAT, signer, is_trusted=is_trusted)
    if document.get("format") == _UNSIGNED_MANIFEST:
        return (
            f"its format {_UNSIGNED_MANIFEST!r} is not signed: check it with the release that made it, and "
            f"store that release with the archive; this one reads {MANIFEST_FORMAT!r}"
        )
    wanted = {**{name: expected[name] for name in _RANGE}, "objects": list(objects)}
    for name, value in () if fault else wanted.items():
        if (found := document.get(name)) != value:
            return f"its {name} is {found!r}, the archive's is {value!r}"
    return fault


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
