"""Plans of statements: each that the program runs has one, and none of them is executed."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.alerts.evaluate import check_rules
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.statement_timing import take_samples
from services.jobs.conditions import count_conditions, record_overdue
from services.ledger.statement_plans import explain_statements
from services.ledger.statement_stats import StatementStats
from services.ledger.sweep import sweep
from tasks.collectors import COLLECTORS
from tests.jobs.job_rows import add_jobs, add_shops, make_job, run_tick

WITHOUT_PLAN = ("commit", "copy ", "listen", "lock ", "notify ")


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """Names of the statements of a tick, a sweep and an evaluation of all rules."""
    now = utc_now()
    list(take_samples())
    add_shops(engine, now - timedelta(days=2), acme="UTC")
    add_jobs(engine, now - timedelta(days=2), make_job())
    run_tick(engine, now)
    with transaction(engine) as tx:
        sweep(tx, now, {})
        record_overdue(tx, now)
        count_conditions(tx, now)
        check_rules(tx, COLLECTORS, now)
    StatementStats("jobs").flush(engine)
    with transaction(engine) as tx:
        yield list(tx.execute(text("select statement from statement_texts")).scalars())


def test_each_statement_has_a_plan_and_is_not_executed(engine: Engine, statements: list[str]) -> None:
    # Of this connection: with what transactions before did, if its figures are not flushed yet.
    count = text("select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_xact_user_tables")
    with transaction(engine) as tx:
        before = tx.execute(count).scalar_one()
        plans = explain_statements(tx, statements)
        assert tx.execute(count).scalar_one() == before

    assert [one.statement for one in plans] == statements
    assert {one.split()[0] for one in statements} >= {"select", "insert", "update"}
    without = [one for one in plans if one.plan.startswith("no plan")]
    assert [one for one in without if not one.text.lower().startswith(WITHOUT_PLAN)] == []
    assert all("cost=" in one.plan for one in plans if one not in without)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("commit", "no plan: PostgreSQL has none for commit"),
        ("select gone from shops", 'no plan: column "gone" does not exist'),
        ("select 1 where %", 'no plan: syntax error at or near "%"'),
        (None, "no plan: its text is not stored"),
    ],
)
def test_a_statement_without_a_plan_has_the_reason(
    engine: Engine, statement: str | None, reason: str
) -> None:
    with transaction(engine) as tx:
        if statement:
            tx.execute(text("insert into statement_texts values ('x', :text)"), {"text": statement})
        (first, second) = explain_statements(tx, ["x", "x"])

    assert first == second
    assert (first.text, first.plan) == (statement or "", reason)


def test_a_plan_is_for_any_values(engine: Engine) -> None:
    with transaction(engine) as tx:
        statement = "select id from work_queue where id = $1 and status like '50%' and 7 = $2::int"
        tx.execute(text("insert into statement_texts values ('x', :text)"), {"text": statement})
        (one,) = explain_statements(tx, ["x"])

    assert "(id = $1)" in one.plan and "50%" in one.plan
