"""Old events leave for the store, nothing is deleted unproven, and the chain verifies over the cut."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from services.audit import archive as archive_module
from services.audit.append import Mutation, append_audit
from services.audit.archive import Archived, archive_chain
from services.audit.archived import find_archives
from services.audit.checkpoints import record_checkpoints
from services.audit.rows import find_ends
from services.audit.signing import Signer
from services.audit.store import ObjectStore
from services.audit.verify import Report, Wanted, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused, RetryLater
from services.providers.object_store import FolderStore
from tests.audit.chains import altering, append_chain

SIGNER = Signer("k" * 32)
NOW = utc_now()
OLD = NOW - timedelta(days=100)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=[1, None])
def chain(engine: Engine, request: pytest.FixtureRequest) -> int | None:
    """Eight events past 90 days and three that are not."""
    shop_id: int | None = request.param
    with transaction(engine) as tx:
        append_chain(tx, 8, shop_id, OLD)
        append_chain(tx, 3, shop_id, NOW - timedelta(days=1), first=9)
    return shop_id


def archive(engine: Engine, shop_id: int | None, store: ObjectStore, now: datetime = NOW) -> Archived:
    return archive_chain(
        lambda: transaction(engine), shop_id, store, now=now, retain_until=None, by="job", request_id="r-1"
    )


def verify(engine: Engine, store: ObjectStore, **wanted: bool) -> Report:
    with transaction(engine) as tx:
        return verify_audit(tx, Wanted(**wanted), SIGNER, store)  # type: ignore[arg-type]


def first_and_head(engine: Engine, shop_id: int | None) -> tuple[int, int]:
    with transaction(engine) as tx:
        ends = find_ends(tx, shop_id)
    assert ends is not None
    return ends[0], ends[1].seq


def test_old_events_leave_and_the_chain_verifies_over_the_cut(
    engine: Engine, chain: int | None, store: FolderStore
) -> None:
    done = archive(engine, chain, store)

    assert (done.archives, done.rows) == (1, 8)
    assert first_and_head(engine, chain) == (9, 12)
    assert verify(engine, store, full=True).findings == []
    report = verify(engine, store, full=True, archives=True)
    assert report.findings == []
    assert report.chains[0].archived_rows == 8
    assert archive(engine, chain, store) == Archived()


def test_in_any_store_old_events_leave_anchors_stay_and_the_chain_verifies(
    engine: Engine, any_store: ObjectStore
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 5, 1, OLD)
        append_chain(tx, 2, 1, NOW, first=6)
    until = NOW.replace(microsecond=0) + timedelta(days=400)

    done = archive_chain(
        lambda: transaction(engine), 1, any_store, now=NOW, retain_until=until, by="job", request_id="r-1"
    )

    assert done.rows == 5
    with transaction(engine) as tx:
        noted = find_archives(tx, 1)[0]
    is_locked = "with object lock" in any_store.describe()
    assert noted.retained_until == (until if is_locked else None)
    with transaction(engine) as tx:
        report = verify_audit(tx, Wanted(full=True, archives=True), SIGNER, any_store)
    assert (report.findings, report.chains[0].archived_rows) == ([], 5)


def test_the_chain_tells_of_the_archive_and_carries_its_manifests_sum(
    engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)

    with transaction(engine) as tx:
        found = find_archives(tx, chain)[0]
        summary = tx.scalar(text("select summary from audit_mutations where table_name = 'audit_archives'"))
    assert summary == "archived events 1 to 8"
    assert found.event_seq == 12
    assert store.find_keys("events/") == sorted([found.object_key, found.manifest_key])


def test_a_long_past_leaves_in_pieces_that_follow_each_other(
    engine: Engine, chain: int | None, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "AT_ONCE", 3)

    assert archive(engine, chain, store).archives == 3

    assert first_and_head(engine, chain) == (9, 14)
    assert verify(engine, store, full=True, archives=True).findings == []
    with transaction(engine) as tx:
        assert [(a.first_seq, a.last_seq) for a in find_archives(tx, chain)] == [(1, 3), (4, 6), (7, 8)]


def test_when_all_is_old_what_tells_of_the_archive_stays(engine: Engine, store: FolderStore) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 3, 1, OLD)

    assert archive(engine, 1, store).rows == 3
    assert first_and_head(engine, 1) == (4, 4)
    assert verify(engine, store, full=True, archives=True).findings == []


def test_events_that_tell_of_archiving_wait_for_others(
    engine: Engine, chain: int | None, store: FolderStore
) -> None:
    long_ago = NOW - timedelta(days=120)
    with transaction(engine) as tx:
        append_chain(tx, 5, 7, NOW - timedelta(days=300))
    archive(engine, 7, store, long_ago)

    archive(engine, 7, store)
    rest = first_and_head(engine, 7)

    assert archive(engine, 7, store, NOW + timedelta(days=1)) == Archived()
    assert first_and_head(engine, 7) == rest


class Failing(FolderStore):
    """A folder whose ``fails``-th call is the last one before the process dies."""

    def __init__(self, folder: Path, fails: int, *, after: bool) -> None:
        super().__init__(folder)
        self.calls, self._fails, self._after = 0, fails, after

    @contextmanager
    def _step(self) -> Iterator[None]:
        self.calls += 1
        if self.calls == self._fails and not self._after:
            raise RetryLater("archive.unavailable", "pulled the plug")
        yield
        if self.calls == self._fails:
            raise RetryLater("archive.unavailable", "pulled the plug")

    def put(self, key: str, data: bytes, retain_until: datetime | None = None) -> None:
        with self._step():
            return super().put(key, data, retain_until)

    def get(self, key: str) -> bytes:
        with self._step():
            return super().get(key)

    def find_keys(self, prefix: str) -> list[str]:
        with self._step():
            return list(super().find_keys(prefix))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 6))
def test_a_crash_at_any_step_loses_nothing_and_the_next_run_finishes(
    engine: Engine, store: FolderStore, tmp_path: Path, step: int, after: bool
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 8, 1, OLD)
        append_chain(tx, 3, 1, NOW - timedelta(days=1), first=9)
    failing = Failing(tmp_path / "store", step, after=after)

    with pytest.raises(RetryLater, match="pulled the plug"):
        archive(engine, 1, failing)

    assert verify(engine, store, full=True, archives=True).findings == []
    assert first_and_head(engine, 1)[0] == 1
    # A later night, so that more is old by then: what was begun is finished as it was cut.
    archive(engine, 1, store, NOW + timedelta(hours=1))
    assert first_and_head(engine, 1) == (9, 12)
    assert len(store.find_keys("events/")) == 2
    assert verify(engine, store, full=True, archives=True).findings == []


def test_what_the_store_gives_back_altered_deletes_nothing(
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

    with pytest.raises(Refused, match="row 4 does not verify"):
        archive(engine, chain, store)
    assert store.find_keys("") == []


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("suffix", "kind"), [("gz", "missing"), ("json", "missing"), ("gz", "altered"), ("json", "altered")]
)
def test_an_archive_that_is_gone_or_altered_is_found_when_archives_are_read(
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


def test_a_cut_that_no_event_of_the_chain_vouches_for_is_found(
    engine: Engine, owner_engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)
    with owner_engine.begin() as tx:
        tx.execute(text("update audit_archives set manifest_sha256 = repeat('0', 64)"))

    assert "should carry its manifest's SHA-256" in str(verify(engine, store).findings[0])


def test_a_cut_without_an_archive_is_missing_rows(
    engine: Engine, owner_engine: Engine, chain: int | None, store: FolderStore
) -> None:
    archive(engine, chain, store)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_archives"))

    found = verify(engine, store).findings[0]

    assert (found.kind, found.seq) == ("missing", 1)


def test_an_archive_that_is_no_longer_noted_leaves_a_gap_between_the_others(
    engine: Engine, owner_engine: Engine, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "AT_ONCE", 3)
    with transaction(engine) as tx:
        append_chain(tx, 8, 1, OLD)
    archive(engine, 1, store)
    with owner_engine.begin() as tx:
        tx.execute(text("delete from audit_archives where first_seq = 4"))

    found = verify(engine, store).findings[0]

    assert found.subject == "the archive of rows 7 to 8"
    assert "does not follow the one that ends with row 3" in found.detail


def test_what_is_archived_meanwhile_does_not_look_missing(engine: Engine, tmp_path: Path) -> None:
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


def test_a_signed_head_inside_an_archive_is_compared_when_archives_are_read(
    engine: Engine, owner_engine: Engine, store: FolderStore
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 5, 1, OLD)
    report = verify(engine, store)
    with transaction(engine) as tx:
        record_checkpoints(tx, [(1, report.chains[0].head)], SIGNER, NOW)
        append_chain(tx, 3, 1, OLD, first=6)
        append_chain(tx, 1, 1, NOW, first=9)
    from tests.audit.test_verify import rewrite_from

    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'mallory' where seq = 2"))
        rewrite_from(tx, 2)
    archive(engine, 1, store)

    assert verify(engine, store).findings == []
    found = verify(engine, store, full=True, archives=True).findings[0]
    assert (found.kind, found.seq) == ("rewritten", 5)


def truncate(tx: Connection, through: int, shop_id: int | None = 1) -> None:
    with tx.begin_nested():
        tx.execute(text("select audit_truncate(:shop, :through)"), {"shop": shop_id, "through": through})


def note(tx: Connection, told: dict[str, object], noted: dict[str, object]) -> None:
    """Tell of an archive and note it, as whoever holds the application's role could."""
    last_hash = tx.scalar(text("select hash from audit_events where shop_id = 1 and seq = 8"))
    sums: dict[str, object] = {
        "first_seq": 1,
        "last_seq": 8,
        "last_hash": last_hash,
        "manifest_sha256": "a" * 64,
    }
    append_audit(
        tx, shop_id=1, staff_label="x", action="audit.archive", request_id="r", now=NOW,
        mutations=[Mutation("audit_archives", "1", "archived", None, sums | told)],
    )  # fmt: skip
    tx.execute(
        text(
            "insert into audit_archives (shop_id, first_seq, last_seq, first_prev_hash, last_hash,"
            " object_key, object_sha256, object_bytes, manifest_key, manifest_sha256, event_seq, archived_at)"
            " values (1, :first_seq, :last_seq, '', :last_hash, 'k', '', 1, 'm', :manifest_sha256, :event,"
            " now())"
        ),
        sums | {"event": 12} | told | noted,
    )


