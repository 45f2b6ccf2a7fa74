"""Read CSV files that a person prepared: every wrong line is named. Pure."""

import csv
from collections.abc import Callable, Collection, Mapping
from io import StringIO
from typing import TypeVar

from services.core.errors import ShopfleetError

MAX_FAULTS = 20
LARGEST_ID = 2**63 - 1

T = TypeVar("T")


def parse_csv(
    text: str,
    columns: Collection[str],
    required: Collection[str],
    parse: Callable[[Mapping[str, str], int], T],
    refusal: type[ShopfleetError],
) -> list[T]:
    """Return what ``parse`` makes of each line below the first, which names the columns in any order.

    ``parse`` gets the cells by column, without spaces around them and empty where there is none, and the
    number of the line; it raises ``ValueError`` for a wrong cell. Raises ``refusal`` naming all wrong lines.
    """
    reader = csv.DictReader(StringIO(text.removeprefix("\ufeff")), strict=True)
    parsed: list[T] = []
    faults: list[str] = []
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if not set(required) <= set(names) <= set(columns) or len(set(names)) < len(names):
            wanted = f"the columns should be of {', '.join(columns)}; required: {', '.join(required)}"
            raise refusal(f"line 1: {wanted}; they are {','.join(names)!r}")
        reader.fieldnames = names
        for row in reader:
            try:
                if None in row:
                    raise ValueError("there are more fields than the first line has columns")
                parsed.append(
                    parse({name: (row.get(name) or "").strip() for name in columns}, reader.line_num)
                )
            except ValueError as fault:
                faults.append(f"line {reader.line_num}: {fault}")
    except csv.Error as fault:
        faults.append(f"line {reader.line_num}: {fault}; save the file as CSV with commas")
    raise_faults(faults, refusal)
    return parsed


def raise_faults(faults: Collection[str], refusal: type[ShopfleetError]) -> None:
    """Raise ``refusal`` with the first ``MAX_FAULTS`` of ``faults``, where there are any."""
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        lines = [*list(faults)[:MAX_FAULTS], *more]
        raise refusal("nothing was changed:\n" + "\n".join(f"  {line}" for line in lines))


def parse_count(cell: str, name: str, highest: int) -> int:
    """Return a whole number from 0 to ``highest``, digits only."""
    if not (cell.isascii() and cell.isdecimal()) or int(cell) > highest:
        raise ValueError(f"{name}={cell!r} should be a whole number from 0 to {highest:,}")
    return int(cell)


def find_id(cell: str, name: str) -> int | None:
    """Return an id of the provider's; None for an empty cell."""
    if not cell:
        return None
    if not (cell.isascii() and cell.isdecimal()) or not 0 < int(cell) <= LARGEST_ID:
        raise ValueError(f"{name}={cell!r} should be a number of Shopify's, digits only")
    return int(cell)
