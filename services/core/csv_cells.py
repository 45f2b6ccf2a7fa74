"""CSV that a spreadsheet shows and never runs. Pure.

RFC 4180: commas, CRLF, quotes doubled inside quotes. Files begin with a byte order mark: without one, Excel
takes UTF-8 for the machine's old code page and shows "CafÃ©"; programs read it with ``utf-8-sig``.
Source of what is dangerous: OWASP, "CSV Injection".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

CSV_TYPE = "text/csv; charset=utf-8"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
"""The three bytes with which a file begins."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_QUOTED = frozenset(',"\r\n')


def csv_line(cells: Iterable[object]) -> bytes:
    """Return one row of a file, its line end with it. None is an empty cell."""
    return (",".join(["" if cell is None else csv_cell(str(cell)) for cell in cells]) + "\r\n").encode(
        "utf-8", "replace"
    )


@lru_cache(maxsize=16_384)
def csv_cell(value: str) -> str:
    """Return ``value`` as a cell: quoted where it must be, led by an apostrophe where it would be run.

    What begins like a formula, spaces before it or not, is text afterwards. A plain number such as -12.50
    stays one: it must add up in the reader's sheet. Most cells of a file are of few kinds, hence the cache.
    """
    safe = f"'{value}" if is_formula(value) else value
    return '"' + safe.replace('"', '""') + '"' if _QUOTED & set(safe) else safe


def is_formula(value: str) -> bool:
    """Whether a spreadsheet might take ``value`` for more than text or a number."""
    if value[:1] in ("\t", "\r", "\n"):
        return True
    return value.lstrip()[:1] in _FORMULA and _NUMBER.fullmatch(value) is None


def uncell(value: str) -> str:
    """Return what ``csv_cell`` was given, from what a CSV reader made of its cell."""
    return value[1:] if value[:1] == "'" and is_formula(value[1:]) else value


def csv_file(columns: Mapping[str, Callable[[T], object]], rows: Iterable[T]) -> Iterator[bytes]:
    """Yield a file's lines: the names of ``columns``, then what each makes of each of ``rows``."""
    yield BOM + csv_line(columns)
    cells = tuple(columns.values())
    for row in rows:
        yield csv_line([cell(row) for cell in cells])
