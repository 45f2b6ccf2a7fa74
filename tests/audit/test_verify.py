"""Verification of chains in PostgreSQL that the owner of the tables altered."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from services.audit.append import append_all
from services.audit.queries import find_ends, list_chains
from services.audit.verify import VerifyOptions, verify_audit
from services.core.db import transaction
from services.providers.object_store import FolderStore
from tests.audit.chains import NOW, altering, entry
from tests.audit.verification import SIGNER, Verify, alter, only


@pytest.mark.usefixtures("chains")
def test_whole_chains_are_verified_with_their_heads(verify: Verify) -> None:
    report = verify()

    assert report.findings == []
    assert [(chain.shop_id, chain.rows, chain.head.seq) for chain in report.chains] == [
        (None, 6, 6), (1, 6, 6), (2, 6, 6)
    ]  # fmt: skip
    assert all(chain.is_whole for chain in report.chains)


def test_no_chain_is_no_finding(verify: Verify) -> None:
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
def test_deleted_row_is_missing(verify: Verify, owner_engine: Engine) -> None:
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
    assert list_chains(tx) == [None, 1, 2]
    assert find_ends(tx, 3) is None


@pytest.mark.parametrize("seq", [3, 5_001, 50_001, 60_000])
def test_verification_stops_at_the_first_break_of_a_chain(
    verify: Verify, engine: Engine, owner_engine: Engine, seq: int
) -> None:
    with transaction(engine) as tx:
        append_all(tx, [entry(1, number) for number in range(60_000)], NOW)
    assert verify().rows == 60_000
    alter(owner_engine, "update audit_events set action = 'x' where seq = :seq", seq=seq)

    found = only(verify())

    assert (found.kind, found.seq) == ("altered", seq)


@pytest.mark.usefixtures("chains")
def test_progress_counts_every_row(engine: Engine, tmp_path: Path) -> None:
    heads: list[tuple[int | None, int]] = []
    with transaction(engine) as tx:
        verify_audit(
            tx, VerifyOptions(), SIGNER, FolderStore(tmp_path), lambda *progress: heads.append(progress)
        )

    assert heads == [(None, 6), (1, 6), (2, 6)]
