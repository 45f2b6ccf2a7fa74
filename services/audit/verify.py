"""Verifying: are the chains as they were written? Names the first row of each that is not.

Two things are asked of a chain: do its rows hold together (``walk``), and do they still have the hashes
that were signed at the time (checkpoints, anchors)? The second finds what the first cannot: a chain cut
off at its end, or written anew as a whole.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from services.audit.anchors import check_named_anchor, read_anchors
from services.audit.archive_reader import Archive, check_manifests, check_ties, find_archives, read_archive
from services.audit.chain import TEXT_VERSION
from services.audit.checkpoints import Witness, find_checkpoints, judge_checkpoints
from services.audit.diagnose import Finding, Kind, diagnose, find_number_fault
from services.audit.queries import (
    StoredChain,
    find_chains,
    find_ends,
    find_first_since,
    find_hashes,
    hold_still,
    stream_rows,
)
from services.audit.rehash import BEGINNING, Place, Row, walk
from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.core.errors import Refused, WorkError

ANCHORS_READ, ANCHORS_READ_FULL = 30, 120
"""How many of the newest anchors are compared; nightly ones, so the second outlasts what is not archived."""

TURN_DAYS = 15
"""The nightly verification reads an archive's body every so many days: twice in 30, as a night may fail."""

Tell = Callable[[int | None, int], None]
"""Called with a chain and how many of its rows are done, now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to verify. Nothing said: every chain, from its newest trusted checkpoint on."""

    shop_id: int | None = None
    is_one_chain: bool = False
    """Only the chain of ``shop_id``, which may be the fleet's."""
    since: datetime | None = None
    full: bool = False
    """From each chain's first stored row on, against every checkpoint since."""
    manifests: bool = False
    """Check the manifests of all archives: signature, range, sums, and how they join."""
    turn: int | None = None
    """Read the bodies of the archives whose turn it is on this day (its ordinal), and every anchor."""
    archives: bool = False
    """Read the bodies of all archives, and every anchor there is."""

    @property
    def checks_manifests(self) -> bool:
        """Whether manifests are read; a body proves nothing without its manifest."""
        return self.manifests or self.archives or self.turn is not None

    @property
    def reads_all_anchors(self) -> bool:
        """Whether archived rows are compared: the anchors made of them are as old as they are."""
        return self.archives or self.turn is not None

    def reads_body(self, archive: Archive) -> bool:
        """Whether the body of ``archive`` is read."""
        return self.archives or (self.turn is not None and (archive.id + self.turn) % TURN_DAYS == 0)


