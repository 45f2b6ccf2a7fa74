"""Verifies the chains, and finds the first altered row of each.

Two checks: each row matches its own hash (``verify_rows``), and the hashes match those signed earlier
(checkpoints, anchors). Only the second finds a chain whose end was removed, or that was rewritten as a whole.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.audit.anchors import check_named_anchor, read_anchors
from services.audit.archive_reader import Archive, check_links, check_manifests, list_archives, read_archive
from services.audit.chain import BEGINNING, TEXT_VERSION, ChainPosition, ChainRow, verify_rows
from services.audit.checkpoints import SignedHead, check_checkpoints, list_checkpoints
from services.audit.diagnose import AuditFinding, diagnose, find_number_fault
from services.audit.queries import (
    StoredChain,
    find_ends,
    find_first_since,
    find_hashes,
    list_chains,
    stream_rows,
    use_snapshot,
)
from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.core.errors import Refused, WorkError

ANCHORS_READ, ANCHORS_READ_FULL = 30, 120
"""How many of the newest anchors are compared. One is made per night: 120 cover all rows not archived."""

TURN_DAYS = 15
"""The nightly verification reads an archive's body every 15 days: twice in 30, because a night may fail."""

ReportProgress = Callable[[int | None, int], None]
"""Called during a verification with a chain and the number of its verified rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What to verify. By default: every chain, from its newest trusted checkpoint on.

    ``is_one_chain``: only the chain of ``shop_id``, which may be the fleet's. ``full``: from each chain's
    first stored row, against every checkpoint since. ``manifests``: check the manifests of all archives.
    ``turn``: read the bodies of the archives that are due on this day (its ordinal), and every anchor.
    ``archives``: read the bodies of all archives, and every anchor.
    """

    shop_id: int | None = None
    is_one_chain: bool = False
    since: datetime | None = None
    full: bool = False
    manifests: bool = False
    turn: int | None = None
    archives: bool = False

    @property
    def reads_bodies(self) -> bool:
        """Whether bodies are read. Those need their manifests and all anchors."""
        return self.archives or self.turn is not None

    def reads_body(self, archive: Archive) -> bool:
        return self.archives or (self.turn is not None and (archive.id + self.turn) % TURN_DAYS == 0)


