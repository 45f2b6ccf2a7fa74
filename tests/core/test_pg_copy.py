"""Rows sent with COPY are stored unchanged, and a failure is an SQLAlchemy error."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.core.db import transaction
from services.core.pg_copy import copy_rows, csv_rows, write_new

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ODD = st.sampled_from(
    ["null", "NULL", "", "\\.", '"', "\\", "\\n", '\\"', "a\nb", "\r\n", "\t", "],[", " x ", ",", "\x7f"]
)
MOMENTS = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-8))]),
)
ROWS = st.lists(
    st.tuples(
        st.none() | TEXTS | ODD,
        TEXTS | ODD,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.booleans(),
        st.none() | MOMENTS,
    ),
    max_size=6,
)
COLUMNS = ("a", "b", "number", "flag", "at")
TABLE = "create temporary table if not exists copied (n int generated always as identity, a text, b text, "
TABLE += "number bigint, flag boolean, at timestamptz) on commit drop"


def make_table(tx: Connection) -> None:
    tx.exec_driver_sql(TABLE)
    tx.exec_driver_sql("truncate copied")


def read_table(tx: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.exec_driver_sql("select a, b, number, flag, at from copied order by n")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
def test_rows_are_read_back_unchanged_and_in_order(tx: Connection, rows: list[tuple[Any, ...]]) -> None:
    make_table(tx)

    copy_rows(tx, "copied", COLUMNS, rows)

    assert read_table(tx) == rows


def test_json_text_and_line_breaks_are_escaped_for_copy() -> None:
    assert csv_rows([('{"a":"b\\\\n"}', 1)]) == b'"{\\"a\\":\\"b\\\\\\\\n\\"}",1\n'
    assert csv_rows([("a\nb", None), ("c", True)]) == b'"a\nb",null\n"c",true\n'


def test_existing_row_leaves_the_transaction_usable_and_all_rows_are_corrected(engine: Engine) -> None:
    with transaction(engine) as tx:
        make_table(tx)
        tx.exec_driver_sql("create unique index on copied (a)")
        copy_rows(tx, "copied", ("a", "b"), [("x", "old")])
        with pytest.raises(IntegrityError), tx.begin_nested():
            copy_rows(tx, "copied", ("a", "b"), [("x", "new")])

        def correct() -> None:
            tx.exec_driver_sql(
                "insert into copied (a, b) values ('x', 'new') on conflict (a) do update set b = 'new'"
            )

        write_new(tx, lambda: copy_rows(tx, "copied", ("a", "b"), [("w", ""), ("x", "new")]), correct)

        assert [row[:2] for row in read_table(tx)] == [("x", "new")]
