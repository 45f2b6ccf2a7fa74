"""Array literals of PostgreSQL: one parameter per column, whatever the number of rows.

Written here because the driver's own adaptation of a list looks every element up: measured at 1.5 to
3.6 us an element, against 0.02 to 0.1 us for these. A row of an order has thirty of them.
Numbers, times and null stand in JSON as they do in an array, and nothing writes JSON faster.
Source of the syntax: PostgreSQL, "Array Input and Output Syntax".
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import orjson


def int_array(values: Iterable[int | None]) -> str:
    """Return ``values`` as the literal of an array of integers, or of booleans; None is NULL."""
    return f"{{{orjson.dumps(list(values))[1:-1].decode()}}}"


def text_array(values: Sequence[str | None]) -> str:
    r"""Return ``values`` as the literal of a text array; None is NULL. A text must hold no ``\0``."""
    try:
        text = '","'.join(values)  # type: ignore[arg-type]
    except TypeError:  # there is a None
        return _escaped(values)
    if "\\" in text or text.count('"') != 2 * (len(values) - 1):
        return _escaped(values)
    return f'{{"{text}"}}'


def instant_array(values: Iterable[datetime | None]) -> str:
    """Return aware ``values`` as the literal of a ``timestamptz`` array; None is NULL.

    An offset counts in whole minutes, as every zone's has since 1972: its seconds would be rounded.
    """
    return f"{{{orjson.dumps(list(values))[1:-1].decode()}}}"


def _escaped(values: Sequence[str | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else f'"{_escape(value)}"' for value in values]) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
