"""Archive: move events older than 90 days from the database to the store.

First the whole chain is verified against every checkpoint and anchor: a rewritten chain is not archived.
Then, in steps that the next call continues after a crash: store the events and their signed manifest, append
an event about both, read both back from the store and compare them with the rows; only then the archive role
deletes the rows. Rows of ``audit_archives`` prove nothing: the application's role can write them.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Unpack

from psycopg.errors import InsufficientPrivilege, UndefinedFunction
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from services.audit.anchors import check_named_anchor, read_anchors
from services.audit.append import AuditEntry, Author, Mutation, append_now
from services.audit.archive_reader import (
    ARCHIVE_ACTION,
    EVENTS,
    MANIFEST,
    Archive,
    archive_folder,
    archive_key,
    check_manifest,
    list_archives,
    read_archive,
    read_object,
)
from services.audit.chain import BEGINNING, ChainPosition, RowTuple, verify_rows
from services.audit.jsonl import write_lines
from services.audit.queries import find_ends, per_chain, query_chain, stream_rows, use_snapshot
from services.audit.signing import Signer, find_manifest_fault, make_manifest
from services.audit.store import ObjectExists, ObjectStore
from services.audit.tables import audit_archives, audit_events
from services.audit.verify import ChainAltered, VerifyOptions, verify_chain
from services.core.db import make_engine, transaction
from services.core.errors import Misconfigured, Refused, RetryLater

KEPT = timedelta(days=90)
"""How long events stay in the database. ``audit_truncate`` also checks it, by the database's clock."""

MAX_ROWS = 20_000
"""Rows of one archive: all are in memory."""

Truncate = Callable[[Archive], int]
"""Deletes the rows of an archive and returns how many. The caller has verified the archive."""

Begin = Callable[[], AbstractContextManager[Connection]]

# The last row before the first one under 90 days. All rows may be deleted: the archive's event is the head.
_OLD = per_chain("""
select coalesce(min(seq) filter (where at >= %(before)s) - 1, max(seq)) as last,
       coalesce(bool_or(action <> %(archived)s) filter (where at < %(before)s), false) as has_news
  from audit_events where OF_CHAIN and seq >= %(first)s and seq < %(first)s::bigint + %(at_once)s
""")

_TRUNCATE = "select audit_truncate(%(shop_id)s, %(last_seq)s, %(manifest_sha256)s)"


@dataclass(slots=True)
class ArchiveResult:
    """The result of one call. Without an archive role, ``kept`` rows are in the store and the database."""

    archives: int = 0
    rows: int = 0
    bytes_stored: int = 0
    deleted: int = 0
    kept: int = 0


class _Piece(NamedTuple):
    shop_id: int | None
    start: ChainPosition
    end: ChainPosition
    rows: list[RowTuple]


def archive_chain(
    begin: Begin,
    shop_id: int | None,
    store: ObjectStore,
    signer: Signer,
    truncate: Truncate | None,
    *,
    retain_until: datetime | None,
    **author: Unpack[Author],
) -> ArchiveResult:
    """Store every event of the chain that is older than 90 days, and delete its row with ``truncate``.

    Without ``truncate`` the rows stay. The event about the archive stays, so the chain is never empty; a
    range of only such events is not archived. Raises ``ChainAltered`` if the chain does not verify,
    ``Refused`` if the objects in the store do not: then nothing was deleted.
    """
    now = author["now"]
    with begin() as tx:
        undeleted, start = _find_state(tx, shop_id)
        has_old = start is not None and _find_piece_end(tx, shop_id, start, now) is not None
    kept = sum(archive.last_seq - archive.first_seq + 1 for archive in undeleted)
    if not has_old and (truncate is None or not undeleted):
        return ArchiveResult(kept=kept)
    anchored, faults, _ = read_anchors(store, signer, newest=None)
    put = store.find_keys(archive_folder(shop_id))
    done = ArchiveResult()
    # One snapshot from the verification to the last comparison: exactly the verified rows are archived.
    with begin() as tx:
        use_snapshot(tx)
        faults += check_named_anchor(tx, store)
        options = VerifyOptions(shop_id=shop_id, is_one_chain=True, full=True, manifests=True)
        verified = verify_chain(tx, shop_id, options, signer, store, anchored.get(shop_id, ()))
        if findings := [*verified.findings, *faults]:
            advice = "nothing was archived or deleted: see `fleet audit verify --full --archives`"
            raise ChainAltered(findings, advice)
        undeleted, start = _find_state(tx, shop_id)
        for archive in undeleted:
            _prove(tx, store, archive, signer)
            _truncate(done, archive, truncate)
        for piece in _find_pieces(tx, shop_id, start, put, now):
            archive, size = _store_piece(begin, piece, store, signer, retain_until, **author)
            _prove(tx, store, archive, signer)
            done.archives += 1
            done.rows += len(piece.rows)
            done.bytes_stored += size
            _truncate(done, archive, truncate)
    return done


