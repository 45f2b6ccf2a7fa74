"""File format of exports and archives: compressed JSON lines.

The first line is a header, every other line one event with exactly the fields and texts that were hashed.
Needs only the standard library and orjson, so that a file can be verified anywhere.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import IO, Any

import orjson

from services.audit.chain import TEXT_VERSION, ChainRow, RowTuple
from services.audit.signing import canonical_json
from services.core.errors import ShopfleetError

FORMAT = "shopfleet-audit/1"
_FIELDS = ChainRow._fields[:9]
_get_fields = itemgetter(*_FIELDS)
_TEXTS = tuple(name for name in _FIELDS if name not in ("seq", "work_id"))


class AuditFileInvalid(ShopfleetError):
    """The file has no audit events or is incomplete. The message names the line."""


def write_lines(
    out: IO[bytes], header: Mapping[str, Any], rows: Iterable[tuple[int | None, RowTuple]]
) -> None:
    """Write a compressed file of ``rows`` to ``out``; the same rows give the same bytes."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as lines:
        lines.write(canonical_json({"format": FORMAT, "text_version": TEXT_VERSION, **header}) + b"\n")
        for shop_id, row in rows:
            line = {"shop_id": shop_id, **dict(zip(_FIELDS, row, strict=True))}
            lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def read_lines(file: IO[bytes]) -> Iterator[Any]:
    """Yield the header (a mapping), then ``(shop_id, row)`` for each event; raise ``AuditFileInvalid``."""
    number = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as lines:
            for number, line in enumerate(lines, 1):
                found = orjson.loads(line)
                yield _read_header(found) if number == 1 else _read_event(found)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as fault:
        raise AuditFileInvalid(f"line {number + 1 if number else 1} cannot be read: {fault}") from fault
    if not number:
        raise AuditFileInvalid("the file is empty: it should begin with a header line")


def _read_header(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"it should be a header with the format {FORMAT!r}")
    if (version := found.get("text_version", TEXT_VERSION)) != TEXT_VERSION:
        raise ValueError(
            f"its text_version is {version!r}, this verifier supports {TEXT_VERSION}: use the verifier of "
            "the release that made the file"
        )
    return found


def _read_event(found: Any) -> tuple[int | None, RowTuple]:
    shop_id, seq, work_id = found["shop_id"], found["seq"], found["work_id"]
    if not isinstance(seq, int) or not all(isinstance(value, int | None) for value in (shop_id, work_id)):
        raise ValueError("seq, shop_id and work_id should be whole numbers")
    if not all(isinstance(found[name], str) for name in _TEXTS):
        raise ValueError(f"{', '.join(_TEXTS)} should be texts")
    return shop_id, _get_fields(found)
