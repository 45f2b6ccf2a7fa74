"""The archives of a chain: their rows in ``audit_archives``, and the check of their objects in the store."""

import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.chain import BEGINNING, ChainPosition, ChainRow, RowTuple, verify_rows
from services.audit.diagnose import AuditFinding, ChainRows, FindingKind, diagnose
from services.audit.jsonl import AuditFileInvalid, read_lines
from services.audit.queries import StoredChain, per_chain, query_chain
from services.audit.signing import Signer, find_manifest_fault
from services.audit.store import ObjectMissing, ObjectStore

ARCHIVE_ACTION = "audit.archive"

EVENTS, MANIFEST = ".jsonl.gz", ".manifest.json"
_NAMED = ("first_seq", "last_seq", "last_hash", "manifest_sha256")


class Archive(NamedTuple):
    """A row of ``audit_archives``: the events ``first_seq`` to ``last_seq`` of a chain."""

    id: int
    shop_id: int | None
    first_seq: int
    last_seq: int
    first_prev_hash: str
    last_hash: str
    object_key: str
    object_sha256: str
    object_bytes: int
    manifest_key: str
    manifest_sha256: str
    event_seq: int

    @property
    def start(self) -> ChainPosition:
        """The position before the first archived row."""
        return ChainPosition(self.first_seq - 1, self.first_prev_hash)

    @property
    def end(self) -> ChainPosition:
        """The position of the last archived row."""
        return ChainPosition(self.last_seq, self.last_hash)


_FIND = per_chain(
    f"select {', '.join(Archive._fields)} from audit_archives where OF_CHAIN order by first_seq"  # noqa: S608
)


def archive_folder(shop_id: int | None) -> str:
    """Return the prefix of the keys of a chain's archives."""
    return "events/fleet/" if shop_id is None else f"events/shop-{shop_id}/"


def archive_key(shop_id: int | None, first_seq: int, last_seq: int) -> str:
    """Return the key of an archive without its suffix; the keys of a chain sort by row."""
    return f"{archive_folder(shop_id)}{first_seq:012d}-{last_seq:012d}"


def list_archives(tx: Connection, shop_id: int | None) -> list[Archive]:
    """Return the archives of a chain, the oldest first."""
    return [Archive(**row._mapping) for row in query_chain(tx, _FIND, shop_id)]


def check_links(
    chain: StoredChain, archives: Sequence[Archive], first_seq: int
) -> tuple[ChainPosition, list[AuditFinding]]:
    """Return the position before the row ``first_seq``, and the gaps between the archives.

    Each archive must follow the previous one, and an event of the chain, if it is still in the database, must
    have the sum of its manifest.
    """
    findings: list[AuditFinding] = []
    last = start = BEGINNING
    for archive in archives:
        if archive.start != last:
            detail = f"it does not follow the one that ends with row {last.seq}"
            findings.append(_finding("altered", archive, detail))
        last = archive.end
        if archive.last_seq < first_seq:
            start = archive.end
        if archive.event_seq >= first_seq and not _names_archive(chain.find_at(archive.event_seq), archive):
            detail = f"row {archive.event_seq} should have its manifest's SHA-256 and does not"
            findings.append(_finding("altered", archive, detail))
    return start, findings


def _names_archive(event: ChainRow | None, archive: Archive) -> bool:
    if event is None or event.action != ARCHIVE_ACTION:
        return False
    try:
        after = orjson.loads(event.mutations)[0]["after"]
        return all(after[name] == getattr(archive, name) for name in _NAMED)
    except (ValueError, LookupError, TypeError):
        return False


def check_manifests(
    store: ObjectStore, archives: Sequence[Archive], signer: Signer, trusted: ChainPosition | None
) -> list[AuditFinding]:
    """Return the faults of the manifests of ``archives``: all archives of a chain, the oldest first.

    A manifest is trusted when it is signed with the current or the previous key, or when its successor is
    trusted and names its last hash; so archives outlive key rotations. ``trusted`` is the position before the
    first stored row, where a checkpoint or an anchor confirms the rows after it.
    """
    findings = []
    for archive in reversed(archives):
        finding = check_manifest(store, archive, signer, is_trusted=archive.end == trusted)
        trusted = archive.start if finding is None else None
        findings += [finding] if finding else []
    return findings[::-1]


def check_manifest(
    store: ObjectStore, archive: Archive, signer: Signer, *, is_trusted: bool = False
) -> AuditFinding | None:
    """Return the fault of an archive's manifest in the store, if any."""
    key = archive.manifest_key
    if finding := _find_wrong_key(archive, key, MANIFEST):
        return finding
    try:
        data = store.get(key)
    except ObjectMissing:
        return _finding("missing", archive, f"{key} is gone from {store.describe()}")
    if (found := hashlib.sha256(data).hexdigest()) != archive.manifest_sha256:
        detail = f"{key} has the SHA-256 {found}, it was stored with {archive.manifest_sha256}"
        return _finding("altered", archive, detail)
    contents = {"key": archive.object_key, "sha256": archive.object_sha256, "bytes": archive.object_bytes}
    fault = find_manifest_fault(data, archive._asdict(), [contents], signer, is_trusted=is_trusted)
    return _finding("altered", archive, f"{key}: {fault}") if fault else None


def read_archive(store: ObjectStore, archive: Archive) -> tuple[list[RowTuple], AuditFinding | None]:
    """Return the archived rows and their fault, if any. Does not read the manifest."""
    if finding := _find_wrong_key(archive, archive.object_key, EVENTS):
        return [], finding
    try:
        data = store.get(archive.object_key)
    except ObjectMissing:
        return [], _finding("missing", archive, f"{archive.object_key} is gone from {store.describe()}")
    found = hashlib.sha256(data).hexdigest()
    rows, fault = read_object(data, archive.shop_id)
    if not fault:
        place, broken = verify_rows(rows, archive.shop_id, archive.start)
        if broken is not None:
            return rows, diagnose(archive.shop_id, place, broken, ChainRows(lambda: rows))
        if place != archive.end:
            fault = f"it ends with row {place.seq} instead of {archive.last_seq}"
    if not fault and found != archive.object_sha256:
        fault = f"its rows are right, but its SHA-256 is {found}; it was stored with {archive.object_sha256}"
    return rows, _finding("altered", archive, f"{archive.object_key}: {fault}") if fault else None


def _find_wrong_key(archive: Archive, key: str, ending: str) -> AuditFinding | None:
    """Return a finding unless ``key`` is the key of these rows; no other object is read."""
    expected = archive_key(archive.shop_id, archive.first_seq, archive.last_seq) + ending
    detail = f"its key is {key[:200]!r}, it should be {expected!r}"
    return None if key == expected else _finding("altered", archive, detail)


def read_object(data: bytes, shop_id: int | None) -> tuple[list[RowTuple], str]:
    """Return the rows in an archive's bytes, and why they cannot be read, or ""."""
    rows: list[RowTuple] = []
    try:
        lines = read_lines(io.BytesIO(data))
        next(lines)
        for found, row in lines:
            if found != shop_id:
                return rows, f"row {ChainRow(*row).seq} is of another chain"
            rows.append(row)
    except AuditFileInvalid as fault:
        return rows, str(fault)
    return rows, ""


def _finding(kind: FindingKind, archive: Archive, detail: str) -> AuditFinding:
    subject = f"the archive of rows {archive.first_seq} to {archive.last_seq}"
    return AuditFinding(kind, archive.shop_id, archive.first_seq, detail, subject=subject)