class ChainAltered(Refused):
    """A chain, or a signature or archive of it, is altered; ``findings`` has all faults."""

    def __init__(self, findings: Sequence[AuditFinding], consequence: str) -> None:
        super().__init__("audit.altered", f"{findings[0]}; {consequence}")
        self.findings = findings


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainResult:
    """The result for one chain. ``rows``: how many were hashed, those after ``began_after``."""

    shop_id: int | None
    rows: int = 0
    archives: int = 0
    archived_rows: int = 0
    began_after: int = 0
    head: ChainPosition = BEGINNING
    is_whole: bool = False
    """Whether all rows up to ``head`` are proven, by this verification or the checkpoint where it began."""
    findings: Sequence[AuditFinding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    chains: Sequence[ChainResult]
    anchors: int
    seconds: float
    anchor_findings: Sequence[AuditFinding] = ()
    text_version: int = TEXT_VERSION

    @property
    def findings(self) -> list[AuditFinding]:
        """All faults, chain by chain, then those of the anchors."""
        return [*(found for chain in self.chains for found in chain.findings), *self.anchor_findings]

    @property
    def rows(self) -> int:
        return sum(chain.rows + chain.archived_rows for chain in self.chains)

    @property
    def rows_per_second(self) -> int:
        return round(self.rows / self.seconds) if self.seconds else 0


def verify_audit(
    tx: Connection,
    options: VerifyOptions,
    signer: Signer,
    store: ObjectStore,
    report_progress: ReportProgress | None = None,
) -> VerifyReport:
    """Verify the chains in one snapshot. ``tx`` must be new: it becomes read-only."""
    began = time.perf_counter()
    newest = None if options.reads_bodies else ANCHORS_READ_FULL if options.full else ANCHORS_READ
    anchored, findings, anchors = read_anchors(store, signer, newest=newest)
    use_snapshot(tx)
    every = list(dict.fromkeys([*list_chains(tx), *anchored]))
    chains = [options.shop_id] if options.is_one_chain else every
    if None in chains:
        findings += check_named_anchor(tx, store)
    results = [
        verify_chain(tx, shop_id, options, signer, store, anchored.get(shop_id, ()), report_progress)
        for shop_id in chains
    ]
    seconds = time.perf_counter() - began
    return VerifyReport(chains=results, anchors=anchors, seconds=seconds, anchor_findings=findings)


def verify_chain(
    tx: Connection,
    shop_id: int | None,
    options: VerifyOptions,
    signer: Signer,
    store: ObjectStore,
    anchored: Sequence[SignedHead],
    report_progress: ReportProgress | None = None,
) -> ChainResult:
    """Verify one chain against itself, its checkpoints, its archives and the heads in anchors, ``anchored``.

    If the chain cannot be read the result is a finding, and ``tx`` can verify the next chain. Raises
    ``OperationalError`` or ``WorkError`` if the database or the store is unavailable.
    """
    try:
        with tx.begin_nested():
            return _verify_chain(tx, shop_id, options, signer, store, anchored, report_progress)
    except (OperationalError, WorkError):
        raise
    except Exception as fault:  # noqa: BLE001 - a fault of one chain must not hide the others
        why = str(fault).strip().partition("\n")[0][:300]
        detail = f"verification stopped with {type(fault).__name__}: {why}. Its other rows are not verified"
        return ChainResult(shop_id=shop_id, findings=[AuditFinding("unreadable", shop_id, 0, detail)])


def _verify_chain(
    tx: Connection,
    shop_id: int | None,
    options: VerifyOptions,
    signer: Signer,
    store: ObjectStore,
    anchored: Sequence[SignedHead],
    report_progress: ReportProgress | None,
) -> ChainResult:
    chain = StoredChain(tx, shop_id)
    archives = list_archives(tx, shop_id)
    first, stored_head = find_ends(tx, shop_id) or (1, BEGINNING)
    read = [archive for archive in archives if options.reads_body(archive)]
    checkpoints = list_checkpoints(tx, shop_id, min([first, *(archive.first_seq for archive in read)]))
    signed, forged = check_checkpoints(shop_id, checkpoints, signer, all_of_them=options.full)
    start, unlinked = check_links(chain, archives, first)
    signed_heads = [*signed, *anchored]
    hashes = find_hashes(tx, shop_id, [head.seq for head in signed_heads])
    archived_rows, unread = _read_archives(store, read, hashes)
    rewritten = _check_signed_heads(shop_id, signed_heads, hashes, stored_head, archives)
    trusted = [ChainPosition(w.seq, w.hash) for w in signed if w.seq >= first and hashes.get(w.seq) == w.hash]
    place = start if first != start.seq + 1 else _choose_place(tx, chain, options, start, trusted)
    rows, head, broken = _walk_chain(tx, chain, place, report_progress)
    if broken is None and head != stored_head:
        detail = f"the chain ends with row {head.seq}, but row {stored_head.seq} exists"
        broken = AuditFinding("inserted", shop_id, stored_head.seq, detail)
    unnumbered = chain.find_unnumbered()
    unproven: list[AuditFinding] = []
    if checks_manifests := options.manifests or options.reads_bodies:
        is_trusted = any(w.seq > start.seq and hashes.get(w.seq) == w.hash for w in signed_heads)
        unproven = check_manifests(store, archives, signer, start if is_trusted else None)
    misnumbered = [find_number_fault(shop_id, unnumbered)] if unnumbered else []
    found = [*([broken] if broken else []), *misnumbered, *rewritten, *forged, *unlinked, *unproven, *unread]
    return ChainResult(
        shop_id=shop_id,
        rows=rows,
        archives=len(archives) if checks_manifests else 0,
        archived_rows=archived_rows,
        began_after=place.seq,
        head=head,
        is_whole=not found and (options.full or options.since is None),
        findings=found,
    )


def _choose_place(
    tx: Connection,
    chain: StoredChain,
    options: VerifyOptions,
    start: ChainPosition,
    trusted: Sequence[ChainPosition],
) -> ChainPosition:
    """Return where the verification begins: at the newest trusted position before the first wanted row."""
    if options.full:
        return start
    first = None if options.since is None else find_first_since(tx, chain.shop_id, options.since)
    if first is None:
        return max(trusted, default=start)
    before = chain.find_at(first - 1)
    places = [place for place in trusted if place.seq < first]
    return max(places, default=ChainPosition(before.seq, before.hash) if before else start)


def _walk_chain(
    tx: Connection, chain: StoredChain, place: ChainPosition, report_progress: ReportProgress | None
) -> tuple[int, ChainPosition, AuditFinding | None]:
    began, shop_id = place.seq, chain.shop_id
    broken: ChainRow | None = None
    with closing(stream_rows(tx, shop_id, place.seq)) as blocks:
        for rows in blocks:
            place, broken = verify_rows(rows, shop_id, place)
            if broken is not None:
                break
            if report_progress:
                report_progress(shop_id, place.seq - began)
    finding = diagnose(shop_id, place, broken, chain) if broken is not None else None
    return place.seq - began, place, finding


def _read_archives(
    store: ObjectStore, archives: Sequence[Archive], hashes: dict[int, str]
) -> tuple[int, list[AuditFinding]]:
    """Read the archives; add the hashes of their rows to ``hashes``, to compare them with signed heads."""
    count = 0
    findings: list[AuditFinding] = []
    for archive in archives:
        rows, finding = read_archive(store, archive)
        count += len(rows)
        for seq, *_, row_hash in rows:
            hashes.setdefault(seq, row_hash)
        findings += [finding] if finding else []
    return count, findings


def _check_signed_heads(
    shop_id: int | None,
    signed_heads: Sequence[SignedHead],
    hashes: Mapping[int, str],
    head: ChainPosition,
    archives: Sequence[Archive],
) -> list[AuditFinding]:
    """Return the first row whose hash differs from the signed one, if any.

    Skips rows that are neither stored nor read from an archive; ``verify_rows`` finds gaps.
    """
    known = {archive.last_seq: archive.last_hash for archive in archives} | dict(hashes)
    for seq, row_hash, source in sorted(signed_heads):
        found = known.get(seq)
        if seq > head.seq:
            detail = f"rows {head.seq + 1} to {seq} are gone: {source} has row {seq} as the head"
            return [AuditFinding("missing", shop_id, head.seq + 1, detail)]
        if found is not None and found != row_hash:
            detail = f"its hash was {row_hash} in {source}, now it is {found}"
            return [AuditFinding("rewritten", shop_id, seq, detail)]
    return []
