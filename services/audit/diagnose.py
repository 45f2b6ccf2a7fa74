"""Diagnoses the first bad row of a chain. Pure.

A row's hash covers its number and the previous hash, so a moved row still matches its original number. This
distinguishes inserted, removed and moved rows from altered ones.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from services.audit.chain import MAX_SEQ, ChainPosition, ChainRow, RowTuple, hash_row

FindingKind = Literal["altered", "missing", "reordered", "inserted", "rewritten", "unreadable"]

SEARCHED = 5000
"""How many numbers up and down are tried for a moved row: about 10 ms."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """The first bad row of a chain, and its fault.

    With a ``subject``: the fault of an anchor, checkpoint or archive, such as ``checkpoint 7``.
    """

    kind: FindingKind
    shop_id: int | None
    seq: int
    """The number of the row, or of the first missing one."""
    detail: str
    event_id: int | None = None
    subject: str = ""

    def __str__(self) -> str:
        chain = "the fleet's chain" if self.shop_id is None else f"the chain of shop {self.shop_id}"
        event = "" if self.event_id is None else f" (event {self.event_id})"
        return f"{self.kind}: {self.subject or f'row {self.seq}{event}'} of {chain}: {self.detail}"


class ChainRows:
    """The rows of one chain, from ``read``; ``StoredChain`` finds them in the database."""

    def __init__(self, read: Callable[[], Iterable[RowTuple]]) -> None:
        self._read = read

    def find_at(self, seq: int) -> ChainRow | None:
        return next((row for row in self._rows() if row.seq == seq), None)

    def find_after(self, prev_hash: str) -> Sequence[ChainRow]:
        """Return up to ten rows with this ``prev_hash``."""
        return list(islice((row for row in self._rows() if row.prev_hash == prev_hash), 10))

    def _rows(self) -> Iterator[ChainRow]:
        return (ChainRow(*fields) for fields in self._read())


def diagnose(shop_id: int | None, last: ChainPosition, row: ChainRow, chain: ChainRows) -> AuditFinding:
    """Return the finding of ``row``, the first that does not follow ``last``."""
    row = chain.find_at(row.seq) or row
    if row.seq != last.seq + 1:
        return _diagnose_gap(shop_id, last, row, chain)
    if row.prev_hash != last.hash:
        if row.hash == hash_row(row, shop_id, prev_hash=last.hash):
            return _finding("altered", shop_id, row, "the hash before it is not the one it was written with")
        original = _find_original_seq(row, shop_id)
        if original is not None and original != row.seq:
            return _diagnose_displaced(shop_id, last, row, original, chain)
    following = chain.find_at(row.seq + 1)
    if following is not None and _belongs(following, shop_id, last):
        return _finding("inserted", shop_id, row, "the row after it follows the one before it")
    if row.prev_hash == last.hash:
        is_hash_alone = following is not None and following.prev_hash == hash_row(row, shop_id)
        fault = "is not the one it was written with" if is_hash_alone else "is of other content"
        return _finding("altered", shop_id, row, f"its hash {fault}")
    return _diagnose_unlinked(shop_id, last, row, following, chain)


def find_number_fault(shop_id: int | None, row: ChainRow) -> AuditFinding:
    """Return the finding of a row with an invalid number."""
    return _finding("inserted", shop_id, row, f"rows are numbered from 1 to {MAX_SEQ}")


def _diagnose_gap(shop_id: int | None, last: ChainPosition, row: ChainRow, chain: ChainRows) -> AuditFinding:
    expected = last.seq + 1
    if not 0 < row.seq <= MAX_SEQ:
        return find_number_fault(shop_id, row)
    if row.seq < expected:
        return _finding("inserted", shop_id, row, f"there is a row {row.seq} already")
    for other in chain.find_after(last.hash):
        if other.seq != expected and _belongs(other, shop_id, last):
            return _finding("reordered", shop_id, other, f"it was written as row {expected}")
    return _missing(shop_id, expected, row.seq - 1, f"the next is row {row.seq}")


def _diagnose_displaced(
    shop_id: int | None, last: ChainPosition, row: ChainRow, original: int, chain: ChainRows
) -> AuditFinding:
    """Diagnose a row that was written as number ``original``."""
    written = f"the present row {row.seq} was written as row {original}"
    if original < row.seq:
        there = chain.find_at(original)
        if there is None or there.hash == row.hash:
            return _finding("inserted", shop_id, row, f"it repeats row {original}")
        return _finding("inserted", shop_id, there, written)
    if any(_belongs(other, shop_id, last) for other in chain.find_after(last.hash)):
        return _finding("reordered", shop_id, row, f"it was written as row {original}")
    return _missing(shop_id, row.seq, original - 1, written)


def _diagnose_unlinked(
    shop_id: int | None, last: ChainPosition, row: ChainRow, following: ChainRow | None, chain: ChainRows
) -> AuditFinding:
    """Diagnose a row whose ``prev_hash`` is not the hash of a row of this chain."""
    if row.hash != hash_row(row, shop_id):
        if following is None:
            return _finding("inserted", shop_id, row, "it follows no row of this chain, no row follows it")
        return _finding("altered", shop_id, row, "its hash and its previous hash are altered")
    before = chain.find_at(last.seq)
    if before is None or (following is not None and following.prev_hash != row.hash):
        return _finding("altered", shop_id, row, "altered and hashed again, after a hash that is no row's")
    detail = f"altered and hashed again, maybe with rows before it: row {row.seq} follows another hash"
    return _finding("altered", shop_id, before, detail)


def _belongs(row: ChainRow, shop_id: int | None, last: ChainPosition) -> bool:
    """Whether ``row`` was written as the row after ``last``; its number may differ."""
    return row.prev_hash == last.hash and row.hash == hash_row(row, shop_id, seq=last.seq + 1)


def _find_original_seq(row: ChainRow, shop_id: int | None) -> int | None:
    """Return the number that ``row`` was hashed with, or None; tries the nearest numbers first."""
    for distance in range(SEARCHED + 1):
        for seq in {row.seq + distance, row.seq - distance}:
            if seq > 0 and hash_row(row, shop_id, seq=seq) == row.hash:
                return seq
    return None


def _finding(kind: FindingKind, shop_id: int | None, row: ChainRow, detail: str) -> AuditFinding:
    return AuditFinding(kind, shop_id, row.seq, detail, row.id)


def _missing(shop_id: int | None, first: int, last: int, detail: str) -> AuditFinding:
    rows = f"row {first} is" if first == last else f"rows {first} to {last} are"
    return AuditFinding("missing", shop_id, first, f"{rows} gone: {detail}")
