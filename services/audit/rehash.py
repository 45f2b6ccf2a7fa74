"""Hash the rows of a chain again and compare. Pure.

Works on plain tuples in one loop, because the nightly verification reads millions of rows.
"""

from collections.abc import Iterable
from typing import NamedTuple

from services.audit.chain import FIRST_PREV_HASH, event_text, hash_text

RowTuple = tuple[int, str, str, str, str, int | None, str, str, str]
"""The first nine fields of ``ChainRow``, as a cursor or a file gives them."""


class ChainRow(NamedTuple):
    """A stored event of a chain. ``at`` is the text that was hashed, of ``chain.to_utc_text``."""

    seq: int
    at: str
    staff_label: str
    action: str
    request_id: str
    work_id: int | None
    mutations: str
    prev_hash: str
    hash: str
    id: int | None = None
    """The row's id in the database; a file has none."""


class ChainPosition(NamedTuple):
    """The number and the hash of a row: the last one that is proven."""

    seq: int
    hash: str


BEGINNING = ChainPosition(0, FIRST_PREV_HASH)

MAX_SEQ = 2**53
"""The highest number of a row: the largest integer that every JSON parser reads exactly."""


def walk(
    rows: Iterable[RowTuple], shop_id: int | None, place: ChainPosition
) -> tuple[ChainPosition, ChainRow | None]:
    """Check ``rows`` in order, from the one after ``place``; return the last good position and the bad row.

    The row is None where all are good: each has the next number, the hash of the row before it as its
    ``prev_hash``, and the hash of its own text.
    """
    seq, last = place
    for row in rows:
        number, at, staff_label, action, request_id, work_id, mutations, prev_hash, stored = row
        seq += 1
        text = event_text(shop_id, number, at, staff_label, action, request_id, work_id, mutations)
        if hash_text(last, text) != stored or prev_hash != last or number != seq:
            return ChainPosition(seq - 1, last), ChainRow._make((*row, None))
        last = stored
    return ChainPosition(seq, last), None


def hash_row(
    row: ChainRow, shop_id: int | None, *, seq: int | None = None, prev_hash: str | None = None
) -> str:
    """Return the hash that ``row`` would have with ``seq`` and ``prev_hash`` instead of its own."""
    text = event_text(
        shop_id,
        seq or row.seq,
        row.at,
        row.staff_label,
        row.action,
        row.request_id,
        row.work_id,
        row.mutations,
    )
    return hash_text(prev_hash or row.prev_hash, text)
