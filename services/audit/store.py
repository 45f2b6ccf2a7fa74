"""Where anchors and archives go: a store outside the database, in which nothing is ever overwritten."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.core.errors import ShopfleetError


class ObjectExists(ShopfleetError):
    """There is an object of that key already; it was left as it is."""


class ObjectMissing(ShopfleetError):
    """There is no object of that key."""


class ObjectStore(Protocol):
    """A bucket or a folder. A key is a relative path such as ``anchors/20261122T080000.json``.

    A store that cannot be reached raises ``RetryLater``, one that refuses us ``Misconfigured``.
    """

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> datetime | None:
        """Store ``data`` for good, or raise ``ObjectExists``; return until when the store guards it.

        None: this store cannot hold anybody off, or was not asked to.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return the object, or raise ``ObjectMissing``."""
        ...

    def find_keys(self, prefix: str) -> Sequence[str]:
        """Return the keys that begin with ``prefix``, sorted."""
        ...

    def delete(self, key: str) -> None:
        """The object is gone, every version of it; so it was where there was none.

        For what a person may ask us to forget, and never for proof: a store that guards an object raises
        ``Misconfigured``.
        """
        ...

    def describe(self) -> str:
        """Say what the store is and what it guards, for a person; no credentials."""
        ...
