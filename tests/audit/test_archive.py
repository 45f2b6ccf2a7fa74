"""Old events are archived, only proven rows are deleted, and the chain verifies across the cut."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.audit import archive as archive_module
from services.audit.archive import ArchiveResult
from services.audit.archive_reader import list_archives
from services.audit.queries import find_ends
from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.providers.object_store import FolderStore
from tests.audit.chains import altering, append_chain, archive_old

SIGNER = Signer("k" * 32)
NOW = utc_now()
OLD = NOW - timedelta(days=100)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=[1, None])
def chain(engine: Engine, request: pytest.FixtureRequest) -> int | None:
    """Eight events older than 90 days and three newer ones."""
    shop_id: int | None = request.param
    with transaction(engine) as tx:
        append_chain(tx, 8, shop_id, OLD)
        append_chain(tx, 3, shop_id, NOW - timedelta(days=1), first=9)
    return shop_id


def archive(engine: Engine, shop_id: int | None, store: ObjectStore, now: datetime = NOW) -> ArchiveResult:
    return archive_old(engine, shop_id, store, SIGNER, now)


def verify(engine: Engine, store: ObjectStore, **wanted: bool) -> VerifyReport:
    with transaction(engine) as tx:
        return verify_audit(tx, VerifyOptions(**wanted), SIGNER, store)  # type: ignore[arg-type]


def first_and_head(engine: Engine, shop_id: int | None) -> tuple[int, int]:
    with transaction(engine) as tx:
        ends = find_ends(tx, shop_id)
    assert ends is not None
    return ends[0], ends[1].seq


def test_old_events_are_archived_and_the_chain_verifies_across_the_cut(
    engine: Engine, chain: int | None, store: FolderStore
) -> None:
    done = archive(engine, chain, store)

    assert (done.archives, done.rows) == (1, 8)
    assert first_and_head(engine, chain) == (9, 12)
    assert verify(engine, store, full=True).findings == []
    report = verify(engine, store, full=True, archives=True)
    assert report.findings == []
    assert report.chains[0].archived_rows == 8
    assert archive(engine, chain, store) == ArchiveResult()


def test_with_any_store_events_are_archived_anchors_stay_and_the_chain_verifies(
    engine: Engine, any_store: ObjectStore
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 5, 1, OLD)
        append_chain(tx, 2, 1, NOW, first=6)
    until = NOW.replace(microsecond=0) + timedelta(days=400)

    done = archive_old(engine, 1, any_store, SIGNER, NOW, retain_until=until)

    assert done.rows == 5
    with transaction(engine) as tx:
        retained_until = tx.scalar(text("select retained_until from audit_archives"))
    is_locked = "with object lock" in any_store.describe()
    assert retained_until == (until if is_locked else None)
    with transaction(engine) as tx:
        report = verify_audit(tx, VerifyOptions(full=True, archives=True), SIGNER, any_store)
    assert (report.findings, report.chains[0].archived_rows) == ([], 5)


def test_chain_records_the_archive_and_the_checksum_of_its_manifest(
    engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)

    with transaction(engine) as tx:
        found = list_archives(tx, chain)[0]
        summary = tx.scalar(text("select summary from audit_mutations where table_name = 'audit_archives'"))
    assert summary == "archived events 1 to 8"
    assert found.event_seq == 12
    assert store.find_keys("events/") == sorted([found.object_key, found.manifest_key])


def test_many_old_events_are_archived_in_consecutive_parts(
    engine: Engine, chain: int | None, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_ROWS", 3)

    assert archive(engine, chain, store).archives == 3

    assert first_and_head(engine, chain) == (9, 14)
    assert verify(engine, store, full=True, archives=True).findings == []
    with transaction(engine) as tx:
        assert [(a.first_seq, a.last_seq) for a in list_archives(tx, chain)] == [(1, 3), (4, 6), (7, 8)]


def test_archive_events_stay_when_all_events_are_old(engine: Engine, store: FolderStore) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 3, 1, OLD)

    assert archive(engine, 1, store).rows == 3
    assert first_and_head(engine, 1) == (4, 4)
    assert verify(engine, store, full=True, archives=True).findings == []


def test_archive_events_alone_are_not_archived(engine: Engine, chain: int | None, store: FolderStore) -> None:
    long_ago = NOW - timedelta(days=120)
    with transaction(engine) as tx:
        append_chain(tx, 5, 7, NOW - timedelta(days=300))
    archive(engine, 7, store, long_ago)

    archive(engine, 7, store)
    rest = first_and_head(engine, 7)

    assert archive(engine, 7, store, NOW + timedelta(days=1)) == ArchiveResult()
    assert first_and_head(engine, 7) == rest


def test_altered_object_from_the_store_deletes_nothing(
    engine: Engine, chain: int | None, tmp_path: Path
) -> None:
    class Lossy(FolderStore):
        def get(self, key: str) -> bytes:
            return super().get(key)[:-9] if key.endswith(".gz") else super().get(key)

    with pytest.raises(Refused, match="no row was deleted"):
        archive(engine, chain, Lossy(tmp_path / "store"))

    assert first_and_head(engine, chain)[0] == 1


def test_a_chain_that_does_not_verify_is_not_archived(
    engine: Engine, owner_engine: Engine, chain: int | None, store: FolderStore
) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set action = 'x' where seq = 4"))

    with pytest.raises(Refused, match=r"altered: row 4 .*nothing was archived or deleted"):
        archive(engine, chain, store)
    assert store.find_keys("") == []


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("suffix", "kind"), [("gz", "missing"), ("json", "missing"), ("gz", "altered"), ("json", "altered")]
)
def test_missing_or_altered_archive_is_found_when_archives_are_read(
    engine: Engine, chain: int | None, store: FolderStore, tmp_path: Path, suffix: str, kind: str
) -> None:
    archive(engine, chain, store)
    path = next((tmp_path / "store").rglob(f"*.{suffix}"))
    data = path.read_bytes()
    path.unlink()
    if kind == "altered":
        path.write_bytes(data[:40] + b"!" + data[41:])

    report = verify(engine, store, full=True, archives=True)

    assert [found.kind for found in report.findings] == [kind]
    assert "archive of rows 1 to 8" in str(report.findings[0])


def test_an_event_altered_inside_an_archive_is_named(
    engine: Engine, chain: int | None, store: FolderStore, tmp_path: Path
) -> None:
    import gzip

    archive(engine, chain, store)
    path = next((tmp_path / "store").rglob("*.gz"))
    lines = gzip.decompress(path.read_bytes()).replace(b'"request_id":"r-4"', b'"request_id":"r-0"')
    path.unlink()
    path.write_bytes(gzip.compress(lines))

    found = verify(engine, store, full=True, archives=True).findings[0]

    assert (found.kind, found.seq) == ("altered", 4)


def test_cut_without_an_archive_event_is_found(
    engine: Engine, owner_engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)
    with owner_engine.begin() as tx:
        tx.execute(text("update audit_archives set manifest_sha256 = repeat('0', 64)"))

    assert "should have its manifest's SHA-256" in str(verify(engine, store).findings[0])


def test_a_cut_without_an_archive_is_missing_rows(
    engine: Engine, owner_engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_archives"))

    found = verify(engine, store).findings[0]

    assert (found.kind, found.seq) == ("missing", 1)


def test_archive_without_its_row_is_reported_as_a_gap(
    engine: Engine, owner_engine: Engine, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_ROWS", 3)
    with transaction(engine) as tx:
        append_chain(tx, 8, 1, OLD)
    archive(engine, 1, store)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_archives where first_seq = 4"))

    found = verify(engine, store).findings[0]

    assert found.subject == "the archive of rows 7 to 8"
    assert "does not follow the one that ends with row 3" in found.detail


def test_events_archived_during_the_verification_are_not_missing(engine: Engine, tmp_path: Path) -> None:
    class Busy(FolderStore):
        """Archives the rest of the chain while the verification reads the first archive."""

        def get(self, key: str) -> bytes:
            data = super().get(key)
            if not self.is_done:
                self.is_done = True
                archive(engine, 1, self)
            return data

        is_done = True

    busy = Busy(tmp_path / "store")
    with transaction(engine) as tx:
        append_chain(tx, 3, 1, OLD - timedelta(days=30))
        append_chain(tx, 5, 1, OLD, first=4)
        append_chain(tx, 1, 1, NOW, first=9)
    archive(engine, 1, busy, NOW - timedelta(days=20))
    busy.is_done = False

    report = verify(engine, busy, full=True, archives=True)

    assert first_and_head(engine, 1)[0] == 9
    assert (report.findings, report.rows) == ([], 10)
