"""Chains in PostgreSQL, altered as only the tables' owner can, and what the verification says."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from services.audit.append import append_all
from services.audit.checkpoint import checkpoint_message
from services.audit.checkpoints import record_checkpoints
from services.audit.diagnose import AuditFinding
from services.audit.queries import find_chains, find_ends
from services.audit.rehash import hash_row
from services.audit.signing import Signer, is_signed
from services.audit.verify import VerifyOptions, VerifyReport, verify_audit
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import NOW, altering, append_chain, entry

SIGNER = Signer("k" * 32)
Verify = Callable[..., VerifyReport]


@pytest.fixture
def verify(engine: Engine, tmp_path: Path) -> Verify:
    def run(signer: Signer = SIGNER, **wanted: object) -> VerifyReport:
        with transaction(engine) as tx:
            return verify_audit(tx, VerifyOptions(**wanted), signer, FolderStore(tmp_path))  # type: ignore[arg-type]

    return run


@pytest.fixture
def chains(engine: Engine) -> None:
    with transaction(engine) as tx:
        for shop_id in (1, None, 2):
            append_chain(tx, 6, shop_id)


def sign_heads(engine: Engine, report: VerifyReport, signer: Signer = SIGNER) -> None:
    with transaction(engine) as tx:
        record_checkpoints(tx, [(chain.shop_id, chain.head) for chain in report.chains], signer, NOW)


def only(report: VerifyReport) -> AuditFinding:
    assert len(report.findings) == 1, [str(found) for found in report.findings]
    return report.findings[0]


def alter(owner_engine: Engine, statement: str, **values: object) -> None:
    with altering(owner_engine) as tx:
        assert tx.execute(text(statement), values).rowcount


def rewrite_from(tx: Connection, seq: int, shop_id: int = 1, after: str = "0" * 64) -> None:
    """Hash every row from ``seq`` on again, as a thorough forger would; the first one follows ``after``."""
    from services.audit.queries import StoredChain

    chain = StoredChain(tx, shop_id)
    before = chain.find_at(seq - 1)
    last = before.hash if before else after
    while row := chain.find_at(seq):
        row = row._replace(prev_hash=last)
        last = hash_row(row, shop_id)
        tx.execute(
            text("update audit_events set prev_hash = :prev, hash = :hash where id = :id"),
            {"prev": row.prev_hash, "hash": last, "id": row.id},
        )
        seq += 1


@pytest.mark.usefixtures("chains")
def test_whole_chains_are_verified_with_their_heads(verify: Verify) -> None:
    report = verify()

    assert report.findings == []
    assert [(chain.shop_id, chain.rows, chain.head.seq) for chain in report.chains] == [
        (None, 6, 6), (1, 6, 6), (2, 6, 6)
    ]  # fmt: skip
    assert all(chain.is_whole for chain in report.chains)


def test_no_chains_at_all_are_whole(verify: Verify) -> None:
    assert verify().findings == []


@pytest.mark.usefixtures("chains")
@pytest.mark.parametrize("shop", ["shop_id = 1", "shop_id is null"])
@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'",
        "at = 'infinity'",
        "at = (at::text || ' BC')::timestamptz",
        "staff_label = 'mallory'",
        "action = 'nothing'",
        "request_id = 'r-77'",
        "work_id = 77",
        "mutations = '[]'",
        "mutations = replace(mutations, '12 -> 9', '12 -> 8')",
        "prev_hash = repeat('0', 64)",
        "hash = repeat('0', 64)",
    ],
)
def test_an_altered_column_is_found_in_its_row(
    verify: Verify, owner_engine: Engine, change: str, shop: str
) -> None:
    alter(owner_engine, f"update audit_events set {change} where {shop} and seq = 3")  # noqa: S608

    found = only(verify())

    assert (found.kind, found.seq) == ("altered", 3)
    with owner_engine.connect() as tx:
        row_id = tx.scalar(text(f"select id from audit_events where {shop} and seq = 3"))  # noqa: S608
    assert found.event_id == row_id


@pytest.mark.usefixtures("chains")
def test_a_row_given_to_another_shop_is_missing_here_and_does_not_belong_there(
    verify: Verify, owner_engine: Engine
) -> None:
    alter(owner_engine, "update audit_events set shop_id = 2, seq = 7 where shop_id = 1 and seq = 3")

    assert [(found.kind, found.shop_id, found.seq) for found in verify().findings] == [
        ("missing", 1, 3), ("inserted", 2, 7)
    ]  # fmt: skip


@pytest.mark.usefixtures("chains")
def test_a_row_taken_out_is_missing(verify: Verify, owner_engine: Engine) -> None:
    alter(owner_engine, "delete from audit_events where shop_id = 1 and seq = 3")

    assert (only(verify()).kind, only(verify()).seq) == ("missing", 3)


@pytest.mark.usefixtures("chains")
def test_two_rows_that_changed_places_are_reordered(verify: Verify, owner_engine: Engine) -> None:
    alter(owner_engine, "update audit_events set seq = 7 - seq where shop_id = 1 and seq in (3, 4)")

    assert (only(verify()).kind, only(verify()).seq) == ("reordered", 3)


@pytest.mark.usefixtures("chains")
def test_a_row_put_in_is_inserted(verify: Verify, owner_engine: Engine) -> None:
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set seq = seq + 1 where shop_id = 1 and seq > 2"))
        tx.execute(
            text(
                "insert into audit_events (shop_id, seq, at, staff_label, action, request_id, mutations,"
                " prev_hash, hash) select shop_id, 3, at, 'mallory', action, request_id, mutations, hash,"
                " repeat('e', 64) from audit_events where shop_id = 1 and seq = 2"
            )
        )

    assert (only(verify()).kind, only(verify()).seq) == ("inserted", 3)


@pytest.mark.usefixtures("chains")
def test_one_chain_can_be_verified_alone(verify: Verify, owner_engine: Engine) -> None:
    alter(owner_engine, "update audit_events set action = 'x' where shop_id = 2 and seq = 3")

    assert verify(is_one_chain=True, shop_id=1).findings == []
    assert verify(is_one_chain=True, shop_id=None).findings == []
    assert only(verify(is_one_chain=True, shop_id=2)).shop_id == 2


@pytest.mark.usefixtures("chains")
def test_the_next_verification_begins_at_the_signed_heads(verify: Verify, engine: Engine) -> None:
    sign_heads(engine, verify())
    with transaction(engine) as tx:
        append_chain(tx, 2, 1, first=7)

    report = verify()

    assert {chain.shop_id: chain.rows for chain in report.chains} == {None: 0, 1: 2, 2: 0}
    assert all(chain.is_whole for chain in report.chains)
    assert {chain.shop_id: chain.rows for chain in verify(full=True).chains} == {None: 6, 1: 8, 2: 6}


@pytest.mark.usefixtures("chains")
def test_an_old_row_altered_is_found_by_the_full_verification(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "update audit_events set action = 'x' where shop_id = 1 and seq = 3")

    assert verify().findings == []
    assert (only(verify(full=True)).kind, only(verify(full=True)).seq) == ("altered", 3)


@pytest.mark.usefixtures("chains")
def test_a_chain_cut_off_at_its_end_is_missing_its_rows(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "delete from audit_events where shop_id = 1 and seq > 4")

    found = only(verify())

    assert (found.kind, found.seq) == ("missing", 5)
    assert "rows 5 to 6 are gone" in found.detail


@pytest.mark.usefixtures("chains")
def test_a_chain_that_is_gone_as_a_whole_is_missing(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "delete from audit_events where shop_id = 1")

    assert (only(verify()).kind, only(verify()).shop_id, only(verify()).seq) == ("missing", 1, 1)


@pytest.mark.usefixtures("chains")
def test_a_chain_written_anew_is_rewritten(verify: Verify, engine: Engine, owner_engine: Engine) -> None:
    sign_heads(engine, verify())
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'mallory' where shop_id = 1 and seq = 3"))
        rewrite_from(tx, 3)

    found = only(verify())

    assert (found.kind, found.shop_id, found.seq) == ("rewritten", 1, 6)
    assert "a checkpoint of 2026-11-20" in found.detail


@pytest.mark.usefixtures("chains")
def test_rows_cut_off_at_the_beginning_are_missing_to_the_incremental_one_too(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "delete from audit_events where shop_id = 1 and seq < 3")

    assert (only(verify()).kind, only(verify()).seq) == ("missing", 1)


@pytest.mark.usefixtures("chains")
def test_a_forged_checkpoint_is_a_finding_and_no_place_to_begin(verify: Verify, engine: Engine) -> None:
    forger = Signer("f" * 32)
    head = next(chain.head for chain in verify().chains if chain.shop_id == 1)
    with transaction(engine) as tx:
        record_checkpoints(tx, [(1, head)], forger, NOW)

    report = verify()

    assert only(report).subject.startswith("checkpoint ")
    assert "neither our current key" in only(report).detail
    assert sum(chain.rows for chain in report.chains) == 18


@pytest.mark.usefixtures("chains")
def test_a_checkpoint_altered_after_signing_is_a_finding(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "update audit_checkpoints set seq = 5 where shop_id = 1")

    assert "its signature is not that of this head" in only(verify()).detail


@pytest.mark.usefixtures("chains")
def test_after_a_rotation_the_previous_keys_checkpoints_still_count(verify: Verify, engine: Engine) -> None:
    sign_heads(engine, verify())

    report = verify(Signer("n" * 32, previous="k" * 32))

    assert report.findings == []
    assert sum(chain.rows for chain in report.chains) == 0


@pytest.mark.usefixtures("chains")
def test_after_two_rotations_an_old_checkpoint_is_passed_over_for_a_newer_one(
    verify: Verify, engine: Engine
) -> None:
    newest = Signer("m" * 32, previous="n" * 32)
    sign_heads(engine, verify())
    assert len(verify(newest).findings) == 3
    sign_heads(engine, verify(), newest)

    assert verify(newest, full=True).findings == []


@pytest.mark.usefixtures("chains")
def test_since_verifies_the_rows_from_then_on(verify: Verify, owner_engine: Engine) -> None:
    report = verify(since=NOW + timedelta(minutes=4))

    assert [(chain.began_after, chain.rows) for chain in report.chains] == [(3, 3)] * 3
    assert not any(chain.is_whole for chain in report.chains)
    alter(owner_engine, "update audit_events set action = 'x' where shop_id = 1 and seq = 2")
    assert verify(since=NOW + timedelta(minutes=4)).findings == []
    alter(owner_engine, "update audit_events set action = 'x' where shop_id = 1 and seq = 5")
    assert (only(verify(since=NOW + timedelta(minutes=4))).kind) == "altered"


@pytest.mark.usefixtures("chains")
def test_chains_are_found_without_reading_them(tx: Connection) -> None:
    assert find_chains(tx) == [None, 1, 2]
    assert find_ends(tx, 3) is None


@pytest.mark.parametrize("seq", [3, 5_001, 50_001, 60_000])
def test_a_long_chain_is_left_where_it_breaks(
    verify: Verify, engine: Engine, owner_engine: Engine, seq: int
) -> None:
    with transaction(engine) as tx:
        append_all(tx, [entry(1, number) for number in range(60_000)], NOW)
    assert verify().rows == 60_000
    alter(owner_engine, "update audit_events set action = 'x' where seq = :seq", seq=seq)

    found = only(verify())

    assert (found.kind, found.seq) == ("altered", seq)


@pytest.mark.usefixtures("chains")
def test_every_row_is_told_of_on_the_way(engine: Engine, tmp_path: Path) -> None:
    told: list[tuple[int | None, int]] = []
    with transaction(engine) as tx:
        verify_audit(tx, VerifyOptions(), SIGNER, FolderStore(tmp_path), lambda *said: told.append(said))

    assert told == [(None, 6), (1, 6), (2, 6)]


def test_a_signature_is_of_one_message_and_one_key() -> None:
    message = checkpoint_message(1, 7, "a" * 64, "now")
    signature = SIGNER.sign(message)

    assert is_signed(message, SIGNER.public_key, signature)
    assert not is_signed(message + b" ", SIGNER.public_key, signature)
    assert not is_signed(message, Signer("x" * 32).public_key, signature)
    assert not is_signed(message, "no hex", signature)
    assert SIGNER.public_key == Signer("k" * 32, previous="o" * 32).public_key
    assert "k" * 8 not in repr(SIGNER)
