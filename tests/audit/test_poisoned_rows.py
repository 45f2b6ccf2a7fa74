"""Rows that do not belong to a chain: the database refuses them, and the verification finds them."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from services.audit import offline
from services.audit.append import AuditEntry, Mutation, append_all
from services.audit.chain import FIRST_PREV_HASH
from services.audit.export import export_chains
from services.audit.signing import Signer
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.cli.main import main
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import NOW, altering, append_chain, archive_old

SIGNER = Signer("k" * 32)
HEAD = 6
NUMBERS = [0, -1, -(2**63), 2**53 + 1, 2**62 + 1, 2**62 + 5, 2**63 - 1, HEAD + 2]
SHOPS = [1, None]
INSERT = text(
    "insert into audit_events (shop_id, seq, at, staff_label, action, request_id, mutations, prev_hash, hash)"
    " values (:shop_id, :seq, :at, 'mallory', 'x', 'r', '[]', :prev_hash, repeat('e', 64))"
)
CHECKPOINT = (
    "insert into audit_checkpoints (shop_id, seq, hash, at, public_key, signature)"
    " values (1, {seq}, 'x', {at}, 'x', 'x')"
)
ARCHIVE = (
    "insert into audit_archives (shop_id, first_seq, last_seq, first_prev_hash, last_hash, object_key,"
    " object_sha256, object_bytes, manifest_key, manifest_sha256, event_seq, archived_at, retained_until)"
    " values (1, {first}, {last}, 'x', 'x', {object_key}, 'x', 1,"
    " {manifest_key}, 'x', {event}, {at}, {until})"
)
GOOD = {
    "first": "1", "last": "3", "event": "5", "at": "now()", "until": "null",
    "object_key": "'events/shop-1/000000000001-000000000003.jsonl.gz'",
    "manifest_key": "'events/shop-1/000000000001-000000000003.manifest.json'",
}  # fmt: skip
TIMES = ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'12026-11-20'"]
KEYS = [
    "'../../etc/passwd'",
    "'/tmp/x'",
    "repeat('x', 5000)",
    "''",
    "'events/shop-2/000000000001-000000000003.jsonl.gz'",
]
POISON = {
    **{f"checkpoint at {at}": ("audit_checkpoints", CHECKPOINT.format(seq=3, at=at)) for at in TIMES},
    **{
        f"checkpoint of row {seq}": ("audit_checkpoints", CHECKPOINT.format(seq=seq, at="now()"))
        for seq in (0, -1, 2**62)
    },
    **{
        f"archive {name} {value[:20]}": ("audit_archives", ARCHIVE.format_map(GOOD | {name: value}))
        for name, values in {
            "at": TIMES, "until": TIMES, "object_key": KEYS, "manifest_key": KEYS,
            "first": ["0", "-1"], "last": ["0", str(2**62)], "event": ["0", str(2**62)],
        }.items()
        for value in values
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def chains(engine: Engine) -> None:
    with transaction(engine) as tx:
        for shop_id in (1, None, 2):
            append_chain(tx, HEAD, shop_id)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def verify(engine: Engine, store: FolderStore, **wanted: bool) -> VerifyReport:
    with transaction(engine) as tx:
        return verify_audit(tx, VerifyOptions(**({"full": True} | wanted)), SIGNER, store)


def put_in(tx: Connection, seq: int, shop_id: int | None, prev_hash: str = "d" * 64) -> None:
    tx.execute(INSERT, {"seq": seq, "shop_id": shop_id, "at": NOW, "prev_hash": prev_hash})


@contextmanager
def as_before(owner_engine: Engine, table: str = "audit_events") -> Iterator[Connection]:
    """Transaction without the checks and the trigger of the table."""
    with altering(owner_engine, table) as tx:
        yield tx


@pytest.mark.parametrize("shop_id", SHOPS)
@pytest.mark.parametrize("seq", NUMBERS)
def test_the_applications_role_cannot_insert_a_row_that_does_not_follow_the_head(
    engine: Engine, seq: int, shop_id: int | None
) -> None:
    with (
        pytest.raises(IntegrityError, match=r"ck_audit_events_seq|does not follow the row before"),
        engine.begin() as tx,
    ):
        put_in(tx, seq, shop_id)


@pytest.mark.parametrize("shop_id", SHOPS)
def test_the_applications_role_cannot_insert_a_row_after_another_hash_or_before_a_first_row(
    engine: Engine, shop_id: int | None
) -> None:
    with (
        pytest.raises(IntegrityError, match=f"row {HEAD + 1} does not follow"),
        engine.begin() as tx,
    ):
        put_in(tx, HEAD + 1, shop_id)
    with pytest.raises(IntegrityError, match="of shop 3"), engine.begin() as tx:
        put_in(tx, 1, 3, "d" * 64)
    with pytest.raises(IntegrityError, match="row 3 does not follow"), engine.begin() as tx:
        tx.execute(
            text(
                "insert into audit_events (shop_id, seq, at, staff_label, action, request_id, mutations,"
                " prev_hash, hash) select 3, n, now(), 'x', 'x', 'r', '[]', :first, :first"
                " from unnest(array[1, 3]) n"
            ),
            {"first": FIRST_PREV_HASH},
        )


def test_shadowed_names_do_not_bypass_the_trigger(engine: Engine) -> None:
    with pytest.raises(IntegrityError, match="does not follow the row before"), engine.begin() as tx:
        for name in ("audit_events", "added"):
            tx.execute(text(f"create temporary table {name} (like public.audit_events)"))
        tx.execute(text("set local search_path = pg_temp, public, pg_catalog"))
        tx.execute(text(str(INSERT).replace("into audit_events", "into public.audit_events")), {
            "seq": HEAD + 2, "shop_id": 1, "at": NOW, "prev_hash": "d" * 64
        })  # fmt: skip


def test_a_first_row_that_comes_back_after_it_was_archived_is_found(
    engine: Engine, store: FolderStore
) -> None:
    with transaction(engine) as tx:
        append_chain(tx, 3, 3, NOW - timedelta(days=100))
        append_chain(tx, 2, 3, NOW, first=4)
    archive_old(engine, 3, store, SIGNER, NOW)
    assert verify(engine, store).findings == []
    with engine.begin() as tx:
        put_in(tx, 1, 3, FIRST_PREV_HASH)

    assert (3, 1) in [(one.shop_id, one.seq) for one in verify(engine, store).findings]


@pytest.mark.parametrize("wanted", [{"full": True}, {"full": False}])
@pytest.mark.parametrize("shop_id", SHOPS)
@pytest.mark.parametrize("seq", NUMBERS)
def test_row_that_does_not_belong_to_the_chain_is_found_online_and_offline(
    engine: Engine,
    owner_engine: Engine,
    store: FolderStore,
    tmp_path: Path,
    seq: int,
    shop_id: int | None,
    wanted: dict[str, bool],
) -> None:
    with as_before(owner_engine) as tx:
        put_in(tx, seq, shop_id)

    found = verify(engine, store, **wanted).findings

    expected = ("missing", HEAD + 1) if seq == HEAD + 2 else ("inserted", seq)
    assert [(one.kind, one.seq, one.shop_id) for one in found] == [(*expected, shop_id)]
    exported = io.BytesIO()
    with transaction(engine) as tx:
        export_chains(tx, [shop_id], exported, SIGNER, NOW)
    path = tmp_path / "export.jsonl.gz"
    path.write_bytes(exported.getvalue())
    offline_found = offline.verify_file(path, SIGNER.public_key, lambda _: None)
    assert [(one.kind, one.seq) for one in offline_found] == [expected]


@pytest.mark.parametrize("shop_id", SHOPS)
@pytest.mark.parametrize("seq", [-1, 2**62 + 5])
def test_events_after_a_row_of_an_impossible_number_are_appended_to_the_chain_and_proven(
    engine: Engine, owner_engine: Engine, store: FolderStore, seq: int, shop_id: int | None
) -> None:
    with as_before(owner_engine) as tx:
        put_in(tx, seq, shop_id)
        tx.execute(text("alter table audit_events enable trigger audit_events_follow"))
    with transaction(engine) as tx:
        append_chain(tx, 3, shop_id, first=HEAD + 1)
    with as_before(owner_engine) as tx:
        changed = tx.execute(
            text("delete from audit_events where shop_id is not distinct from :shop and seq = 8"),
            {"shop": shop_id},
        )
        assert changed.rowcount == 1

    found = verify(engine, store).findings

    assert ("missing", 8) in [(one.kind, one.seq) for one in found]


def test_the_command_exits_1_for_a_row_of_an_impossible_number(owner_engine: Engine) -> None:
    with as_before(owner_engine) as tx:
        put_in(tx, 2**62 + 5, 1)

    ran = CliRunner().invoke(main, ["audit", "verify", "--full", "--archives"])

    assert ran.exit_code == 1
    assert f"inserted: row {2**62 + 5}" in ran.output


@pytest.mark.parametrize("poison", POISON)
def test_application_role_cannot_record_an_unreadable_archive(engine: Engine, poison: str) -> None:
    with pytest.raises(IntegrityError, match="ck_audit_"), engine.begin() as tx:
        tx.exec_driver_sql(POISON[poison][1])


@pytest.mark.parametrize("poison", POISON)
def test_a_note_that_cannot_be_read_back_is_a_finding_and_hides_no_alteration_of_another_chain(
    engine: Engine, owner_engine: Engine, store: FolderStore, poison: str
) -> None:
    table, statement = POISON[poison]
    with as_before(owner_engine, table) as tx:
        tx.exec_driver_sql(statement)
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set action = 'x' where shop_id = 2 and seq = 3"))

    report = verify(engine, store, archives=True)

    assert {(one.kind, one.seq) for one in report.findings if one.shop_id == 2} == {("altered", 3)}
    assert [one for one in report.findings if one.shop_id == 1]
    assert [chain.shop_id for chain in report.chains if not chain.findings] == [None]


def test_unreadable_chain_is_a_finding_and_hides_no_other(
    engine: Engine, owner_engine: Engine, store: FolderStore
) -> None:
    """A row policy of the owner raises in the middle of the chain of shop 1."""
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set action = 'x' where shop_id = 2 and seq = 3"))
        tx.execute(text("alter table audit_events enable row level security"))
        tx.execute(
            text(
                "create policy poison on audit_events using (shop_id is distinct from 1 or seq <> 4"
                " or current_query() not like '%to_char%' or 1 / (seq - 4) = 1)"
            )
        )
    try:
        report = verify(engine, store)
    finally:
        with owner_engine.begin() as tx:
            tx.execute(text("drop policy poison on audit_events"))
            tx.execute(text("alter table audit_events disable row level security"))

    assert {(one.kind, one.shop_id, one.seq) for one in report.findings} == {
        ("unreadable", 1, 0), ("altered", 2, 3)
    }  # fmt: skip
    assert "division by zero" in str(report.findings[0])
    assert not report.chains[1].is_whole


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "/tmp/x", "anchors/" + "x" * 5000, "anchors/\0", "events/x"]
)
def test_an_event_that_names_an_impossible_anchor_is_a_finding(
    engine: Engine, store: FolderStore, key: str
) -> None:
    named = {"key": key.replace("\0", "?"), "sha256": hashlib.sha256(b"").hexdigest()}
    with transaction(engine) as tx:
        mutation = Mutation("anchors", "x", "anchored", None, named)
        append_all(tx, [AuditEntry(None, "mallory", "audit.anchor", "r", [mutation])], NOW)

    (found,) = verify(engine, store).findings

    assert (found.kind, found.shop_id) == ("altered", None)
    assert "which is not a valid key" in str(found)
