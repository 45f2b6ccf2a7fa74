"""ObjectStore: the store of anchors and archives, outside the database. Objects are never overwritten."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.core.errors import ShopfleetError


class ObjectExists(ShopfleetError):
    """An object with that key exists; it is unchanged."""


class ObjectMissing(ShopfleetError):
    """No object has that key."""


class ObjectStore(Protocol):
    """A bucket or a folder. A key is a relative path such as ``anchors/20261122T080000.json``.

    Raises ``RetryLater`` if the store cannot be reached, ``Misconfigured`` if it refuses access.
    """

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> datetime | None:
        """Store ``data``, or raise ``ObjectExists``; return the end of the store's lock, or None: no lock."""

    def get(self, key: str) -> bytes:
        """Return the object, or raise ``ObjectMissing``."""

    def find_keys(self, prefix: str) -> Sequence[str]:
        """Return the keys that begin with ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Delete the object in every version, if it exists.

        Only for personal data, never for proof: raises ``Misconfigured`` if the store locks the object.
        """

    def delete_leftovers(self, before: datetime) -> int:
        """Delete what is left of writes that were killed before ``before``; return how many files."""

    def describe(self) -> str:
        """Return the address of the store and whether it locks objects, for people; no credentials."""
