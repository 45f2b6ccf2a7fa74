"""A manifest proves one range of one chain; without its own manifest an archive row cuts nothing."""

import hashlib
import io
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, text

from services.audit.append import AuditEntry, Mutation, append_now
from services.audit.archive_reader import EVENTS, MANIFEST, Archive, archive_key, list_archives
from services.audit.chain import FIRST_PREV_HASH, ChainRow, hash_row
from services.audit.jsonl import write_lines
from services.audit.queries import stream_rows
from services.audit.signing import Signer, canonical_json, find_manifest_fault, make_manifest
from services.audit.store import ObjectExists
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.providers.object_store import FolderStore
from tests.audit.chains import altering, append_chain, archive_old
from tests.audit.verification import rewrite_from

SIGNER = Signer("k" * 32)
NOW = utc_now()
OLD = NOW - timedelta(days=100)
RANGE = {"shop_id": 1, "first_seq": 4, "first_prev_hash": "a" * 64, "last_seq": 9, "last_hash": "b" * 64}
OBJECTS = [{"key": "events/shop-1/4-9.jsonl.gz", "sha256": "c" * 64, "bytes": 12}]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def verify(engine: Engine, store: FolderStore, signer: Signer = SIGNER, **wanted: Any) -> VerifyReport:
    with transaction(engine) as tx:
        return verify_audit(tx, VerifyOptions(full=True, **wanted), signer, store)


def get_archives(engine: Engine, shop_id: int | None = 1) -> list[Archive]:
    with transaction(engine) as tx:
        return list_archives(tx, shop_id)


def count(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.execute(text("select count(*) from audit_events where shop_id = 1")).scalar_one())


def fault(data: bytes, *, signer: Signer = SIGNER, is_trusted: bool = False, **other: object) -> str:
    return find_manifest_fault(data, RANGE | other, OBJECTS, signer, is_trusted=is_trusted)


def signed(**other: object) -> bytes:
    return make_manifest({**RANGE, "objects": OBJECTS, **other}, SIGNER)


def edited(**other: object) -> bytes:
    return canonical_json(orjson.loads(signed()) | other)


def test_a_manifest_proves_its_own_range() -> None:
    assert fault(signed()) == ""
    assert orjson.loads(signed())["text_version"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("shop_id", 2), ("shop_id", None), ("first_seq", 1), ("last_seq", 10), ("first_prev_hash", "0" * 64),
     ("last_hash", "0" * 64)],
)  # fmt: skip
def test_a_manifest_proves_no_other_range_and_no_other_chain(name: str, value: object) -> None:
    assert f"its {name} is" in fault(signed(), **{name: value})
    assert f"its {name} is" in fault(signed(**{name: value}))
    assert fault(edited(**{name: value})) == "its signature is not that of its content"


@pytest.mark.parametrize("name", ["key", "sha256", "bytes"])
def test_a_manifest_proves_no_other_object(name: str) -> None:
    other = [OBJECTS[0] | {name: "other"}]

    assert "its objects is" in fault(signed(objects=other))
    assert "its objects is" in fault(signed(objects=[]))
    assert fault(edited(objects=other)) == "its signature is not that of its content"


def test_a_manifest_without_a_signature_is_refused_by_its_format() -> None:
    old = canonical_json({"format": "shopfleet-audit-manifest/1", **RANGE, "objects": OBJECTS})

    assert "'shopfleet-audit-manifest/1' is not signed: check it with the release that made it" in fault(old)
    assert "its format is 'x'" in fault(edited(format="x"))


def test_a_manifest_of_another_text_version_is_refused_by_name() -> None:
    assert fault(edited(text_version=2)) == "its text_version is 2; this release supports 1"


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"format": "shopfleet-audit-manifest/2"}'])
def test_what_is_no_manifest_is_a_fault(data: bytes) -> None:
    assert "it cannot be read" in fault(data)


def test_manifest_of_an_unknown_key_counts_only_if_later_ones_confirm_it() -> None:
    other = Signer("z" * 32)

    assert "neither our current key" in fault(signed(), signer=other)
    assert fault(signed(), signer=other, is_trusted=True) == ""
    assert fault(edited(rows=7), signer=other, is_trusted=True) == "its signature is not that of its content"


def forge(
    engine: Engine, store: FolderStore, like: Archive, shop_id: int = 1, first_seq: int = 4, **other: object
) -> None:
    """Record rows up to 6 as archived, in table and chain, with objects of ``like``, as the application role.

    The objects are also stored under the keys of the recorded rows.
    """
    key = archive_key(shop_id, first_seq, 6)
    for copied, to in ((like.object_key, key + EVENTS), (like.manifest_key, key + MANIFEST)):
        with suppress(ObjectExists):
            store.put(to, store.get(copied))
    with transaction(engine) as tx:
        ends = tx.execute(
            text("select seq, prev_hash, hash from audit_events where seq in (4, 6)"
                 " and shop_id is not distinct from :shop order by seq"), {"shop": shop_id},
        ).all()  # fmt: skip
        forged = like._asdict() | {
            "shop_id": shop_id, "first_seq": first_seq, "last_seq": 6, "first_prev_hash": ends[0].prev_hash,
            "last_hash": ends[-1].hash, "object_key": key + EVENTS, "manifest_key": key + MANIFEST, **other,
        }  # fmt: skip
        sums = {name: forged[name] for name in ("first_seq", "last_seq", "last_hash", "manifest_sha256")}
        mutation = Mutation("audit_archives", "4", "archived", None, sums)
        event_id = append_now(tx, AuditEntry(shop_id, "mallory", "audit.archive", "r", [mutation]), NOW)
        forged["event_seq"] = tx.scalar(text("select seq from audit_events where id = :id"), {"id": event_id})
        names = [name for name in Archive._fields if name != "id"]
        tx.execute(
            text(
                f"insert into audit_archives (archived_at, {', '.join(names)})"  # noqa: S608
                f" values (now(), :{', :'.join(names)})"
            ),
            {name: forged[name] for name in names},
        )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({}, "its first_seq is 1, the archive's is 4"),
        ({"manifest_key": f"{archive_key(1, 1, 3)}{MANIFEST}"}, "it should be"),
        ({"manifest_sha256": "d" * 64}, "has the SHA-256"),
    ],
)
def test_manifest_recorded_for_another_range_makes_the_job_cut_nothing(
    engine: Engine, store: FolderStore, other: dict[str, object], message: str
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 3, 1, OLD - timedelta(days=20))
        append_chain(tx, 5, 1, OLD, first=4)
    archive_old(engine, 1, store, SIGNER, NOW - timedelta(days=20))
    forge(engine, store, get_archives(engine)[0], **other)  # type: ignore[arg-type]
    rows = count(engine)

    with pytest.raises(Refused, match="nothing was archived or deleted") as caught:
        archive_old(engine, 1, store, SIGNER, NOW)

    assert message in str(caught.value)
    assert count(engine) == rows
    assert message in str(verify(engine, store, manifests=True).findings[0])


