"""Signed heads: start of the next verification, and alterations found with them."""

import pytest
from sqlalchemy import Engine, text

from services.audit.checkpoints import record_checkpoints
from services.audit.signing import Signer, checkpoint_message, is_signed
from services.core.db import transaction
from tests.audit.chains import NOW, altering, append_chain
from tests.audit.verification import SIGNER, Verify, alter, only, rewrite_from, sign_heads


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
def test_deleted_chain_is_missing(verify: Verify, engine: Engine, owner_engine: Engine) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "delete from audit_events where shop_id = 1")

    assert (only(verify()).kind, only(verify()).shop_id, only(verify()).seq) == ("missing", 1, 1)


@pytest.mark.usefixtures("chains")
def test_rehashed_rows_are_reported_as_rewritten(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    with altering(owner_engine) as tx:
        tx.execute(text("update audit_events set staff_label = 'mallory' where shop_id = 1 and seq = 3"))
        rewrite_from(tx, 3)

    found = only(verify())

    assert (found.kind, found.shop_id, found.seq) == ("rewritten", 1, 6)
    assert "a checkpoint of 2026-11-20" in found.detail


@pytest.mark.usefixtures("chains")
def test_rows_deleted_at_the_beginning_are_missing_in_the_incremental_one_too(
    verify: Verify, engine: Engine, owner_engine: Engine
) -> None:
    sign_heads(engine, verify())
    alter(owner_engine, "delete from audit_events where shop_id = 1 and seq < 3")

    assert (only(verify()).kind, only(verify()).seq) == ("missing", 1)


@pytest.mark.usefixtures("chains")
def test_forged_checkpoint_is_a_finding_and_not_used_as_start(verify: Verify, engine: Engine) -> None:
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


def test_a_signature_is_of_one_message_and_one_key() -> None:
    message = checkpoint_message(1, 7, "a" * 64, "now")
    signature = SIGNER.sign(message)

    assert is_signed(message, SIGNER.public_key, signature)
    assert not is_signed(message + b" ", SIGNER.public_key, signature)
    assert not is_signed(message, Signer("x" * 32).public_key, signature)
    assert not is_signed(message, "no hex", signature)
    assert SIGNER.public_key == Signer("k" * 32, previous="o" * 32).public_key
    assert "k" * 8 not in repr(SIGNER)
