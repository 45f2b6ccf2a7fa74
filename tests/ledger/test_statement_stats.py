"""Durations of statements: names that are the same everywhere, and no duration lost or counted twice."""

import psycopg
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.pg_copy import copy_rows
from services.core.settings import get_settings
from services.core.statement_timing import name_statement, number_parameters, take_samples
from services.ledger import statement_stats
from services.ledger.statement_stats import OTHER, StatementStats
from tests.fakes.tcp_proxy import TcpProxy
from tests.jobs.test_cron_route import database_proxy

__all__ = ["database_proxy"]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("select slug from shops where id = %(id)s", "select shops"),
        ("with v as (select 1 from x) insert into orders as o (a) values (1) on conflict do update set a = 2",
         "insert orders"),
        ("update work_queue w set locked_at = null", "update work_queue"),
        ("with old as (select id from jobs for update skip locked) delete from runs", "delete runs"),
        ("SELECT heartbeats.name \nFROM heartbeats", "select heartbeats"),
        ("copy orders (a, b) from stdin with (format csv)", "copy orders"),
        ("select clock_timestamp()", "select clock_timestamp"),
        ("/* lock 2 */ select case when %(a)s then pg_lock(%(b)s) end from unnest(%(b)s)", "select pg_lock"),
        ("listen x", "listen"),
    ],
)  # fmt: skip
def test_a_name_has_what_the_statement_does_and_its_table(statement: str, name: str) -> None:
    assert name_statement(statement).rpartition(" ")[0] == name
    assert name_statement(statement) != name_statement(statement + " ")


def test_parameters_are_numbered_as_prepare_takes_them() -> None:
    statement = "select %(b)s::int, %(a)s::text, %(b)s, '50%%'"

    assert number_parameters(statement) == "select $1::int, $2::text, $1, '50%'"


def count(engine: Engine) -> dict[str, tuple[str, int]]:
    wanted = "select statement, process, sum(count)::int, sum((select sum(x) from unnest(latency) x))::int"
    with transaction(engine) as tx:
        rows = tx.execute(text(f"{wanted} from statement_stats group by 1, 2")).all()
    assert all(row[2] == row[3] for row in rows)
    return {row[0]: (row[1], row[2]) for row in rows}


READ = "select 1 from shops"


def read_shops(engine: Engine, times: int) -> None:
    for _ in range(times):
        with transaction(engine) as tx, tx.begin_nested():
            tx.exec_driver_sql(READ)


def test_each_statement_is_counted_once_without_pings_and_savepoints(engine: Engine) -> None:
    stats = StatementStats("ingress")
    engine.dispose()  # one connection, and its first statements are not counted
    read_shops(engine, 1)
    list(take_samples())
    read_shops(engine, 3)
    stats.flush(engine)
    list(take_samples())
    read_shops(engine, 2)
    stats.flush(engine)

    counted = count(engine)
    assert counted[name_statement(READ)] == ("ingress", 5)
    assert counted["commit"] == ("ingress", 5)
    assert counted.keys() == {name_statement(READ), "commit"}
    with transaction(engine) as tx:
        texts = tx.execute(text("select text from statement_texts order by 1")).scalars().all()
    assert texts == ["commit", READ]


def test_a_copy_and_a_commit_that_fails_are_counted_and_a_commit_of_nothing_is_not(engine: Engine) -> None:
    stats = StatementStats("console")
    engine.dispose()  # one connection, and its first statements are not counted
    read_shops(engine, 1)
    list(take_samples())
    with transaction(engine) as tx:
        copy_rows(tx, "topic_backlogs", ["minute", "topic", "ready"], [["2026-11-20T00:00Z", "reconcile", 1]])
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.commit()
        connection.exec_driver_sql(READ)
        with psycopg.connect(get_settings().database_url) as other:
            other.execute("select pg_terminate_backend(%s)", [driver.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            driver.commit()
        connection.invalidate()
    stats.flush(engine)

    counted = {name: calls for name, (_, calls) in count(engine).items()}
    (copied,) = [name for name in counted if name.startswith("copy topic_backlogs ")]
    assert counted == {copied: 1, "commit": 2, name_statement(READ): 1}


def test_durations_are_kept_while_the_database_is_away(
    engine: Engine, database_proxy: TcpProxy, settings: object
) -> None:
    from services.core import db

    stats, cut = StatementStats("console"), db.get_engine()
    list(take_samples())
    read_shops(engine, 2)
    database_proxy.cut()
    stats.flush(cut)
    assert count(engine) == {}
    stats.flush(engine)

    assert count(engine)[name_statement(READ)] == ("console", 2)


def test_statements_without_end_have_one_name_after_the_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_stats, "MAX_STATEMENTS", 2)
    stats = StatementStats("jobs")
    engine.dispose()  # one connection, and its first statements are not counted
    read_shops(engine, 1)
    list(take_samples())
    with transaction(engine) as tx:
        for table in ("shops", "jobs", "pauses", "heartbeats", "incidents"):
            tx.exec_driver_sql(f"select 1 from {table}")  # noqa: S608
    stats.flush(engine)

    assert count(engine)[OTHER] == ("jobs", 4), "three reads and the commit"
