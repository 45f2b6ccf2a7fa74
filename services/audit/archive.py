"""Archiving: events past 90 days leave the database for the store, and the chain goes on over the cut.

In steps that each may be the last before a crash, and are gone on with at the next call: the events are
put, their manifest is put, the chain notes both, everything is read back and verified, and only then the
rows are deleted.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.audit.append import Mutation, append_audit
from services.audit.archived import ARCHIVE_ACTION, find_archives, read_archive, read_object
from services.audit.lines import canonical_json, write_lines
from services.audit.rows import find_ends, per_chain, stream_rows
from services.audit.store import ObjectExists, ObjectStore
from services.audit.walk import BEGINNING, Place, RowTuple, walk
from services.core.errors import Refused

KEPT = timedelta(days=90)
"""How long events stay in the database. The database's own clock checks it again before it deletes."""

AT_ONCE = 20_000
"""Most rows of one archive: they are in memory together."""

_EVENTS = ".jsonl.gz"
MANIFEST_FORMAT = "shopfleet-audit-manifest/1"

Begin = Callable[[], AbstractContextManager[Connection]]
"""Opens a transaction, which commits when its block ends."""

# The last row before the first young one. All may go: the event that tells of it is the new head.
_OLD = per_chain("""
select coalesce(min(seq) filter (where at >= %(before)s) - 1, max(seq)),
       coalesce(bool_or(action <> %(archived)s) filter (where at < %(before)s), false)
  from audit_events where OF_CHAIN and seq < %(first)s + %(at_once)s
""")

_RECORD = """
insert into audit_archives (shop_id, first_seq, last_seq, first_prev_hash, last_hash, object_key,
                            object_sha256, object_bytes, manifest_key, manifest_sha256, event_seq,
                            archived_at, retained_until)
values (%(shop_id)s, %(first_seq)s, %(last_seq)s, %(first_prev_hash)s, %(last_hash)s, %(object_key)s,
        %(object_sha256)s, %(object_bytes)s, %(manifest_key)s, %(manifest_sha256)s,
        (select seq from audit_events where id = %(event_id)s), %(now)s, %(retained_until)s)
"""

_TRUNCATE = "select audit_truncate(%(shop_id)s, %(last_seq)s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What one call came to."""

    archives: int = 0
    rows: int = 0
    bytes_stored: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows that leave together, read and walked."""

    shop_id: int | None
    start: Place
    end: Place
    rows: list[RowTuple]

    @property
    def key(self) -> str:
        """Where it is stored; a chain's objects sort by their rows."""
        return f"{_folder(self.shop_id)}{self.start.seq + 1:012d}-{self.end.seq:012d}"


def archive_chain(
    begin: Begin,
    shop_id: int | None,
    store: ObjectStore,
    *,
    now: datetime,
    retain_until: datetime | None,
    by: str,
    request_id: str,
) -> Archived:
    """Every event of the chain that is past 90 days is in the store and gone from the database.

    The chain is never empty: what tells of the archive stays. Events that only tell of archiving wait.
    ``Refused`` when the chain, or what the store gives back, does not verify: then nothing was deleted.
    """
    done = Archived()
    while True:
        _cut_noted(begin, shop_id, store)
        put = store.find_keys(_folder(shop_id))
        with begin() as tx:
            piece = _find_piece(tx, shop_id, put, now)
        if piece is None:
            return done
        size = _store_piece(begin, piece, store, now, retain_until, by, request_id)
        done = Archived(
            archives=done.archives + 1,
            rows=done.rows + len(piece.rows),
            bytes_stored=done.bytes_stored + size,
        )


def _cut_noted(begin: Begin, shop_id: int | None, store: ObjectStore) -> None:
    """Delete the rows of noted archives that are still here, once what is in the store verifies."""
    with begin() as tx:
        ends = find_ends(tx, shop_id)
        noted = find_archives(tx, shop_id)
    for archive in noted:
        if ends is None or archive.last_seq < ends[0]:
            continue
        _, finding = read_archive(store, archive)
        if finding is not None:
            raise Refused("audit.archive_broken", f"{finding}; no row was deleted")
        with begin() as tx:
            tx.exec_driver_sql(_TRUNCATE, {"shop_id": shop_id, "last_seq": archive.last_seq})