def _truncate(done: ArchiveResult, archive: Archive, truncate: Truncate | None) -> None:
    """Delete the rows of the verified ``archive`` with ``truncate``, if given; count them in ``done``."""
    if truncate is None:
        done.kept += archive.last_seq - archive.first_seq + 1
    else:
        done.deleted += truncate(archive)


def _find_state(tx: Connection, shop_id: int | None) -> tuple[list[Archive], ChainPosition | None]:
    """Return the archives whose rows are still stored, and the position before the first row to archive."""
    ends = find_ends(tx, shop_id)
    if ends is None:
        return [], None
    noted = list_archives(tx, shop_id)
    return [one for one in noted if one.last_seq >= ends[0]], noted[-1].end if noted else BEGINNING


def _prove(tx: Connection, store: ObjectStore, archive: Archive, signer: Signer) -> None:
    """Raise ``Refused`` unless the store has a signed manifest and exactly the rows of the database."""
    finding = check_manifest(store, archive, signer)
    rows: list[RowTuple] = []
    if finding is None:
        rows, finding = read_archive(store, archive)
    if finding is not None:
        raise Refused("audit.archive_broken", f"{finding}; no row was deleted")
    found = stream_rows(tx, archive.shop_id, archive.first_seq - 1, archive.last_seq)
    if rows != [row for chunk in found for row in chunk]:
        seqs = f"{archive.first_seq} to {archive.last_seq}"
        detail = f"{archive.object_key} contains other rows than {seqs} of the chain; no row was deleted"
        raise Refused("audit.archive_broken", detail)


def _find_piece_end(tx: Connection, shop_id: int | None, start: ChainPosition, now: datetime) -> int | None:
    """Return the number of the last row of the next archive, or None where there is nothing to archive."""
    values = {"first": start.seq + 1, "at_once": MAX_ROWS, "before": now - KEPT, "archived": ARCHIVE_ACTION}
    row = query_chain(tx, _OLD, shop_id, **values).one()
    return int(row.last) if row.last is not None and row.last > start.seq and row.has_news else None


def _find_pieces(
    tx: Connection, shop_id: int | None, start: ChainPosition | None, put: Sequence[str], now: datetime
) -> Iterator[_Piece]:
    """Yield the rows to archive, by archive; one that was ``put`` before a crash keeps its range."""
    while start is not None and (last := _find_piece_end(tx, shop_id, start, now)) is not None:
        begun = f"{archive_folder(shop_id)}{start.seq + 1:012d}-"
        for key in put:
            if key.startswith(begun) and key.endswith(EVENTS):
                last = min(last, int(key.removeprefix(begun).removesuffix(EVENTS)))
        rows = [row for chunk in stream_rows(tx, shop_id, start.seq, last) for row in chunk]
        end, broken = verify_rows(rows, shop_id, start)
        if broken is not None or end.seq != last:
            raise RuntimeError(f"row {end.seq + 1} breaks a chain that was verified in this snapshot")
        yield _Piece(shop_id, start, end, rows)
        start = end


