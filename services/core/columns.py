"""Makes several columns of one type at a time."""

from typing import Any

from sqlalchemy import Column, DateTime, text

AT = DateTime(timezone=True)
EMPTY, ZERO, FALSE = text("''"), text("0"), text("false")


def columns(names: str, type_: Any, default: Any | None = None) -> list[Column[Any]]:
    """Return a column for each of ``names``, not null."""
    return [Column(name, type_, nullable=False, server_default=default) for name in names.split()]


def optional(names: str, type_: Any) -> list[Column[Any]]:
    """Return a column for each of ``names``, null allowed."""
    return [Column(name, type_) for name in names.split()]


def keys(names: str, type_: Any) -> list[Column[Any]]:
    """Return a column of the primary key for each of ``names``."""
    return [Column(name, type_, primary_key=True) for name in names.split()]
