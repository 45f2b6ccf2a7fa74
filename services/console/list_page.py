"""What a list is: its rows, columns and filters. Pages and API read the same rows of ``lists.LISTS``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, String, case, cast, func, literal
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from services.accounts.roles import Role

MAX_CANDIDATES = 50_000
"""Filters are applied to at most this many rows, the newest ones; the page says so."""

MAX_SEARCHED_BYTES = 1024 * 1024
"""A stored body or payload of more bytes is not searched; the page says how many."""

Values = Mapping[str, Any]
"""The value of each filter that is set, by name."""
Condition = Callable[[FromClause, Any], ColumnElement[bool]]
Choices = Callable[[Connection], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column. ``kind`` is how a page shows it: text, number, time, seconds, shop (an id), shops, state,
    code, mail (an id) or address, which is masked.
    """

    name: str
    label: str
    kind: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """A filter, which is a parameter of the address. ``kind`` is how its value is read.

    ``choice``: one or more of ``choices``, separated by commas; ``text``; ``time``: an age such as 24h, a day
    or a moment; ``shop``: a slug; ``number``; ``path``: a JSON path of PostgreSQL. ``needs`` are filters
    without which it would read too much. One with a ``role`` needs it at the shop, because it finds what is
    masked; each use is audited. ``size`` is the number of bytes that it reads of a row.
    """

    name: str
    label: str
    kind: str
    condition: Condition
    choices: Choices | None = None
    needs: tuple[str, ...] = ()
    role: Role = Role.VIEWER
    size: Callable[[FromClause], ColumnElement[int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A list of rows, the newest first.

    ``candidates`` returns the rows to which the filters are applied, at most ``MAX_CANDIDATES`` + 1, and may
    use the values of the filters to read fewer; the value ``shops`` are the person's shops, unless all.
    ``order`` are its columns that together are unique; the cursor has their values. ``facet`` is the filter
    whose values are counted. ``detail`` is the endpoint of a row's own page, which takes its first column as
    ``detail_key``.
    ``table`` is what the audit of a search names, and ``actions`` are bulk actions on all rows that match.
    """

    name: str
    title: str
    about: str
    columns: tuple[ListColumn, ...]
    filters: tuple[ListFilter, ...]
    candidates: Callable[[Connection, Values], Select[Any]]
    order: tuple[str, ...] = ("id",)
    shop: str = "shop_id"
    facet: str = ""
    detail: str = ""
    detail_key: str = "number"
    table: str = ""
    actions: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The last part of its address."""
        return self.name.replace("_", "-")

    @property
    def title_of_facet(self) -> str:
        return next((one.label for one in self.filters if one.name == self.facet), "")


def by_value(name: str, label: str, choices: Choices | None = None, column: str = "") -> ListFilter:
    """Return a filter for one or more values of a column; without ``choices`` for one text."""

    def condition(rows: FromClause, value: Any) -> ColumnElement[bool]:
        found = rows.c[column or name]
        return found.in_(value) if isinstance(value, tuple) else found == value

    kind = "choice" if choices else "text"
    return ListFilter(name=name, label=label, kind=kind, condition=condition, choices=choices)


def by_shop() -> ListFilter:
    """Return the filter for a shop."""
    return ListFilter(
        name="shop", label="Shop", kind="shop", condition=lambda rows, value: rows.c.shop_id == value
    )


def by_time(column: str) -> tuple[ListFilter, ListFilter]:
    """Return the filters for a range of time, of which ``until`` is exclusive."""
    return (
        ListFilter(
            name="since", label="Since", kind="time", condition=lambda rows, value: rows.c[column] >= value
        ),
        ListFilter(
            name="until", label="Until", kind="time", condition=lambda rows, value: rows.c[column] < value
        ),
    )


def by_part(name: str, label: str, column: str) -> ListFilter:
    """Return a filter for a part of a column's text, in any case."""
    return ListFilter(
        name=name,
        label=label,
        kind="text",
        condition=lambda rows, value: _has_part(rows.c[column], value),
    )


def by_content(
    label: str,
    content: Callable[[FromClause], Any],
    size: Callable[[FromClause], ColumnElement[int]],
) -> tuple[ListFilter, ListFilter]:
    """Return the filters for a part of the text of masked JSON, and for a JSON path in it.

    A path matches if the first value that it finds is neither false nor null; an error in a row is no match,
    and neither is a row of more than ``MAX_SEARCHED_BYTES``.
    """

    def has_text(rows: FromClause, value: Any) -> ColumnElement[bool]:
        return limit(rows, _has_part(content(rows), value))

    def has_path(rows: FromClause, value: Any) -> ColumnElement[bool]:
        no_values = cast({}, JSONB)
        found = func.jsonb_path_query_first(content(rows), cast(value, JSONPATH), no_values, literal(True))
        return limit(rows, cast(found, String).not_in(("false", "null")))

    def limit(rows: FromClause, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        is_read = case((size(rows) <= MAX_SEARCHED_BYTES, condition), else_=literal(False))
        return func.coalesce(is_read, literal(False))

    masked: Any = {"needs": ("shop", "topic", "since"), "role": Role.ADMIN, "size": size}
    return (
        ListFilter(name="text", label=f"Text in the {label}", kind="text", condition=has_text, **masked),
        ListFilter(name="path", label=f"JSON path in the {label}", kind="path", condition=has_path, **masked),
    )


def _has_part(column: Any, part: str) -> ColumnElement[bool]:
    return func.strpos(func.lower(cast(column, String)), func.lower(part)) > 0
