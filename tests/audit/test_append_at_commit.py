"""A transaction appends its audit entries with its last statements before the commit."""

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.db import make_engine, rolled_back, transaction
from services.core.locks import lock_objects
from services.core.settings import Settings
from tests.lock_order import watch_locks

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entry(shop_id: int | None, work_id: int | None = None) -> AuditEntry:
    return AuditEntry(shop_id, "webhook", "test", "r-1", [Mutation("orders", "7", "did it")], work_id)


def test_entries_added_anywhere_in_a_transaction_are_appended_by_its_last_statements(engine: Engine) -> None:
    later = NOW + timedelta(seconds=1)
    with watch_locks(engine) as watch, transaction(engine) as tx:
        append_all(tx, [entry(2, 11)], NOW)
        lock_objects(tx, [(1, "after an entry was added")])
        append_all(tx, [entry(1, 12), entry(None)], NOW)
        append_all(tx, [entry(2, 11), entry(2, 13)], later)
        assert tx.execute(text("select count(*) from audit_events")).scalar_one() == 0
    assert (watch.order, watch.faults) == ([["objects", "chains"]], [])

    with transaction(engine) as tx:
        rows = tx.execute(
            text("select shop_id, seq, work_id, at from audit_events order by shop_id nulls first, seq")
        )
        assert [tuple(row) for row in rows] == [
            (None, 1, None, NOW), (1, 1, 12, NOW), (2, 1, 11, NOW), (2, 2, 13, later)
        ]  # fmt: skip


def test_a_transaction_that_fails_appends_nothing_and_the_next_one_on_its_connection_neither(
    engine: Engine,
) -> None:
    with pytest.raises(ValueError, match="after the entry"), transaction(engine) as tx:
        append_all(tx, [entry(1, 11)], NOW)
        raise ValueError("after the entry")
    with transaction(engine) as tx:
        append_all(tx, [entry(1, 12)], NOW)
    with transaction(engine) as tx:
        assert tx.execute(text("select work_id from audit_events")).scalars().all() == [12]


def test_entries_stay_with_their_transaction_while_another_one_loses_its_connection(
    engine: Engine, settings: Settings
) -> None:
    one = make_engine(settings.database_url, application="tests-one-connection", pool_size=1)
    with ExitStack() as open_transactions:
        with suppress(OperationalError), transaction(one) as lost:
            pid = lost.scalar(text("select pg_backend_pid()"))
            with engine.connect() as other:
                other.execute(text("select pg_terminate_backend(:pid)"), {"pid": pid})
            try:
                lost.execute(text("select 1"))
            finally:  # the pool gives the place of the lost connection to the next transaction
                tx = open_transactions.enter_context(transaction(one))
                append_all(tx, [entry(1, 11)], NOW)
        append_all(tx, [entry(1, 12)], NOW)
        assert tx.execute(text("select count(*) from audit_events")).scalar_one() == 0

    with transaction(engine) as tx:
        assert tx.execute(text("select work_id from audit_events")).scalars().all() == [11, 12]
    one.dispose()


def test_what_is_rolled_back_within_a_transaction_appends_nothing(engine: Engine) -> None:
    with transaction(engine) as tx:
        append_all(tx, [entry(1, 11)], NOW)
        with rolled_back(tx):
            append_all(tx, [entry(1, 12)], NOW)
        append_all(tx, [entry(1, 13)], NOW)
    with transaction(engine) as tx:
        assert tx.execute(text("select work_id from audit_events")).scalars().all() == [11, 13]


def test_an_entry_cannot_be_added_inside_a_savepoint(engine: Engine) -> None:
    with (
        pytest.raises(RuntimeError, match="inside a savepoint"),
        transaction(engine) as tx,
        tx.begin_nested(),
    ):
        append_all(tx, [entry(1, 11)], NOW)


def test_an_entry_without_an_exact_form_fails_where_it_is_added(engine: Engine) -> None:
    unclear = Mutation("t", "1", "s", {"value": object()})
    with transaction(engine) as tx, pytest.raises(TypeError):
        append_all(tx, [entry(1)._replace(mutations=[unclear])], NOW)
