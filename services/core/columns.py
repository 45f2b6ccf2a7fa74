"""Makes columns of one type at a time, and constraints that several tables have."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, UniqueConstraint, text

AT = DateTime(timezone=True)
EMPTY, ZERO, FALSE, NO_JSON = text("''"), text("0"), text("false"), text("'{}'")


def columns(names: str, type_: Any, default: Any | None = None) -> list[Column[Any]]:
    """Return a column for each of ``names``, not null."""
    return [Column(name, type_, nullable=False, server_default=default) for name in names.split()]


def optional(names: str, type_: Any) -> list[Column[Any]]:
    """Return a column for each of ``names``, null allowed."""
    return [Column(name, type_) for name in names.split()]


def keys(names: str, type_: Any) -> list[Column[Any]]:
    """Return a column of the primary key for each of ``names``."""
    return [Column(name, type_, primary_key=True) for name in names.split()]


def identity(type_: Any = BigInteger) -> Column[Any]:
    """Return the column ``id``, which the database numbers."""
    return Column("id", type_, Identity(always=True), primary_key=True)


def unique(name: str, *names: str) -> UniqueConstraint:
    """Return the constraint ``name``, for which null equals null."""
    return UniqueConstraint(*names, name=name, postgresql_nulls_not_distinct=True)
