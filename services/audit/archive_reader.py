"""What left the database: the archives of a chain, how they tie into it, and whether they still hold."""

import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from services.audit.diagnose import Finding, Kind, diagnose
from services.audit.jsonl import FileInvalid, read_lines
from services.audit.manifest import find_manifest_fault
from services.audit.queries import StoredChain, per_chain
from services.audit.rehash import BEGINNING, Place, Row, RowTuple, walk
from services.audit.signing import Signer
from services.audit.store import ObjectMissing, ObjectStore

ARCHIVE_ACTION = "audit.archive"

EVENTS, MANIFEST = ".jsonl.gz", ".manifest.json"

_FIND = per_chain("""
select id, shop_id, first_seq, last_seq, first_prev_hash, last_hash, object_key, object_sha256, object_bytes,
       manifest_key, manifest_sha256, event_seq
  from audit_archives where OF_CHAIN order by first_seq
""")


class Archive(NamedTuple):
    """A row of ``audit_archives``: the events ``first_seq`` to ``last_seq`` of a chain, in the store."""

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
    def start(self) -> Place:
        """The place that the first archived row follows."""
        return Place(self.first_seq - 1, self.first_prev_hash)

    @property
    def end(self) -> Place:
        """The place that the row after the cut follows."""
        return Place(self.last_seq, self.last_hash)


def archive_folder(shop_id: int | None) -> str:
    """Return what the keys of a chain's archives begin with."""
    return "events/fleet/" if shop_id is None else f"events/shop-{shop_id}/"


def archive_key(shop_id: int | None, first_seq: int, last_seq: int) -> str:
    """Return the key of an archive, without its ending; a chain's objects sort by their rows."""
    return f"{archive_folder(shop_id)}{first_seq:012d}-{last_seq:012d}"


def find_archives(tx: Connection, shop_id: int | None) -> list[Archive]:
    """Return the archives of a chain, the oldest first."""
    return [Archive(*row) for row in tx.exec_driver_sql(_FIND[shop_id is None], {"shop_id": shop_id})]


def check_ties(
    chain: StoredChain, archives: Sequence[Archive], first_seq: int
) -> tuple[Place, list[Finding]]:
    """Return the place that the row ``first_seq`` should follow, and where the archives do not fit together.

    Each archive follows the one before, and an event of the chain, as far as it is still in the database,
    carries the sum of its manifest.
    """
    findings: list[Finding] = []
    last = BEGINNING
    start = BEGINNING
    for archive in archives:
        if archive.start != last:
            findings.append(
                _find("altered", archive, f"it does not follow the one that ends with row {last.seq}")
            )
        last = archive.end
        if archive.last_seq < first_seq:
            start = archive.end
        if archive.event_seq >= first_seq and not _tells_of(chain.find_at(archive.event_seq), archive):
            detail = f"row {archive.event_seq} should carry its manifest's SHA-256 and does not"
            findings.append(_find("altered", archive, detail))
    return start, findings


def _tells_of(event: Row | None, archive: Archive) -> bool:
    if event is None or event.action != ARCHIVE_ACTION:
        return False
    try:
        said = orjson.loads(event.mutations)[0]["after"]
        found = said["first_seq"], said["last_seq"], said["last_hash"], said["manifest_sha256"]
    except (ValueError, LookupError, TypeError):
        return False
    return found == (archive.first_seq, archive.last_seq, archive.last_hash, archive.manifest_sha256)


def check_manifests(
    store: ObjectStore, archives: Sequence[Archive], signer: Signer, trusted: Place | None
) -> list[Finding]:
    """Return what is wrong with the manifests of ``archives``, which are all of a chain, the oldest first.

    A manifest is trusted when it is signed with our key or the one before, or when what follows it is trusted
    and names its last hash; so archives outlive any number of key rotations. ``trusted`` is the place before
    the first stored row, where a checkpoint or an anchor vouches for the rows after it.
    """
    findings = []
    for archive in reversed(archives):
        finding = check_manifest(store, archive, signer, is_vouched=archive.end == trusted)
        trusted = archive.start if finding is None else None
        findings += [finding] if finding else []
    return findings[::-1]