class ChainAltered(Refused):
    """A chain, or what vouches for it, is not as it was written. ``findings`` are all of it."""

    def __init__(self, findings: Sequence[Finding], what_happens: str) -> None:
        super().__init__("audit.altered", f"{findings[0]}; {what_happens}")
        self.findings = findings


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainVerdict:
    """What was found about one chain. ``rows`` were hashed again, those after ``began_after``."""

    shop_id: int | None
    rows: int = 0
    archives: int = 0
    archived_rows: int = 0
    began_after: int = 0
    head: Place = BEGINNING
    is_whole: bool = False
    """Everything up to ``head`` is proven: by this walk, or by the trusted checkpoint it began at."""
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification came to."""

    chains: Sequence[ChainVerdict]
    anchors: int
    seconds: float
    anchor_findings: Sequence[Finding] = field(default=())
    text_version: int = TEXT_VERSION
    """The version of the canonical text that was hashed."""

    @property
    def findings(self) -> list[Finding]:
        """Everything that is wrong, chain by chain."""
        return [*(found for chain in self.chains for found in chain.findings), *self.anchor_findings]

    @property
    def rows(self) -> int:
        """How many rows were hashed again."""
        return sum(chain.rows + chain.archived_rows for chain in self.chains)

    @property
    def rows_per_second(self) -> int:
        """How fast that was."""
        return round(self.rows / self.seconds) if self.seconds else 0


def verify_audit(
    tx: Connection, wanted: Wanted, signer: Signer, store: ObjectStore, tell: Tell | None = None
) -> Report:
    """Verify the chains as they are at this moment. ``tx`` must be fresh: it becomes read-only."""
    began = time.perf_counter()
    newest = ANCHORS_READ_FULL if wanted.full else ANCHORS_READ
    anchored, findings, anchors = read_anchors(
        store, signer, newest=None if wanted.reads_all_anchors else newest
    )
    hold_still(tx)
    if wanted.is_one_chain:
        chains: list[int | None] = [wanted.shop_id]
    else:
        known = find_chains(tx)
        chains = [*known, *(chain for chain in anchored if chain not in known)]
    if None in chains:
        findings += check_named_anchor(tx, store)
    verdicts = [
        verify_chain(tx, shop_id, wanted, signer, store, anchored.get(shop_id, ()), tell)
        for shop_id in chains
    ]
    return Report(
        chains=verdicts,
        anchors=anchors,
        seconds=time.perf_counter() - began,
        anchor_findings=findings,
    )


def verify_chain(
    tx: Connection,
    shop_id: int | None,
    wanted: Wanted,
    signer: Signer,
    store: ObjectStore,
    anchored: Sequence[Witness],
    tell: Tell | None = None,
) -> ChainVerdict:
    """Verify one chain against itself, its checkpoints, its archives and what was ``anchored``.

    Where something of the chain cannot be read the verdict is a finding, and ``tx`` can verify the next one.
    Raises ``OperationalError`` or ``WorkError`` where the database or the store is unavailable.
    """
    try:
        with tx.begin_nested():
            return _verify_chain(tx, shop_id, wanted, signer, store, anchored, tell)
    except (OperationalError, WorkError):
        raise
    except Exception as fault:  # noqa: BLE001 - no fault of one chain hides the others
        why = str(fault).strip().partition("\n")[0][:300]
        detail = f"verification stopped with {type(fault).__name__}: {why}. Its other rows are not verified"
        return ChainVerdict(shop_id=shop_id, findings=[_find("unreadable", shop_id, 0, detail)])


def _verify_chain(
    tx: Connection,
    shop_id: int | None,
    wanted: Wanted,
    signer: Signer,
    store: ObjectStore,
    anchored: Sequence[Witness],
    tell: Tell | None,
) -> ChainVerdict:
    chain = StoredChain(tx, shop_id)
    archives = find_archives(tx, shop_id)
    first, stored_head = find_ends(tx, shop_id) or (1, BEGINNING)
    read = [archive for archive in archives if wanted.reads_body(archive)]
    checkpoints = find_checkpoints(tx, shop_id, min([first, *(archive.first_seq for archive in read)]))
    signed, forged = judge_checkpoints(shop_id, checkpoints, signer, all_of_them=wanted.full)
    start, untied = check_ties(chain, archives, first)
    witnesses = [*signed, *anchored]
    hashes = find_hashes(tx, shop_id, [witness.seq for witness in witnesses])
    archived_rows, unread = _read_archives(store, read, hashes)
    rewritten = _judge_witnesses(shop_id, witnesses, hashes, stored_head, archives)
    trusted = [Place(w.seq, w.hash) for w in signed if w.seq >= first and hashes.get(w.seq) == w.hash]
    place = start if first != start.seq + 1 else _choose_place(tx, chain, wanted, start, trusted)
    rows, head, broken = _walk_chain(tx, shop_id, place, chain, tell)
    if broken is None and head != stored_head:
        detail = f"the walk ends with row {head.seq}, and row {stored_head.seq} is the highest"
        broken = _find("inserted", shop_id, stored_head.seq, detail)
    unnumbered = chain.find_unnumbered()
    unproven: list[Finding] = []
    if wanted.checks_manifests:
        is_vouched = any(w.seq > start.seq and hashes.get(w.seq) == w.hash for w in witnesses)
        unproven = check_manifests(store, archives, signer, start if is_vouched else None)
    strays = [find_number_fault(shop_id, unnumbered)] if unnumbered else []
    found = [*([broken] if broken else []), *strays, *rewritten, *forged, *untied, *unproven, *unread]
    return ChainVerdict(
        shop_id=shop_id,
        rows=rows,
        archives=len(archives) if wanted.checks_manifests else 0,
        archived_rows=archived_rows,
        began_after=place.seq,
        head=head,
        is_whole=not found and (wanted.full or wanted.since is None),
        findings=found,
    )


def _choose_place(
    tx: Connection, chain: StoredChain, wanted: Wanted, start: Place, trusted: Sequence[Place]
) -> Place:
    """Return where the walk begins: at the newest trusted place before what is wanted."""
    if wanted.full:
        return start
    if wanted.since is None:
        return max(trusted, default=start)
    first = find_first_since(tx, chain.shop_id, wanted.since)
    before = None if first is None else chain.find_at(first - 1)
    if first is None:
        return max(trusted, default=start)
    places = [place for place in trusted if place.seq < first]
    return max(places, default=Place(before.seq, before.hash) if before else start)


def _walk_chain(
    tx: Connection, shop_id: int | None, place: Place, chain: StoredChain, tell: Tell | None
) -> tuple[int, Place, Finding | None]:
    began = place.seq
    broken: Row | None = None
    with closing(stream_rows(tx, shop_id, place.seq)) as blocks:
        for rows in blocks:
            place, broken = walk(rows, shop_id, place)
            if broken is not None:
                break
            if tell:
                tell(shop_id, place.seq - began)
    finding = diagnose(shop_id, place, broken, chain) if broken is not None else None
    return place.seq - began, place, finding


def _read_archives(
    store: ObjectStore, archives: Sequence[Archive], hashes: dict[int, str]
) -> tuple[int, list[Finding]]:
    """Read every archive; add the hashes of its rows to ``hashes``, so that witnesses can be compared."""
    count = 0
    findings: list[Finding] = []
    for archive in archives:
        rows, finding = read_archive(store, archive)
        count += len(rows)
        hashes.update((row[0], row[8]) for row in rows if row[0] not in hashes)
        findings += [finding] if finding else []
    return count, findings


def _judge_witnesses(
    shop_id: int | None,
    witnesses: Sequence[Witness],
    hashes: Mapping[int, str],
    head: Place,
    archives: Sequence[Archive],
) -> list[Finding]:
    """Return the first row that has not the hash that was signed, if there is one.

    A row that is neither stored nor read from an archive is not compared; a gap is the walk's to name.
    """
    known = {archive.last_seq: archive.last_hash for archive in archives} | dict(hashes)
    for seq, row_hash, source in sorted(witnesses):
        found = known.get(seq)
        if seq > head.seq:
            detail = f"rows {head.seq + 1} to {seq} are gone: {source} has row {seq} as the head"
            return [_find("missing", shop_id, head.seq + 1, detail)]
        if found is not None and found != row_hash:
            detail = f"its hash was {row_hash} in {source}, now it is {found}"
            return [_find("rewritten", shop_id, seq, detail)]
    return []


def _find(kind: Kind, shop_id: int | None, seq: int, detail: str) -> Finding:
    return Finding(kind=kind, shop_id=shop_id, seq=seq, event_id=None, detail=detail)