@pytest.mark.parametrize(
    ("through", "told", "noted", "says"),
    [
        (7, {}, {}, "no archive of this chain ends with row 7"),
        (8, {}, {"manifest_sha256": "b" * 64}, "does not carry"),
        (8, {}, {"event": 3}, "is not before the head"),
        (8, {}, {"event": 11}, "does not carry"),
        (8, {}, {"last_hash": "c" * 64}, "does not carry"),
        (8, {"last_hash": "c" * 64}, {}, "is not the one that was archived"),
        (8, {"first_seq": 2}, {}, "rows before 2 are not in this archive"),
        (12, {"last_seq": 12}, {}, "is not before the head"),
    ],
)
def test_the_database_itself_refuses_a_cut_that_is_not_proven(
    tx: Connection, through: int, told: dict[str, object], noted: dict[str, object], says: str
) -> None:
    append_chain(tx, 8, 1, OLD)
    append_chain(tx, 3, 1, NOW - timedelta(days=1), first=9)
    note(tx, told, noted)

    with pytest.raises(IntegrityError, match=says):
        truncate(tx, through)


def test_the_database_itself_refuses_to_cut_what_is_young(tx: Connection) -> None:
    append_chain(tx, 7, 1, OLD)
    append_chain(tx, 4, 1, NOW - timedelta(days=89), first=8)
    note(tx, {}, {})

    with pytest.raises(IntegrityError, match="younger than 90 days"):
        truncate(tx, 8)


def test_the_database_cuts_what_is_proven(tx: Connection) -> None:
    append_chain(tx, 8, 1, OLD)
    append_chain(tx, 3, 1, NOW - timedelta(days=1), first=9)
    note(tx, {}, {})

    truncate(tx, 8)

    ends = find_ends(tx, 1)
    assert ends is not None
    assert ends[0] == 9
