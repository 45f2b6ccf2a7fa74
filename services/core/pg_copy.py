"""COPY and binary results, for large sets, with the driver itself; failures are raised as SQLAlchemy's."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson
import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

T = TypeVar("T")

COPY_FORMAT = r"format csv, null 'null', escape '\'"
"""Options of COPY for the lines of ``csv_rows``: a quoted text is never NULL, not even an empty one."""

_ESCAPE = re.compile(rb'\\[^"]')
"""The escapes of JSON that mean something else to COPY, and \\\\, which does not but is as rare."""


def fetch_binary(tx: Connection, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the rows of ``statement`` in binary: a body of 4 KB would be 8 KB of text."""
    with _driver(tx, statement) as driver, driver.cursor(binary=True) as cursor:
        return cursor.execute(statement, values).fetchall()


def copy_rows(tx: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert ``rows``, with values in the order of ``columns``, into ``table``; none may exist already.

    It costs two thirds of an INSERT from arrays. Not for personal data: PostgreSQL's error message quotes the
    beginning of a line that it cannot read.
    """
    if rows:
        copy_in(tx, f"copy {table} ({', '.join(columns)}) from stdin with ({COPY_FORMAT})", [csv_rows(rows)])


def copy_in(tx: Connection, statement: str, blocks: Iterable[bytes]) -> None:
    """Run ``statement``, a COPY ... FROM STDIN, with ``blocks`` as its input."""
    with _driver(tx, statement) as driver, driver.cursor() as cursor, cursor.copy(statement) as copy:
        for block in blocks:
            copy.write(block)


def csv_rows(rows: Sequence[Sequence[Any]]) -> bytes:
    r"""Return ``rows`` of texts, numbers, booleans, times and None as lines for COPY with ``COPY_FORMAT``.

    JSON of plain tuples or lists is this CSV but for its brackets, and nothing writes JSON faster. Rows with
    a text that the two write differently (a line break) are written one by one. A text must hold no ``\0``.
    Source: PostgreSQL, COPY, "CSV Format".
    """
    text = orjson.dumps(rows)
    lines = text[2:-2].split(b"],[")
    if len(lines) != len(rows) or (b"\\" in text and _ESCAPE.search(text)):
        lines = [b",".join(map(_cell, row)) for row in rows]
    return b"\n".join([*lines, b""])


def _cell(value: object) -> bytes:
    if not isinstance(value, str):
        return orjson.dumps(value)
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'.encode()


def write_new(tx: Connection, write: Callable[[], T], correct: Callable[[], T]) -> T:
    """Write rows with ``write``; if one exists already, write all of them with ``correct``.

    ``on conflict`` costs PostgreSQL 2 us per row, a third of the insert: it writes each row twice into its
    log. A savepoint is cheaper for large sets of rows that are nearly always new.
    """
    try:
        with tx.begin_nested():
            return write()
    except IntegrityError:
        return correct()


@contextmanager
def _driver(tx: Connection, statement: str) -> Iterator[psycopg.Connection]:
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - ``driver_url`` sees to it
    try:
        yield driver
    except psycopg.OperationalError as fault:
        raise OperationalError(statement, None, fault, connection_invalidated=driver.broken) from fault
    except psycopg.IntegrityError as fault:
        raise IntegrityError(statement, None, fault) from fault
