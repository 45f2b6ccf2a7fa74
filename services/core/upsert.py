"""Find and upsert rows by primary key: SQL text and array types built from a table's columns.

A set of rows travels as one array a column, so a statement's text depends on the columns alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Connection, Date, DateTime, Integer, Table, Text
from sqlalchemy.dialects import postgresql

from services.core.pg_arrays import instant_array, int_array, text_array


def _json_array(values: Sequence[object]) -> str:
    """Return JSON values as an array; a text is JSON already, None is NULL."""
    return text_array(
        [
            value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
            for value in values
        ]
    )


_ENCODERS: Mapping[type, Callable[[Any], str]] = {
    BigInteger: int_array,
    Boolean: int_array,  # PostgreSQL reads the true and false of JSON
    Date: instant_array,
    DateTime: instant_array,
    Integer: int_array,
    Text: text_array,
    postgresql.JSONB: _json_array,
}


def find_by_key(
    tx: Connection, table: Table, keys: Collection[tuple[Any, ...]]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of ``table`` whose primary key is in ``keys``: the values by column name, by key."""
    if not keys:
        return {}
    key = table.primary_key.columns.keys()
    arrays = encode_columns(table, dict(zip(key, zip(*keys, strict=True), strict=True)))
    names = [column.name for column in table.columns]
    # Not ``mappings()``: a plain dictionary is read three times as fast, and sets have hundreds of rows.
    rows = [dict(zip(names, row, strict=True)) for row in tx.exec_driver_sql(_find_statement(table), arrays)]
    return {tuple([row[name] for name in key]): row for row in rows}


def upsert_rows(tx: Connection, table: Table, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert rows, and overwrite the given columns of those whose primary key exists.

    ``columns`` are the values of each column by its name, one for each row; the primary key is among them,
    and no two rows have the same. The other columns of a new row have their default.
    """
    tx.exec_driver_sql(upsert_statement(table, tuple(columns)), encode_columns(table, columns))


@cache
def _find_statement(table: Table) -> str:
    key = table.primary_key.columns.keys()
    columns = ", ".join(f"t.{column.name}" for column in table.columns)
    join = " and ".join(f"t.{name} = v.{name}" for name in key)
    keys = f"unnest({array_parameters(table, key)}) as v({', '.join(key)})"
    return f"select {columns} from {keys} join {table.name} t on {join}"  # noqa: S608 - our own names


@cache
def upsert_statement(table: Table, columns: Sequence[str]) -> str:
    """Return the statement that upserts rows of ``columns``, given as arrays."""
    key = table.primary_key.columns.keys()
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    rows = f"select * from unnest({array_parameters(table, columns)})"  # noqa: S608 - our own names
    return (
        f"insert into {table.name} ({', '.join(columns)}) {rows} "
        f"on conflict ({', '.join(key)}) do update set {changes}"
    )


def array_parameters(table: Table, columns: Sequence[str]) -> str:
    """Return the parameters of a statement's arrays, one a column, each with its type."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return ", ".join(f"%({name})s::{table.c[name].type.compile(dialect)}[]" for name in columns)


def encode_columns(table: Table, columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the values of each column as an array literal."""
    return {name: _ENCODERS[type(table.c[name].type)](values) for name, values in columns.items()}
