"""Search of a shop's rows in the database, in bounded memory."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row

from services.privacy.redaction import search_pattern
from services.privacy.subject import Subject

SET_SIZE = 200
"""Rows in memory at a time: one can have 5 MiB."""


def scan_rows(tx: Connection, statement: str, subject: Subject, *, with_ids: bool) -> Iterator[Row[Any]]:
    """Yield the rows that ``statement`` finds about the subject; for a whole shop, all of them.

    The statement searches ``encode(bytes, 'escape')`` for ``pattern`` and may find too many.
    """
    pattern = search_pattern(subject, with_ids=with_ids)
    if not pattern and not subject.whole_shop:
        return
    values = {"shop_id": subject.shop_id, "whole_shop": subject.whole_shop, "pattern": pattern}
    options = {"stream_results": True, "max_row_buffer": SET_SIZE}
    yield from tx.exec_driver_sql(statement, values, execution_options=options)
