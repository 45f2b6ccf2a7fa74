"""Counts of stock in a CSV file. Pure."""

import csv
from collections.abc import Mapping
from io import StringIO
from typing import NamedTuple

from services.shopify.stock.counts import CountRefused

COLUMNS = ("inventory_item_id", "sku", "location_id", "pieces")


class CountLine(NamedTuple):
    """``pieces`` of an item, by its number or its sku; ``location_id`` None is the shop's own.

    ``number`` is the line of a file; 0 where there is none.
    """

    inventory_item_id: int | None
    sku: str
    location_id: int | None
    pieces: int
    number: int = 0


def parse_counts_csv(text: str) -> list[CountLine]:
    """Return the counts of a file; raise ``CountRefused`` naming each wrong line, field and value."""
    rows = csv.DictReader(StringIO(text), strict=True)
    try:
        unknown = [name for name in rows.fieldnames or () if name not in COLUMNS]
        if unknown or "pieces" not in (rows.fieldnames or ()):
            raise CountRefused(f"line 1: the columns should be of {', '.join(COLUMNS)}; pieces is required")
        lines, faults = list[CountLine](), list[str]()
        for row in rows:
            try:
                lines.append(_read(row, rows.line_num))
            except ValueError as fault:
                faults.append(f"line {rows.line_num}: {fault}")
    except csv.Error as fault:
        raise CountRefused(f"line {rows.line_num}: {fault}; save the file as CSV with commas") from fault
    if faults:
        raise CountRefused("; ".join(faults))
    return lines


def _read(row: Mapping[str | None, str | None], number: int) -> CountLine:
    if None in row:
        raise ValueError("it has more fields than the first line has columns")
    return CountLine(
        _number(row, "inventory_item_id"),
        (row.get("sku") or "").strip(),
        _number(row, "location_id"),
        _pieces(row),
        number,
    )


def _pieces(row: Mapping[str | None, str | None]) -> int:
    pieces = (row.get("pieces") or "").strip()
    if not (pieces.isascii() and pieces.isdecimal()) or int(pieces) > 1_000_000_000:
        raise ValueError(f"pieces={pieces!r} should be a whole number from 0 to 1000000000")
    return int(pieces)


def _number(row: Mapping[str | None, str | None], name: str) -> int | None:
    value = (row.get(name) or "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isdecimal()) or not 0 < int(value) < 2**63:
        raise ValueError(f"{name}={value!r} should be a number of Shopify's, digits only")
    return int(value)