def test_manifest_recorded_for_another_chain_makes_the_job_cut_nothing(
    engine: Engine, store: FolderStore
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 6, 1, OLD)
        append_chain(tx, 6, 2, OLD)
    archive_old(engine, 1, store, SIGNER, NOW)
    forge(engine, store, get_archives(engine)[0], 2, first_seq=1, first_prev_hash="0" * 64)

    with pytest.raises(Refused, match="its shop_id is 1, the archive's is 2"):
        archive_old(engine, 2, store, SIGNER, NOW)


def test_archive_row_that_differs_from_the_stored_rows_cuts_nothing(
    engine: Engine, store: FolderStore
) -> None:
    """Signed with SECRET_KEY; the rows in the store are still compared."""
    with transaction(engine) as tx:
        append_chain(tx, 6, 1, OLD)
    archive_old(engine, 1, store, SIGNER, NOW, may_delete=False)
    noted = get_archives(engine)[0]
    path = next(Path(store._folder).rglob("*.gz"))
    data = path.read_bytes()
    path.unlink()

    with pytest.raises(Refused, match="is gone from") as gone:
        archive_old(engine, 1, store, SIGNER, NOW)
    path.write_bytes(data[:-9])
    with pytest.raises(Refused, match="no row was deleted"):
        archive_old(engine, 1, store, SIGNER, NOW)

    assert gone.value.code == "audit.archive_broken"
    assert count(engine) == 7
    path.write_bytes(data)
    assert archive_old(engine, 1, store, SIGNER, NOW).deleted == noted.last_seq


def test_a_signed_archive_of_other_rows_than_the_databases_cuts_nothing(
    engine: Engine, store: FolderStore
) -> None:
    """With the application role, SECRET_KEY and the store: only the rows differ."""
    with transaction(engine) as tx:
        append_chain(tx, 6, 1, OLD)
        rows = [ChainRow(*row) for chunk in stream_rows(tx, 1, 0) for row in chunk]
    last = FIRST_PREV_HASH
    for place, row in enumerate(rows):
        made = row._replace(staff_label="mallory", prev_hash=last)
        last = hash_row(made, 1)
        rows[place] = made._replace(hash=last)
    packed = io.BytesIO()
    write_lines(packed, {"chains": []}, ((1, row[:9]) for row in rows))
    key, data = archive_key(1, 1, 6), packed.getvalue()
    chain = {
        "shop_id": 1,
        "first_seq": 1,
        "first_prev_hash": FIRST_PREV_HASH,
        "last_seq": 6,
        "last_hash": last,
    }
    sums = {"key": f"{key}{EVENTS}", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest = make_manifest({**chain, "objects": [sums]}, SIGNER)
    store.put(f"{key}{EVENTS}", data)
    store.put(f"{key}{MANIFEST}", manifest)
    note = Archive(
        0, 1, 1, 6, FIRST_PREV_HASH, last, sums["key"], sums["sha256"], len(data), f"{key}{MANIFEST}",
        hashlib.sha256(manifest).hexdigest(), 7,
    )  # fmt: skip
    forge(engine, store, note, first_seq=1, first_prev_hash=FIRST_PREV_HASH, last_hash=last)

    with pytest.raises(Refused, match="contains other rows than 1 to 6 of the chain; no row was deleted"):
        archive_old(engine, 1, store, SIGNER, NOW)

    assert count(engine) == 7


def test_replaced_manifest_with_its_checksums_is_found_by_its_signature(
    engine: Engine, owner_engine: Engine, store: FolderStore, tmp_path: Path
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 5, 1, OLD)
    archive_old(engine, 1, store, SIGNER, NOW)
    path = next((tmp_path / "store").rglob("*.json"))
    made = orjson.loads(path.read_bytes())
    path.write_bytes(canonical_json(made | {"rows": 6}))
    sums = {
        "old": get_archives(engine)[0].manifest_sha256,
        "new": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_archives set manifest_sha256 = :new"), {"new": sums["new"]})
        tx.execute(text("update audit_events set mutations = replace(mutations, :old, :new)"), sums)
        cut = get_archives(engine)[0]
        rewrite_from(tx, cut.last_seq + 1, after=cut.last_hash)

    assert verify(engine, store).findings == []
    assert "its signature is not that of its content" in str(
        verify(engine, store, manifests=True).findings[0]
    )