def _find_piece(tx: Connection, shop_id: int | None, put: Sequence[str], now: datetime) -> _Piece | None:
    """Return the next rows to leave, or None; what was ``put`` before a crash stays as it was cut then."""
    ends = find_ends(tx, shop_id)
    if ends is None:
        return None
    first = ends[0]
    archives = find_archives(tx, shop_id)
    start = archives[-1].end if archives else BEGINNING
    values = {"first": first, "at_once": AT_ONCE, "before": now - KEPT, "archived": ARCHIVE_ACTION}
    last, has_news = tx.exec_driver_sql(_OLD[shop_id is None], {"shop_id": shop_id, **values}).one()
    if last < first or not has_news:
        return None
    begun = f"{_folder(shop_id)}{first:012d}-"
    for key in put:
        if key.startswith(begun) and key.endswith(_EVENTS):
            last = min(last, int(key.removeprefix(begun).removesuffix(_EVENTS)))
    rows = [row for chunk in stream_rows(tx, shop_id, first - 1, last) for row in chunk]
    place, broken = walk(rows, shop_id, start)
    if broken is not None or place.seq != last:
        seq = broken.seq if broken else place.seq + 1
        raise Refused(
            "audit.altered",
            f"row {seq} does not verify, so nothing was archived: see `fleet audit verify --full`",
        )
    return _Piece(shop_id, start, place, rows)


def _store_piece(
    begin: Begin,
    piece: _Piece,
    store: ObjectStore,
    now: datetime,
    retain_until: datetime | None,
    by: str,
    request_id: str,
) -> int:
    """Put the events and their manifest, and note them in the chain; return the bytes stored."""
    object_key, manifest_key = f"{piece.key}{_EVENTS}", f"{piece.key}.manifest.json"
    packed = io.BytesIO()
    chain = {"shop_id": piece.shop_id, "first_seq": piece.start.seq + 1, "first_prev_hash": piece.start.hash,
             "last_seq": piece.end.seq, "last_hash": piece.end.hash, "rows": len(piece.rows)}  # fmt: skip
    write_lines(packed, {"chains": [chain]}, ((piece.shop_id, row) for row in piece.rows))
    data = packed.getvalue()
    try:
        guarded = store.put(object_key, data, retain_until)
    except ObjectExists:
        data, guarded = store.get(object_key), None
        if read_object(data, piece.shop_id) != (piece.rows, ""):
            raise Refused(
                "audit.archive_taken", f"{object_key} is there already with other content: move it away first"
            ) from None
    sha256 = hashlib.sha256(data).hexdigest()
    contents = {"key": object_key, "sha256": sha256, "bytes": len(data)}
    manifest = canonical_json(
        {"format": MANIFEST_FORMAT, **chain, "first_at": piece.rows[0][1], "last_at": piece.rows[-1][1],
         "objects": [contents]}
    )  # fmt: skip
    try:
        store.put(manifest_key, manifest, retain_until)
    except ObjectExists:
        if store.get(manifest_key) != manifest:
            raise Refused(
                "audit.archive_taken",
                f"{manifest_key} is there already with other content: move it away first",
            ) from None
    noted = {**chain, "manifest_key": manifest_key, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    rows = f"{chain['first_seq']} to {chain['last_seq']}"
    with begin() as tx:
        event_id = append_audit(
            tx,
            shop_id=piece.shop_id,
            staff_label=by,
            action=ARCHIVE_ACTION,
            request_id=request_id,
            now=now,
            mutations=[
                Mutation("audit_archives", str(chain["first_seq"]), f"archived events {rows}", None, noted)
            ],
        )
        values = {**noted, "object_key": object_key, "object_sha256": sha256, "object_bytes": len(data)}
        tx.exec_driver_sql(_RECORD, {**values, "event_id": event_id, "now": now, "retained_until": guarded})
    return len(data) + len(manifest)


def _folder(shop_id: int | None) -> str:
    return "events/fleet/" if shop_id is None else f"events/shop-{shop_id}/"