def _store_piece(
    begin: Begin,
    piece: _Piece,
    store: ObjectStore,
    signer: Signer,
    retain_until: datetime | None,
    **author: Unpack[Author],
) -> tuple[Archive, int]:
    """Store the events and their manifest, append an event about them; return the archive and its bytes."""
    key = archive_key(piece.shop_id, piece.start.seq + 1, piece.end.seq)
    object_key, manifest_key = f"{key}{EVENTS}", f"{key}{MANIFEST}"
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
            detail = f"{object_key} exists with other content: move it away first"
            raise Refused("audit.archive_taken", detail) from None
    sha256 = hashlib.sha256(data).hexdigest()
    contents = {"key": object_key, "sha256": sha256, "bytes": len(data)}
    times = {"first_at": piece.rows[0][1], "last_at": piece.rows[-1][1]}
    manifest = make_manifest({**chain, **times, "objects": [contents]}, signer)
    try:
        store.put(manifest_key, manifest, retain_until)
    except ObjectExists:
        manifest = store.get(manifest_key)  # stored before a crash, maybe signed with the previous key
        if fault := find_manifest_fault(manifest, chain, [contents], signer, is_trusted=False):
            detail = f"{manifest_key} exists: {fault}. Move it away first"
            raise Refused("audit.archive_taken", detail) from None
    after = {**chain, "manifest_key": manifest_key, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    rows = f"{chain['first_seq']} to {chain['last_seq']}"
    with begin() as tx:
        mutation = Mutation("audit_archives", str(chain["first_seq"]), f"archived events {rows}", None, after)
        by, now, request_id = author["by"], author["now"], author.get("request_id", "")
        entry = AuditEntry(piece.shop_id, by, ARCHIVE_ACTION, request_id, [mutation])
        event_id = append_now(tx, entry, now)
        values = {**after, "object_key": object_key, "object_sha256": sha256, "object_bytes": len(data)}
        row: dict[str, Any] = {name: value for name, value in values.items() if name in audit_archives.c}
        seq = select(audit_events.c.seq).where(audit_events.c.id == event_id).scalar_subquery()
        row |= {"event_seq": seq, "archived_at": now, "retained_until": guarded}
        tx.execute(insert(audit_archives).values(**row))
        archive = next(one for one in list_archives(tx, piece.shop_id) if one.first_seq == chain["first_seq"])
    return archive, len(data) + len(manifest)


@contextmanager
def open_truncate(url: str) -> Iterator[Truncate | None]:
    """Yield a function that deletes archived rows as the role of ``url``; None where ``url`` is empty.

    It raises ``Refused`` if the database refuses the range, ``Misconfigured`` if the role may not
    execute ``audit_truncate``, ``RetryLater`` if the role cannot connect.
    """
    if not url:
        yield None
        return
    engine = make_engine(url, application="shopfleet-archive", pool_size=1)

    def truncate(archive: Archive) -> int:
        try:
            with transaction(engine) as tx:
                return int(tx.exec_driver_sql(_TRUNCATE, archive._asdict()).scalar_one())
        except DBAPIError as fault:
            _raise_named(fault)
            raise

    try:
        yield truncate
    finally:
        engine.dispose()


def _raise_named(fault: DBAPIError) -> None:
    why = str(fault.orig).strip().partition("\n")[0]
    role = "the role of AUDIT_ARCHIVE_DATABASE_URL"
    if isinstance(fault, IntegrityError):
        detail = (
            f"the database refused to delete archived rows: {why}. Run `fleet audit verify --full --archives`"
        )
        raise Refused("audit.cut_refused", detail) from fault
    if isinstance(fault.orig, InsufficientPrivilege | UndefinedFunction):
        detail = (
            f"{role} may not delete archived rows: {why}. Run `fleet migrate` with this setting, then requeue"
        )
        raise Misconfigured("audit.archive_role_refused", detail) from fault
    if isinstance(fault, OperationalError):
        detail = f"{role} cannot connect: {why}. `fleet doctor` checks it"
        raise RetryLater("audit.archive_role_unavailable", detail) from fault
