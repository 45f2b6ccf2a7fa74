"""What happened to a chain at the row that breaks it. Pure: the chain is asked through ``Chain``.

A row's hash covers its number and the hash before it, so a row that stands in the wrong place still
tells where it belongs. That separates what was put in, taken out or moved from what was altered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.audit.rehash import MAX_SEQ, Place, Row, hash_row

Kind = Literal["altered", "missing", "reordered", "inserted", "rewritten", "unreadable"]

SEARCHED = 5000
"""How many places up and down a displaced row's own one is looked for: about 10 ms, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first row of a chain that is not as it was written, and which way.

    With a ``subject`` it is not a row but what vouches for one: ``checkpoint 7``, ``anchor anchors/...``.
    """

    kind: Kind
    shop_id: int | None
    seq: int
    """Where it shows: the number of the row, or of the first one that is not there."""
    event_id: int | None
    detail: str
    subject: str = ""

    def __str__(self) -> str:
        chain = "the fleet's chain" if self.shop_id is None else f"the chain of shop {self.shop_id}"
        event = "" if self.event_id is None else f" (event {self.event_id})"
        return f"{self.kind}: {self.subject or f'row {self.seq}{event}'} of {chain}: {self.detail}"


class Chain(Protocol):
    """The stored rows of one chain, for the few questions that a broken one raises."""

    def find_at(self, seq: int) -> Row | None:
        """Return the row numbered ``seq``."""
        ...

    def find_after(self, prev_hash: str) -> Sequence[Row]:
        """Return rows that say they follow ``prev_hash``; a handful is enough."""
        ...


def diagnose(shop_id: int | None, last: Place, row: Row, chain: Chain) -> Finding:
    """Say what is wrong with ``row``, the first that does not follow ``last``."""
    row = chain.find_at(row.seq) or row
    if row.seq != last.seq + 1:
        return _judge_gap(shop_id, last, row, chain)
    if row.prev_hash != last.hash:
        if row.hash == hash_row(row, shop_id, prev_hash=last.hash):
            return _find("altered", shop_id, row, "the hash before it is not the one it was written with")
        true = _find_true_seq(row, shop_id)
        if true is not None and true != row.seq:
            return _judge_displaced(shop_id, last, row, true, chain)
    following = chain.find_at(row.seq + 1)
    if following is not None and _belongs(following, shop_id, last):
        return _find("inserted", shop_id, row, "the row after it follows the one before it")
    if row.prev_hash == last.hash:
        is_hash_alone = following is not None and following.prev_hash == hash_row(row, shop_id)
        what = "is not the one it was written with" if is_hash_alone else "is of other content"
        return _find("altered", shop_id, row, f"its hash {what}")
    return _judge_unlinked(shop_id, last, row, following, chain)


def find_number_fault(shop_id: int | None, row: Row) -> Finding:
    """Return the finding of a row with a number that no row of a chain has."""
    return _find("inserted", shop_id, row, f"rows are numbered from 1 to {MAX_SEQ}")


def _judge_gap(shop_id: int | None, last: Place, row: Row, chain: Chain) -> Finding:
    expected = last.seq + 1
    if not 0 < row.seq <= MAX_SEQ:
        return find_number_fault(shop_id, row)
    if row.seq < expected:
        return _find("inserted", shop_id, row, f"there is a row {row.seq} already")
    for other in chain.find_after(last.hash):
        if other.seq != expected and _belongs(other, shop_id, last):
            return _find("reordered", shop_id, other, f"it was written as row {expected}")
    return _missing(shop_id, expected, row.seq - 1, f"the next is row {row.seq}")


def _judge_displaced(shop_id: int | None, last: Place, row: Row, true: int, chain: Chain) -> Finding:
    """The row was written as number ``true``: rows were moved, or put in or taken out before it."""
    written = f"what is now row {row.seq} was written as row {true}"
    if true < row.seq:
        there = chain.find_at(true)
        if there is None or there.hash == row.hash:
            return _find("inserted", shop_id, row, f"it repeats row {true}")
        return _find("inserted", shop_id, there, written)
    if any(_belongs(other, shop_id, last) for other in chain.find_after(last.hash)):
        return _find("reordered", shop_id, row, f"it was written as row {true}")
    return _missing(shop_id, row.seq, true - 1, written)


def _judge_unlinked(
    shop_id: int | None, last: Place, row: Row, following: Row | None, chain: Chain
) -> Finding:
    """The row follows no row of this chain."""
    if row.hash != hash_row(row, shop_id):
        if following is None:
            return _find("inserted", shop_id, row, "it follows no row of this chain, and no row follows it")
        return _find("altered", shop_id, row, "neither its hash nor the hash before it is what was written")
    before = chain.find_at(last.seq)
    if before is None or (following is not None and following.prev_hash != row.hash):
        return _find("altered", shop_id, row, "altered and hashed again, after a hash that is no row's")
    detail = f"altered and hashed again, maybe with rows before it: row {row.seq} follows another hash"
    return _find("altered", shop_id, before, detail)


def _belongs(row: Row, shop_id: int | None, last: Place) -> bool:
    """Whether ``row`` was written as the one after ``last``, whatever number it has now."""
    return row.prev_hash == last.hash and row.hash == hash_row(row, shop_id, seq=last.seq + 1)


def _find_true_seq(row: Row, shop_id: int | None) -> int | None:
    """Return the number that ``row`` was hashed with, the nearest first; None if none nearby fits."""
    for distance in range(SEARCHED + 1):
        for seq in {row.seq + distance, row.seq - distance}:
            if seq > 0 and hash_row(row, shop_id, seq=seq) == row.hash:
                return seq
    return None


def _find(kind: Kind, shop_id: int | None, row: Row, detail: str) -> Finding:
    return Finding(kind=kind, shop_id=shop_id, seq=row.seq, event_id=row.id, detail=detail)


def _missing(shop_id: int | None, first: int, last: int, detail: str) -> Finding:
    rows = f"row {first} is" if first == last else f"rows {first} to {last} are"
    return Finding(kind="missing", shop_id=shop_id, seq=first, event_id=None, detail=f"{rows} gone: {detail}")
