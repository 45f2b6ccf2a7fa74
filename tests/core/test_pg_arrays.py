"""Array literals are read by PostgreSQL unchanged."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from services.core.pg_arrays import arrays, instant_array, int_array, text_array

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
FIXTURE_IS_READ_ONLY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FIXTURE_IS_READ_ONLY
@given(st.lists(st.none() | TEXTS | st.sampled_from(["NULL", "", "{}", '"', "\\", "a,b", " x "])))
def test_texts_are_read_back_unchanged(tx: Connection, values: list[str | None]) -> None:
    assert tx.exec_driver_sql("select %(v)s::text[]", {"v": text_array(values)}).scalar() == values


@FIXTURE_IS_READ_ONLY
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_are_read_back_unchanged(tx: Connection, values: list[int | None]) -> None:
    assert tx.exec_driver_sql("select %(v)s::bigint[]", {"v": int_array(values)}).scalar() == values


@FIXTURE_IS_READ_ONLY
@given(
    st.lists(
        st.none()
        | st.datetimes(
            datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
            datetime(2100, 1, 1),  # noqa: DTZ001
            timezones=st.sampled_from([UTC, timezone(timedelta(hours=-8))]),
        )
    )
)
def test_moments_are_read_back_unchanged(tx: Connection, values: list[datetime | None]) -> None:
    assert tx.exec_driver_sql("select %(v)s::timestamptz[]", {"v": instant_array(values)}).scalar() == values


@FIXTURE_IS_READ_ONLY
@given(
    st.lists(
        st.tuples(st.none() | TEXTS, st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.booleans())
    )
)
def test_rows_are_read_back_unchanged(
    tx: Connection, rows: list[tuple[str | None, int | None, bool | None]]
) -> None:
    statement = "select * from unnest(%(a)s::text[], %(b)s::bigint[], %(c)s::bool[])"

    assert [tuple(row) for row in tx.exec_driver_sql(statement, arrays("a b c", rows))] == rows
