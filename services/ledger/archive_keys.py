"""Keys of archived events: one for each shop, and one for each person whom an event names.

An event is sealed with the key of its shop and the keys of all persons it names; without any one of them it
cannot be read. To redact a person is to destroy their key. A person's key opens nothing without the shop's,
which is sealed with SECRET_KEY.
"""

import hmac
import os
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.crypto import Sealer, get_sealer
from services.core.pg_arrays import int_array

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SHOP = b""
"""``subject`` of a shop's key."""
_PURPOSE = b"shopfleet/archived-events/v1"
_KEY_BYTES, _NONCE_BYTES, _SUBJECT_BYTES = 32, 12, 16

# In the order of the subjects, so that two transactions with the same persons do not deadlock.
_INSERT = """
insert into archive_keys (shop_id, subject, secret, created_at)
select %(shop_id)s, subject, secret, %(now)s from unnest(%(subject)s::bytea[], %(secret)s::bytea[])
       as v(subject, secret) order by subject
on conflict (shop_id, subject) where subject is not null do nothing
"""

_FIND = """
select id, shop_id, subject, secret, destroyed_at from archive_keys
 where shop_id = %(shop_id)s and subject = any(%(subject)s::bytea[])
"""

_FIND_BY_ID = """
select id, shop_id, subject, secret, destroyed_at from archive_keys where id = any(%(id)s::bigint[])
"""

_DESTROY = """
update archive_keys set secret = null, subject = null, destroyed_at = %(now)s
 where shop_id = %(shop_id)s and secret is not null
   and (%(all)s or subject = any(%(subject)s::bytea[]))
"""

_FIND_SHOP_KEYS = "select id, shop_id, secret from archive_keys where subject = ''::bytea order by id"

_RESEAL = "update archive_keys set secret = %(new)s where id = %(id)s and secret = %(old)s"


class ArchiveKey(NamedTuple):
    """A key; ``secret`` is None since it was destroyed at ``destroyed_at``."""

    id: int
    shop_id: int
    secret: bytes | None
    destroyed_at: datetime | None = None


def ensure_keys(
    tx: Connection, shop_id: int, persons: Collection[str], now: datetime
) -> tuple[ArchiveKey, dict[str, ArchiveKey]]:
    """Return the shop's key and the key of each of ``persons``; create those that do not exist.

    A person is a text such as ``customer:191167`` or ``email:ada@example.com``; its keyed hash is stored.
    """
    shop_key = _find_shop_key(tx, shop_id)
    if shop_key is None:
        secret = get_sealer().seal(os.urandom(_KEY_BYTES), _context(shop_id))
        values = {"shop_id": shop_id, "subject": [_SHOP], "secret": [secret], "now": now}
        tx.exec_driver_sql(_INSERT, values)
        shop_key = _find_shop_key(tx, shop_id)
        assert shop_key is not None  # noqa: S101 - it was inserted in this transaction, or before it
    if not persons:
        return shop_key, {}
    hashed = {_hash(shop_key, person): person for person in persons}
    values = {
        "shop_id": shop_id,
        "subject": list(hashed),
        "secret": [os.urandom(_KEY_BYTES) for _ in hashed],
        "now": now,
    }
    tx.exec_driver_sql(_INSERT, values)
    found = tx.exec_driver_sql(_FIND, {"shop_id": shop_id, "subject": list(hashed)})
    return shop_key, {hashed[bytes(row.subject)]: _to_key(row) for row in found}


def list_person_keys(tx: Connection, shop_id: int, persons: Collection[str]) -> list[int]:
    """Return the ids of the keys of ``persons`` at the shop that exist and are not destroyed."""
    shop_key = _find_shop_key(tx, shop_id)
    if shop_key is None:
        return []
    subjects = [_hash(shop_key, person) for person in persons]
    return [row.id for row in tx.exec_driver_sql(_FIND, {"shop_id": shop_id, "subject": subjects})]


def find_keys(tx: Connection, ids: Collection[int]) -> dict[int, ArchiveKey]:
    """Return the keys ``ids`` by id; raise ``SealBroken`` if a shop's key was sealed with an unknown key."""
    rows = tx.exec_driver_sql(_FIND_BY_ID, {"id": int_array(sorted(ids))})
    return {row.id: _to_key(row) for row in rows}


def destroy_keys(tx: Connection, shop_id: int, persons: Collection[str] | None, now: datetime) -> int:
    """Destroy the keys of ``persons`` at the shop; None: all keys of the shop. Return how many."""
    shop_key = _find_shop_key(tx, shop_id)
    if shop_key is None:
        return 0
    subjects = [_hash(shop_key, person) for person in persons or ()]
    values = {"shop_id": shop_id, "subject": subjects, "all": persons is None, "now": now}
    return tx.exec_driver_sql(_DESTROY, values).rowcount


def seal_shop_keys_again(tx: Connection, sealer: Sealer) -> int:
    """Seal the shops' keys with the current SECRET_KEY; return how many had the previous one."""
    count = 0
    for row in tx.exec_driver_sql(_FIND_SHOP_KEYS).all():
        old = bytes(row.secret)
        if not sealer.is_current(old):
            new = sealer.seal(sealer.open(old, _context(row.shop_id)), _context(row.shop_id))
            count += tx.exec_driver_sql(_RESEAL, {"id": row.id, "old": old, "new": new}).rowcount
    return count


def seal_event(keys: Sequence[ArchiveKey], event_id: int, data: bytes) -> bytes:
    """Return ``data`` of the event sealed with all ``keys``, the shop's first."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(_secrets(keys)).encrypt(nonce, data, _aad(keys[0].shop_id, event_id))


def open_event(keys: Sequence[ArchiveKey], event_id: int, sealed: bytes) -> bytes:
    """Return the data of the event; raise ``ValueError`` if it was altered or sealed with other keys."""
    from cryptography.exceptions import InvalidTag

    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return _cipher(_secrets(keys)).decrypt(nonce, rest, _aad(keys[0].shop_id, event_id))
    except InvalidTag:
        raise ValueError(f"the sealed data of event {event_id} was altered") from None


def _secrets(keys: Sequence[ArchiveKey]) -> bytes:
    if any(key.secret is None for key in keys):
        raise ValueError("a key of the event is destroyed")
    return b"".join(key.secret for key in keys if key.secret is not None)


@lru_cache(maxsize=4096)
def _cipher(secrets: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_PURPOSE).derive(secrets))


def _find_shop_key(tx: Connection, shop_id: int) -> ArchiveKey | None:
    row = tx.exec_driver_sql(_FIND, {"shop_id": shop_id, "subject": [_SHOP]}).one_or_none()
    return _to_key(row) if row else None


def _to_key(row: Row[Any]) -> ArchiveKey:
    secret = None if row.secret is None else bytes(row.secret)
    if secret is not None and bytes(row.subject) == _SHOP:
        secret = get_sealer().open(secret, _context(row.shop_id))
    return ArchiveKey(row.id, row.shop_id, secret, row.destroyed_at)


def _hash(shop_key: ArchiveKey, person: str) -> bytes:
    assert shop_key.secret is not None  # noqa: S101 - only keys that exist are found by their subject
    return hmac.digest(shop_key.secret, person.encode(), "sha256")[:_SUBJECT_BYTES]


def _context(shop_id: int) -> str:
    return f"shop/{shop_id}/archived-events"


def _aad(shop_id: int, event_id: int) -> bytes:
    return f"{shop_id}/{event_id}".encode()
