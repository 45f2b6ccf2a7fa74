"""Checkpoint: a signed head of a chain, and the bytes that its signature covers. Needs no database."""

from typing import NamedTuple

from services.audit.signing import is_signed


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
