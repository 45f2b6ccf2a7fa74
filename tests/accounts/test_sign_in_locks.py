"""Locks of sign-in: counted, time-boxed, equal for accounts that do not exist."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.accounts.sign_in_locks import (
    LOCK_FOR,
    MAX_FAILURES,
    Subject,
    clear_failures,
    count_failure,
    find_lock,
)
from services.core.clock import utc_now
from services.core.db import transaction

NOW = utc_now()
ACCOUNT = Subject("account", "ada@example.com")


@pytest.mark.parametrize("subject", [ACCOUNT, Subject("address", "192.0.2.1")])
def test_a_subject_is_locked_at_its_last_failure_and_opens_by_itself(
    engine: Engine, subject: Subject
) -> None:
    with transaction() as tx:
        for _ in range(MAX_FAILURES[subject.kind] - 1):
            assert count_failure(tx, [subject], NOW) is None
        assert find_lock(tx, [subject], NOW) is None

        assert count_failure(tx, [subject], NOW) == NOW + LOCK_FOR["account"]
        assert (
            find_lock(tx, [subject, Subject("account", "bob@example.com")], NOW) == NOW + LOCK_FOR["account"]
        )
        assert find_lock(tx, [subject], NOW + LOCK_FOR["account"]) is None
        assert count_failure(tx, [subject], NOW + LOCK_FOR["account"]) is None


def test_a_failure_during_the_lock_does_not_extend_it(engine: Engine) -> None:
    with transaction() as tx:
        for second in range(MAX_FAILURES["account"] + 5):
            count_failure(tx, [ACCOUNT], NOW + timedelta(seconds=second))

        until = NOW + timedelta(seconds=MAX_FAILURES["account"] - 1) + LOCK_FOR["account"]
        assert find_lock(tx, [ACCOUNT], NOW) == until


def test_old_failures_are_forgotten(engine: Engine) -> None:
    with transaction() as tx:
        for _ in range(MAX_FAILURES["account"] - 1):
            count_failure(tx, [ACCOUNT], NOW)

        later = NOW + LOCK_FOR["account"] + timedelta(seconds=1)
        assert count_failure(tx, [ACCOUNT], later) is None
        assert tx.execute(text("select failures from sign_in_locks")).scalar_one() == 1


def test_the_same_account_in_another_case_is_the_same_subject_and_no_name_is_stored(engine: Engine) -> None:
    with transaction() as tx:
        for name in ("ada@example.com", "ADA@example.com", " Ada@Example.com ", "ada@example.com"):
            count_failure(tx, [Subject("account", name)], NOW)
        assert count_failure(tx, [ACCOUNT], NOW) is not None

        assert b"ada" not in bytes(tx.execute(text("select subject from sign_in_locks")).scalar_one())
        assert clear_failures(tx, ACCOUNT)
        assert find_lock(tx, [ACCOUNT], NOW) is None
        assert not clear_failures(tx, ACCOUNT)


def test_parallel_failures_are_all_counted(engine: Engine) -> None:
    def fail(_: int) -> None:
        with transaction() as tx:
            count_failure(tx, [ACCOUNT], NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fail, range(MAX_FAILURES["account"])))

    with transaction() as tx:
        assert find_lock(tx, [ACCOUNT], NOW) is not None
