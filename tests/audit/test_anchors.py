"""Anchors in the object store prove later changes of the database."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, text

from services.audit.anchors import Anchor, anchor_entry, list_heads, make_anchor
from services.audit.append import append_all
from services.audit.diagnose import AuditFinding
from services.audit.signing import Signer, canonical_json
from services.audit.store import ObjectStore
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import NOW, altering, append_chain
from tests.audit.verification import rewrite_from

SIGNER = Signer("k" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder)


@pytest.fixture(autouse=True)
def chains(engine: Engine) -> None:
    with transaction(engine) as tx:
        for shop_id in (1, None, 2):
            append_chain(tx, 6, shop_id)


def anchor(engine: Engine, store: ObjectStore, day: int = 0, signer: Signer = SIGNER) -> Anchor:
    """Anchor as the nightly job does."""
    now = NOW + timedelta(days=day)
    with transaction(engine) as tx:
        made = make_anchor(list_heads(tx), store, signer, now)
    store.put(made.key, made.data)
    with transaction(engine) as tx:
        append_all(tx, [anchor_entry(made, store, by="job", request_id="r")], now)
    return made


def verify(engine: Engine, store: ObjectStore, signer: Signer = SIGNER, full: bool = True) -> VerifyReport:
    with transaction(engine) as tx:
        return verify_audit(tx, VerifyOptions(full=full), signer, store)


def only(report: VerifyReport) -> AuditFinding:
    assert len(report.findings) == 1, [str(found) for found in report.findings]
    return report.findings[0]


def swap(folder: Path, key: str, data: bytes) -> None:
    (folder / key).unlink()
    (folder / key).write_bytes(data)


def test_unchanged_heads_are_no_finding(engine: Engine, any_store: ObjectStore) -> None:
    anchor(engine, any_store)
    with transaction(engine) as tx:
        append_chain(tx, 2, 1, first=7)
    anchor(engine, any_store, day=1)

    report = verify(engine, any_store)

    assert report.findings == []
    assert report.anchors == 2


def test_anchor_contains_every_head_and_the_previous_anchor(engine: Engine, store: FolderStore) -> None:
    first = anchor(engine, store)
    second = orjson.loads(anchor(engine, store, day=1).data)

    assert [(head["shop_id"], head["seq"]) for head in second["heads"]] == [(None, 7), (1, 6), (2, 6)]
    assert second["previous"] == {"key": first.key, "sha256": first.sha256}


def test_rehashed_chain_is_reported_as_rewritten(
    engine: Engine, owner_engine: Engine, store: FolderStore
) -> None:
    anchor(engine, store)
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'mallory' where shop_id = 1 and seq = 2"))
        rewrite_from(tx, 2)

    found = only(verify(engine, store))

    assert (found.kind, found.shop_id, found.seq) == ("rewritten", 1, 6)
    assert "in the anchor of 2026-11-20" in found.detail


def test_chain_truncated_at_its_end_is_missing_rows(
    engine: Engine, owner_engine: Engine, store: FolderStore
) -> None:
    anchor(engine, store)
    with altering(owner_engine) as tx:
        tx.execute(text("delete from audit_events where shop_id = 2 and seq > 4"))

    assert (only(verify(engine, store)).kind, only(verify(engine, store)).seq) == ("missing", 5)


def test_deleted_chain_is_reported_as_missing(
    engine: Engine, owner_engine: Engine, store: FolderStore
) -> None:
    anchor(engine, store)
    with altering(owner_engine) as tx:
        tx.execute(text("delete from audit_events where shop_id = 2"))

    found = only(verify(engine, store, full=False))

    assert (found.kind, found.shop_id, found.seq) == ("missing", 2, 1)


@pytest.mark.parametrize("which", [0, 1])
def test_deleted_anchor_is_reported_as_missing(
    engine: Engine, store: FolderStore, folder: Path, which: int
) -> None:
    made = [anchor(engine, store), anchor(engine, store, day=1)][which]
    (folder / made.key).unlink()

    found = only(verify(engine, store))

    assert found.kind == "missing"
    assert made.key in found.subject


def test_an_anchor_altered_is_found_by_its_signature(
    engine: Engine, store: FolderStore, folder: Path
) -> None:
    made = anchor(engine, store)
    swap(folder, made.key, made.data.replace(b'"seq":6', b'"seq":5', 1))

    texts = [str(found) for found in verify(engine, store).findings]

    assert any("its signature is not that of its content" in one for one in texts)
    assert any("names the SHA-256" in one for one in texts)


def test_anchor_signed_again_with_our_key_contradicts_the_next_one(
    engine: Engine, store: FolderStore, folder: Path
) -> None:
    made = anchor(engine, store)
    anchor(engine, store, day=1)
    document = orjson.loads(made.data)
    del document["signature"]
    document["heads"] = document["heads"][:1]
    document["signature"] = SIGNER.sign(canonical_json(document))
    swap(folder, made.key, canonical_json(document))

    assert "the next anchor names another SHA-256" in only(verify(engine, store)).detail


def test_anchor_signed_with_another_key_is_found(engine: Engine, store: FolderStore, folder: Path) -> None:
    made = anchor(engine, store)
    forger = Signer("f" * 32)
    document = orjson.loads(made.data) | {"public_key": forger.public_key}
    del document["signature"]
    document["signature"] = forger.sign(canonical_json(document))
    swap(folder, made.key, canonical_json(document))

    assert any("neither our current key" in str(found) for found in verify(engine, store).findings)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"signature":1,"public_key":2,"format":3}'])
def test_an_anchor_that_cannot_be_read_is_a_finding(
    engine: Engine, store: FolderStore, folder: Path, data: bytes
) -> None:
    swap(folder, anchor(engine, store).key, data)

    assert {found.kind for found in verify(engine, store).findings} == {"altered"}


def test_an_anchor_names_its_text_version_and_one_of_another_is_refused(
    engine: Engine, store: FolderStore, folder: Path
) -> None:
    made = anchor(engine, store)
    assert b'"text_version":1' in made.data
    swap(folder, made.key, made.data.replace(b'"text_version":1', b'"text_version":2'))

    assert "its text_version is 2; this release supports 1" in str(verify(engine, store).findings[0])


def test_anchors_verify_after_any_number_of_key_rotations(engine: Engine, store: FolderStore) -> None:
    for day, key in enumerate("abcd"):
        anchor(engine, store, day, Signer(key * 32, previous=chr(ord(key) - 1) * 32))

    assert verify(engine, store, Signer("d" * 32, previous="c" * 32)).findings == []
    assert verify(engine, store, Signer("e" * 32, previous="d" * 32)).findings == []
    assert any("neither our current key" in str(f) for f in verify(engine, store, Signer("z" * 32)).findings)


def test_only_the_newest_anchors_are_read_unless_all_are_requested(
    engine: Engine, store: FolderStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.audit import verify as module

    monkeypatch.setattr(module, "ANCHORS_READ", 2)
    monkeypatch.setattr(module, "ANCHORS_READ_FULL", 3)
    keys = [anchor(engine, store, day).key for day in range(4)]

    with transaction(engine) as tx:
        every = verify_audit(tx, VerifyOptions(archives=True), SIGNER, store)
    with transaction(engine) as tx:
        assert verify_audit(tx, VerifyOptions(full=True, turn=1), SIGNER, store).anchors == 4

    assert [verify(engine, store, full=full).anchors for full in (False, True)] == [2, 3]
    assert (every.anchors, every.findings) == (4, [])
    (folder / keys[0]).unlink()
    assert verify(engine, store, full=False).findings == []
    assert only(verify(engine, store)).kind == "missing"
