"""CSV: writes files in which no spreadsheet runs a formula, and parses files of people. Pure.

RFC 4180: commas, CRLF, quotes doubled inside quotes. Files begin with a byte order mark: without one, Excel
reads UTF-8 in the machine's old code page and shows "CafÃ©"; programs read it with ``utf-8-sig``.
Source of the dangerous characters: OWASP, "CSV Injection".
"""

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeVar

from services.core.errors import ShopfleetError
from services.core.fields import LARGEST_ID

T = TypeVar("T")

MAX_FAULTS = 20
CSV_TYPE = "text/csv; charset=utf-8"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
"""The first three bytes of a file."""

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_QUOTED = frozenset(',"\r\n')
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def csv_line(cells: Iterable[object]) -> bytes:
    """Return one row of a file with its line end. None is an empty cell."""
    return (",".join(["" if cell is None else csv_cell(str(cell)) for cell in cells]) + "\r\n").encode(
        "utf-8", "replace"
    )


@lru_cache(maxsize=16_384)
def csv_cell(value: str) -> str:
    """Return ``value`` as a cell: quoted if necessary, with an apostrophe before a formula.

    A value that begins like a formula, after spaces too, becomes text. A plain number such as -12.50 stays a
    number, because spreadsheets add it up. Cached, because most values of a file repeat.
    """
    safe = f"'{value}" if is_formula(value) else value
    return '"' + safe.replace('"', '""') + '"' if _QUOTED & set(safe) else safe


def is_formula(value: str) -> bool:
    """Whether a spreadsheet might read ``value`` as a formula."""
    if value[:1] in ("\t", "\r", "\n"):
        return True
    return value.lstrip()[:1] in _FORMULA and _NUMBER.fullmatch(value) is None


def read_cell(value: str) -> str:
    """Return the value that ``csv_cell`` wrote, from the text that a CSV reader returns."""
    return value[1:] if value[:1] == "'" and is_formula(value[1:]) else value


def csv_file(columns: Mapping[str, Callable[[T], object]], rows: Iterable[T]) -> Iterator[bytes]:
    """Yield a file's lines: the names of ``columns``, then a line of their values for each of ``rows``."""
    yield BOM + csv_line(columns)
    cells = tuple(columns.values())
    for row in rows:
        yield csv_line([cell(row) for cell in cells])


def parse_csv(
    text: str,
    columns: Collection[str],
    required: Collection[str],
    parse: Callable[[Mapping[str, str], int], T],
    refusal: type[ShopfleetError],
    max_faults: int = MAX_FAULTS,
) -> list[T]:
    """Return the results of ``parse`` for each line below the first, which names the columns in any order.

    ``parse`` gets the cells by column, stripped, empty for a missing one, and the number of the line; it
    raises ``ValueError`` for a wrong cell. Raises ``refusal`` naming the first ``max_faults`` wrong lines.
    """
    lines = (line[0] for line in _LINE.finditer(text, text.startswith("\ufeff")))
    reader = csv.DictReader(lines, strict=True)
    parsed: list[T] = []
    faults: list[str] = []
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if not set(required) <= set(names) <= set(columns) or len(set(names)) < len(names):
            wanted = f"the columns should be of {', '.join(columns)}; required: {', '.join(required)}"
            found = f"they are {','.join(names)!r}" if names else "the file is empty"
            raise refusal(f"line 1: {wanted}; {found}")
        reader.fieldnames = names
        for row in reader:
            try:
                if None in row:
                    raise ValueError("there are more fields than the first line has columns")
                if any("\0" in (cell or "") for cell in row.values()):
                    raise ValueError("a cell contains a NUL character; save the file as CSV in UTF-8")
                parsed.append(
                    parse({name: (row.get(name) or "").strip() for name in columns}, reader.line_num)
                )
            except ValueError as fault:
                faults.append(f"line {reader.line_num}: {fault}")
    except csv.Error as fault:
        faults.append(f"line {reader.line_num + 1}: {fault}; save the file as CSV with commas")
    raise_faults(faults, refusal, max_faults)
    return parsed


def raise_faults(
    faults: Collection[str], refusal: type[ShopfleetError], max_faults: int = MAX_FAULTS
) -> None:
    """Raise ``refusal`` with the first ``max_faults`` of ``faults``, if there are any."""
    if faults:
        more = [f"and {len(faults) - max_faults} more"] if len(faults) > max_faults else []
        lines = [*list(faults)[:max_faults], *more]
        raise refusal("nothing was changed:\n" + "\n".join(f"  {line}" for line in lines))


def parse_count(cell: str, name: str, highest: int) -> int:
    """Return a whole number from 0 to ``highest``, digits only."""
    if not (cell.isascii() and cell.isdecimal()) or int(cell) > highest:
        raise ValueError(f"{name}={cell!r} should be a whole number from 0 to {highest:,}")
    return int(cell)


def find_id(cell: str, name: str) -> int | None:
    """Return a Shopify id; None for an empty cell."""
    if not cell:
        return None
    if not (cell.isascii() and cell.isdecimal()) or not 0 < int(cell) <= LARGEST_ID:
        raise ValueError(f"{name}={cell!r} should be an id of Shopify, digits only")
    return int(cell)