def check_manifest(
    store: ObjectStore, archive: Archive, signer: Signer, *, is_vouched: bool = False
) -> Finding | None:
    """Return what is wrong with an archive's manifest in the store, if anything is."""
    key = archive.manifest_key
    if finding := _find_wrong_key(archive, key, MANIFEST):
        return finding
    try:
        data = store.get(key)
    except ObjectMissing:
        return _find("missing", archive, f"{key} is gone from {store.describe()}")
    if (found := hashlib.sha256(data).hexdigest()) != archive.manifest_sha256:
        return _find(
            "altered", archive, f"{key} has the SHA-256 {found}, it was stored with {archive.manifest_sha256}"
        )
    contents = {"key": archive.object_key, "sha256": archive.object_sha256, "bytes": archive.object_bytes}
    fault = find_manifest_fault(data, archive._asdict(), [contents], signer, is_vouched=is_vouched)
    return _find("altered", archive, f"{key}: {fault}") if fault else None


def read_archive(store: ObjectStore, archive: Archive) -> tuple[list[RowTuple], Finding | None]:
    """Return the archived rows, and what is wrong with them, if anything is. The manifest is not read."""
    if finding := _find_wrong_key(archive, archive.object_key, EVENTS):
        return [], finding
    try:
        data = store.get(archive.object_key)
    except ObjectMissing:
        return [], _find("missing", archive, f"{archive.object_key} is gone from {store.describe()}")
    found = hashlib.sha256(data).hexdigest()
    rows, fault = read_object(data, archive.shop_id)
    if not fault:
        place, broken = walk(rows, archive.shop_id, archive.start)
        if broken is not None:
            return rows, diagnose(archive.shop_id, place, broken, KeptChain(rows))
        if place != archive.end:
            fault = f"it ends with row {place.seq}, and the chain says {archive.last_seq}"
    if not fault and found != archive.object_sha256:
        fault = f"its rows hold, but its SHA-256 is {found}; it was stored with {archive.object_sha256}"
    return rows, _find("altered", archive, f"{archive.object_key}: {fault}") if fault else None


def _find_wrong_key(archive: Archive, key: str, ending: str) -> Finding | None:
    """Return a finding unless ``key`` is the one that these rows are stored under; no other one is read."""
    expected = archive_key(archive.shop_id, archive.first_seq, archive.last_seq) + ending
    detail = f"its key is {key[:200]!r}, and these rows are stored as {expected!r}"
    return None if key == expected else _find("altered", archive, detail)


def read_object(data: bytes, shop_id: int | None) -> tuple[list[RowTuple], str]:
    """Return the rows in an archive's bytes, and why they cannot be read, if they cannot."""
    rows: list[RowTuple] = []
    try:
        lines = read_lines(io.BytesIO(data))
        next(lines)
        for found, row in lines:
            if found != shop_id:
                return rows, f"row {row[0]} is of another chain"
            rows.append(row)
    except FileInvalid as fault:
        return rows, str(fault)
    return rows, ""


class KeptChain:
    """Rows in memory; answers ``diagnose``."""

    def __init__(self, rows: Sequence[RowTuple]) -> None:
        self._rows = rows

    def find_at(self, seq: int) -> Row | None:
        """Return the row numbered ``seq``."""
        return next((Row(*row) for row in self._rows if row[0] == seq), None)

    def find_after(self, prev_hash: str) -> Sequence[Row]:
        """Return rows that say they follow ``prev_hash``."""
        return [Row(*row) for row in self._rows if row[7] == prev_hash]


def _find(kind: Kind, archive: Archive, detail: str) -> Finding:
    return Finding(
        kind=kind,
        shop_id=archive.shop_id,
        seq=archive.first_seq,
        event_id=None,
        subject=f"the archive of rows {archive.first_seq} to {archive.last_seq}",
        detail=detail,
    )
