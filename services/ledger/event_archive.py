"""Archived events: their file format, and how they are read back.

An object has events of one shop, as compressed JSON lines: a header, then one line for each event. Ids,
topics and times are readable; headers, body and work are sealed (``archive_keys``). An object is verified by
its SHA-256, which is also in the audit chain, even after its keys were destroyed.
"""

import base64
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Row

from services.audit.store import ObjectMissing, ObjectStore
from services.core.crypto import SealBroken
from services.core.errors import ShopfleetError
from services.core.pg_arrays import int_array
from services.core.times import format_time
from services.ledger.archive_keys import ArchiveKey, find_keys, open_event, seal_event
from services.ledger.filters import EventFilter

FORMAT = "shopfleet-events/1"

PLAIN = (
    "id", "provider", "topic", "delivery_key", "received_at", "occurred_at", "duplicate_count", "origin",
    "request_id", "replay_of",
)  # fmt: skip
"""The fields of an event that are not sealed."""

_FIELDS = {*PLAIN, "keys", "sealed"}
"""The fields of a line."""

_RESTORE = "restore it from a backup or an older version in the store, then run: fleet retention verify"

Begin = Callable[[], AbstractContextManager[Connection]]
Line = Mapping[str, Any]

_FIND = """
select id, shop_id, object_key, object_sha256, object_bytes, event_ids, key_ids, stored_at,
       first_received_at, last_received_at
  from event_archives
 where stored_at is not null and (%(shop_id)s::int is null or shop_id = %(shop_id)s)
   and (%(since)s::timestamptz is null or last_received_at >= %(since)s)
   and (%(until)s::timestamptz is null or first_received_at < %(until)s)
   and (cardinality(%(ids)s::bigint[]) = 0 or event_ids && %(ids)s::bigint[])
   and (cardinality(%(keys)s::bigint[]) = 0 or key_ids && %(keys)s::bigint[])
 order by id
"""


class ArchiveBroken(ShopfleetError):
    """An object of the archive is missing or altered."""


class ArchivedEvent(NamedTuple):
    """An archived event with the attributes of its former row, and the ``key`` of its work."""

    id: int
    shop_id: int
    provider: str
    topic: str
    delivery_key: str
    received_at: datetime
    occurred_at: datetime | None
    duplicate_count: int
    origin: str
    request_id: str
    replay_of: int | None
    headers: dict[str, str]
    body: bytes
    key: str
    work: list[dict[str, Any]]


class SealedEvent(NamedTuple):
    """An archived event that cannot be read, and why. ``is_destroyed``: a redaction destroyed a key."""

    id: int
    why: str
    is_destroyed: bool = False


def make_line(row: Row[Any], keys: Sequence[ArchiveKey]) -> bytes:
    """Return the line of an event; ``row`` has the fields of ``PLAIN``, headers, body, key and work."""
    hidden = orjson.dumps({"headers": row.headers, "key": row.key, "work": row.work})
    sealed = seal_event(keys, row.id, zlib.compress(hidden + b"\n" + bytes(row.body), 6))
    plain = {name: getattr(row, name) for name in PLAIN}
    return orjson.dumps(
        plain | {"keys": [key.id for key in keys], "sealed": base64.b64encode(sealed).decode()}
    )


def pack_lines(shop_id: int, lines: Sequence[bytes]) -> bytes:
    """Return the object of ``lines``."""
    header = orjson.dumps({"format": FORMAT, "shop_id": shop_id, "events": len(lines)})
    return gzip.compress(b"\n".join([header, *lines]) + b"\n", compresslevel=1, mtime=0)


def unpack_lines(data: bytes, key: str) -> list[Line]:
    """Return the lines of the object ``key``; raise ``ArchiveBroken``."""
    try:
        header, *lines = map(orjson.loads, gzip.decompress(data).splitlines())
        if header["format"] != FORMAT or header["events"] != len(lines):
            raise ValueError(f"its header is {header}")
        if any(_FIELDS - line.keys() for line in lines):
            raise ValueError(f"a line lacks one of {', '.join(sorted(_FIELDS))}")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ArchiveBroken(f"{key} is not a file of archived events: {fault}") from None
    return lines


def open_line(line: Line, shop_id: int, keys: Mapping[int, ArchiveKey]) -> ArchivedEvent | SealedEvent:
    """Return the event of ``line``, or why it cannot be read."""
    chosen = [keys.get(key_id) for key_id in line["keys"]]
    known = [key for key in chosen if key is not None]
    if destroyed := [key.destroyed_at for key in known if key.destroyed_at]:
        at = format_time(max(destroyed))
        why = f"its key was destroyed at {at}, by the redaction of a customer or of the shop"
        return SealedEvent(line["id"], why, is_destroyed=True)
    if len(known) < len(chosen):
        why = "a key is missing from archive_keys: restore this table from a backup"
        return SealedEvent(line["id"], why)
    try:
        hidden = zlib.decompress(open_event(known, line["id"], base64.b64decode(line["sealed"])))
    except (ValueError, zlib.error) as fault:
        return SealedEvent(line["id"], f"{fault}: see `fleet retention verify`")
    head, _, body = hidden.partition(b"\n")
    plain = {name: line[name] for name in PLAIN} | {"shop_id": shop_id, "body": body}
    for name in ("received_at", "occurred_at"):
        plain[name] = plain[name] and datetime.fromisoformat(plain[name])
    return ArchivedEvent(**plain, **orjson.loads(head))


def list_archives(tx: Connection, wanted: EventFilter, key_ids: Iterable[int] = ()) -> Sequence[Row[Any]]:
    """Return the archives that may have events of ``wanted``, and use one of ``key_ids``, oldest first."""
    values = {
        "shop_id": wanted.shop_id, "since": wanted.since, "until": wanted.until,
        "ids": int_array(wanted.ids), "keys": int_array(key_ids),
    }  # fmt: skip
    return tx.exec_driver_sql(_FIND, values).all()


def read_object(store: ObjectStore, archive: Row[Any]) -> list[Line]:
    """Return the lines of an archive whose events were deleted; raise ``ArchiveBroken``."""
    key = archive.object_key
    try:
        data = store.get(key)
    except ObjectMissing:
        raise ArchiveBroken(f"{key} is gone from {store.describe()}: {_RESTORE}") from None
    if (found := hashlib.sha256(data).hexdigest()) != archive.object_sha256:
        stored = f"it was stored with {archive.object_sha256}"
        raise ArchiveBroken(f"{key} has the SHA-256 {found}, {stored}: {_RESTORE}")
    archived = set(archive.event_ids)
    return [line for line in unpack_lines(data, key) if line["id"] in archived]


def is_wanted(line: Line, wanted: EventFilter) -> bool:
    """Return whether the event of ``line`` matches ``wanted``, its shop aside."""
    at = datetime.fromisoformat(line["received_at"])
    return (
        (not wanted.ids or line["id"] in wanted.ids)
        and wanted.provider in ("", line["provider"])
        and all(
            getattr(wanted, name) in ("", line[name])
            for name in ("topic", "delivery_key", "origin", "request_id")
        )
        and (wanted.since is None or at >= wanted.since)
        and (wanted.until is None or at < wanted.until)
    )


def open_lines(tx: Connection, shop_id: int, lines: Sequence[Line]) -> list[ArchivedEvent | SealedEvent]:
    """Return the event of each of ``lines``, or why it cannot be read."""
    try:
        keys = find_keys(tx, {key_id for line in lines for key_id in line["keys"]})
    except SealBroken as fault:
        raise ArchiveBroken(str(fault)) from None
    return [open_line(line, shop_id, keys) for line in lines]
