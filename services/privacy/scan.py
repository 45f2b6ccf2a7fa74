"""Reading all that a shop has kept in bounded memory, searched where it lies."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from services.privacy.holders import Subject
from services.privacy.redaction import search_pattern

SET_SIZE = 200
"""Rows in memory at a time: one may have 5 MiB."""


def scan_rows(
    tx: Connection, statement: str, subject: Subject, *, with_ids: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield what ``statement`` finds of the subject, or of a whole shop all, a set at a time in memory.

    The statement searches ``encode(bytes, 'escape')`` for ``pattern`` and may find too much.
    """
    pattern = search_pattern(subject, with_ids=with_ids)
    if not pattern and not subject.whole_shop:
        return
    values = {"shop_id": subject.shop_id, "whole_shop": subject.whole_shop, "pattern": pattern}
    options = {"stream_results": True, "max_row_buffer": SET_SIZE}
    for row in tx.exec_driver_sql(statement, values, execution_options=options):
        yield tuple(row)
