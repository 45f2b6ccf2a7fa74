"""File format of exports and archives: compressed JSON lines.

The first line is a header, every other line one event with exactly the fields and texts that were hashed.
Needs only the standard library and orjson, so that a file can be verified anywhere.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import orjson

from services.audit.chain import TEXT_VERSION
from services.audit.rehash import RowTuple
from services.core.errors import ShopfleetError

FORMAT = "shopfleet-audit/1"
_CANONICAL = orjson.OPT_SORT_KEYS
_TEXTS = ("at", "staff_label", "action", "request_id", "mutations", "prev_hash", "hash")


class FileInvalid(ShopfleetError):
    """The file has no audit events, or is cut off. The message names the line."""


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return ``document`` as the bytes that are signed: sorted keys, no spaces."""
    return orjson.dumps(document, option=_CANONICAL)


def write_lines(
    out: IO[bytes], header: Mapping[str, Any], rows: Iterable[tuple[int | None, RowTuple]]
) -> None:
    """Write a compressed file of ``rows`` to ``out``; the same rows give the same bytes."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=out, mtime=0) as lines:
        lines.write(canonical_json({"format": FORMAT, "text_version": TEXT_VERSION, **header}) + b"\n")
        for shop_id, row in rows:
            seq, at, staff_label, action, request_id, work_id, mutations, prev_hash, row_hash = row
            lines.write(
                orjson.dumps(
                    {
                        "shop_id": shop_id, "seq": seq, "at": at, "staff_label": staff_label,
                        "action": action, "request_id": request_id, "work_id": work_id,
                        "mutations": mutations, "prev_hash": prev_hash, "hash": row_hash,
                    }
                )
                + b"\n"
            )  # fmt: skip


def read_lines(file: IO[bytes]) -> Iterator[Any]:
    """Yield the header (a mapping), then a ``(shop_id, row)`` for each event; raise ``FileInvalid``."""
    number = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as lines:
            for number, line in enumerate(lines, 1):
                found = orjson.loads(line)
                yield _read_header(found) if number == 1 else _read_event(found)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as fault:
        raise FileInvalid(f"line {number + 1 if number else 1} cannot be read: {fault}") from fault
    if not number:
        raise FileInvalid("the file is empty: it should begin with a header line")


def _read_header(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"it should be a header with the format {FORMAT!r}")
    if (version := found.get("text_version", TEXT_VERSION)) != TEXT_VERSION:
        raise ValueError(
            f"its text_version is {version!r}, and this verifier knows {TEXT_VERSION}: use the verifier of "
            "the release that made the file"
        )
    return found


def _read_event(found: Any) -> tuple[int | None, RowTuple]:
    shop_id, seq, work_id = found["shop_id"], found["seq"], found["work_id"]
    if not isinstance(seq, int) or not all(isinstance(value, int | None) for value in (shop_id, work_id)):
        raise ValueError("seq, shop_id and work_id should be whole numbers")
    at, staff_label, action, request_id, mutations, prev_hash, row_hash = (found[name] for name in _TEXTS)
    if not all(isinstance(found[name], str) for name in _TEXTS):
        raise ValueError(f"{', '.join(_TEXTS)} should be texts")
    return shop_id, (seq, at, staff_label, action, request_id, work_id, mutations, prev_hash, row_hash)
