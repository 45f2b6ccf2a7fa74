"""Reads a list: parses the filters, checks what the person may see, counts, and returns one page of rows."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from typing import Any, NamedTuple

import orjson
from psycopg.errors import QueryCanceled
from sqlalchemy import ColumnElement, Connection, Row, Subquery, cast, func, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY, JSONPATH
from sqlalchemy.exc import DBAPIError

from services.accounts.roles import Access, Role
from services.console.list_page import MAX_CANDIDATES, MAX_SEARCHED_BYTES, ListFilter, ListPage, Values
from services.core.counts import format_count
from services.core.db import MAX_COUNTED, is_connection_fault
from services.core.durations import parse_moment, parse_time
from services.core.errors import InputInvalid, describe_unknown, join_faults
from services.core.fields import LARGEST_ID
from services.ledger.work import FLEET
from services.shops.shops import find_slugs

TIMEOUT_SECONDS = 2
LONGEST_PATH = 500
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MOST_SUBSCRIPTS = 3
_NARROWING = ("shop", "topic", "status", "since", "until")
"""Filters with which fewer rows are searched."""


class ListResult(NamedTuple):
    """One page of a list. ``after`` is the cursor of the next page, or empty.

    ``counts`` are the rows by value of the facet, with all other filters; ``total`` is the number of all that
    match. Both end at ``MAX_COUNTED`` + 1. ``is_cut``: only the newest ``MAX_CANDIDATES`` rows were searched.
    ``too_large`` is the number of rows that were not searched because they are larger than
    ``MAX_SEARCHED_BYTES``.
    """

    rows: Sequence[Row[Any]]
    after: str
    counts: Mapping[str, int]
    total: int
    is_cut: bool
    too_large: int = 0


def parse_filters(
    tx: Connection, page: ListPage, given: Mapping[str, str], access: Access, now: datetime
) -> dict[str, Any]:
    """Return the values of the filters in ``given``; raise ``InputInvalid`` with every fault.

    A shop that the person may not see is refused as one that does not exist.
    """
    values: dict[str, Any] = {}
    faults = []
    # Filters with needs or a role come last, so that the shop is parsed.
    for one in sorted(page.filters, key=lambda one: (bool(one.needs), one.role)):
        if not (text := given.get(one.name, "").strip()):
            continue
        if missing := [name for name in one.needs if not given.get(name, "").strip()]:
            faults.append(f"{one.name} reads much: give {', '.join(missing)} too")
        elif one.role > Role.VIEWER and not access.may(one.role, values.get("shop")):
            faults.append(f"{one.name} needs the role {one.role.title} at the shop, as masked payloads do")
        else:
            try:
                values[one.name] = _parse(tx, one, text, access, now)
            except InputInvalid as fault:
                faults.append(str(fault))
    known = {one.name for one in page.filters} | {"after", "limit"}
    faults += [f"filter {describe_unknown(name, known)}" for name in given if name not in known]
    if faults:
        raise InputInvalid(join_faults(faults))
    return values


def _parse(tx: Connection, one: ListFilter, text: str, access: Access, now: datetime) -> Any:
    if not is_text(text):
        raise InputInvalid(f"{one.name}={text!r} should be text without NUL and half characters")
    if one.kind == "time":
        return parse_moment(text, now)
    if one.kind == "shop":
        ids = {slug: shop_id for shop_id, slug in find_visible_slugs(tx, access).items() if shop_id != FLEET}
        if text not in ids:
            raise InputInvalid(f"shop={describe_unknown(text, ids)}")
        return ids[text]
    if one.kind == "path":
        return _parse_path(tx, one.name, text)
    if one.kind == "number":
        return parse_whole(one.name, text, 0, LARGEST_ID)
    if one.choices is None:
        return text
    known = one.choices(tx)
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in wanted:
        if part not in known:
            raise InputInvalid(f"{one.name}={describe_unknown(part, known)}")
    return wanted


def _parse_path(tx: Connection, name: str, text: str) -> str:
    """Return the JSON path ``text``, which PostgreSQL parses; raise ``InputInvalid``."""
    if len(text) > LONGEST_PATH:
        raise InputInvalid(
            f"{name} has {format_count(len(text), 'character')}: it should have at most {LONGEST_PATH}"
        )
    if cause := _find_cost(text):
        raise InputInvalid(f"{name}={text!r} {cause}")
    try:
        with tx.begin_nested() as savepoint, _limited_time(tx, {}):
            tx.execute(select(cast(text, JSONPATH)))
            savepoint.rollback()  # which restores the limit of time
    except DBAPIError as fault:
        if is_connection_fault(fault):
            raise
        wanted = 'a JSON path, such as $.line_items[*].sku == "A-1"'
        raise InputInvalid(f"{name}={text!r} should be {wanted}: {_describe(fault)}") from None
    return text


def _find_cost(path: str) -> str:
    """Return why ``path`` may take much time or memory with a small body, or ""."""
    rest = _STRING.sub('""', path)
    # Escapes and comments outside of strings would hide what follows.
    if "\\" in rest or "/*" in rest:
        return "should have no comment, and a backslash only in a string"
    if "like_regex" in rest.lower():
        return "should not use like_regex: give starts with, ==, or the filter text"
    many = rest.count("**")
    if many + rest.count(",") > 1 or (many and rest.count("[") > _MOST_SUBSCRIPTS):
        return (
            f"should have at most one of .** and a comma, and with .** at most {_MOST_SUBSCRIPTS} subscripts"
        )
    return ""


def _describe(fault: DBAPIError) -> str:
    return str(fault.orig).partition("\n")[0]


def find_visible_slugs(tx: Connection, access: Access) -> dict[int, str]:
    """Return the slugs of the shops that this person may see, by id, and of the fleet."""
    visible = access.shops_with(Role.VIEWER)
    return {one: slug for one, slug in find_slugs(tx).items() if visible is None or one in visible}


def is_text(value: str) -> bool:
    """Return whether PostgreSQL can compare ``value`` with a text."""
    return "\0" not in value and value.encode(errors="replace").decode() == value


def read_list(
    tx: Connection, page: ListPage, values: Values, access: Access, *, limit: int, after: str = ""
) -> ListResult:
    """Return the rows after the cursor ``after``; raise ``InputInvalid`` if it takes too long."""
    cursor = _read_cursor(page, after)
    with _limited_time(tx, values) as ends:
        counted = _find(tx, page, values, access)
        total, read = tx.execute(
            select(func.count().filter(counted[1]), func.count()).select_from(counted[0])
        ).one()
        _limit_time(tx, ends)
        counts = _count_facet(tx, page, values, access)
        _limit_time(tx, ends)
        too_large = len(_find_too_large(tx, page, values, access))
        _limit_time(tx, ends)
        more = {**values, "after": cursor} if cursor else values
        rows, condition = _find(tx, page, more, access)
        wanted = select(rows).where(condition)
        keys = [rows.c[name] for name in page.order]
        if cursor:
            wanted = wanted.where(tuple_(*keys) < tuple_(*cursor))
        found = tx.execute(wanted.order_by(*(key.desc() for key in keys)).limit(limit + 1)).all()
    shown = found[:limit]
    next_after = make_cursor(page, shown[-1]) if len(found) > limit else ""
    total = min(total, MAX_COUNTED + 1)
    return ListResult(shown, next_after, counts, total, read > MAX_CANDIDATES, too_large)


@contextmanager
def _limited_time(tx: Connection, values: Values) -> Iterator[float]:
    ends = perf_counter() + TIMEOUT_SECONDS
    _limit_time(tx, ends)
    try:
        yield ends
    except DBAPIError as fault:
        if isinstance(fault.orig, QueryCanceled):
            raise InputInvalid(
                f"the search takes more than {TIMEOUT_SECONDS} s: narrow it by shop, topic and time"
            ) from fault
        if "path" in values and not is_connection_fault(fault):
            raise InputInvalid(f"path={values['path']!r} cannot be used: {_describe(fault)}") from None
        raise


def read_all_matching(
    tx: Connection, page: ListPage, values: Values, access: Access, names: Sequence[str]
) -> tuple[Sequence[Row[Any]], Sequence[int]]:
    """Return the columns ``names`` of every row that matches, and the ids of those too large to search.

    Raises ``InputInvalid`` if it takes too long, or if more than ``MAX_CANDIDATES`` rows are to be searched.
    """
    with _limited_time(tx, values) as ends:
        rows, condition = _find(tx, page, values, access)
        read = tx.execute(select(func.count()).select_from(rows)).scalar_one()
        _limit_time(tx, ends)
        if read > MAX_CANDIDATES:
            names_of_filters = ", ".join(one.name for one in page.filters if one.name in _NARROWING)
            raise InputInvalid(
                f"there are more than {MAX_CANDIDATES:,} rows to search, and not all of them would be found: "
                f"narrow it by {names_of_filters}"
            )
        found = tx.execute(select(*(rows.c[name] for name in names)).where(condition)).all()
        _limit_time(tx, ends)
        return found, _find_too_large(tx, page, values, access)


def _limit_time(tx: Connection, ends: float) -> None:
    """Let the next statement end at ``ends``: all statements of a search together have the time."""
    left_ms = max(1, round((ends - perf_counter()) * 1000))
    tx.exec_driver_sql(f"set local statement_timeout = {left_ms}")


def _find(
    tx: Connection, page: ListPage, values: Values, access: Access
) -> tuple[Subquery, ColumnElement[bool]]:
    shops = access.shops_with(Role.VIEWER)
    own = {} if shops is None else {"shops": sorted(shops)}
    rows = page.candidates(tx, {**values, **own}).subquery("rows")
    condition: ColumnElement[bool] = true()
    for one in page.filters:
        if one.name in values:
            condition &= one.condition(rows, values[one.name])
    if shops is not None:
        shop = rows.c[page.shop]
        are_several = isinstance(shop.type, ARRAY)
        condition &= shop.contained_by(sorted(shops)) if are_several else shop.in_(sorted(shops))
    return rows, condition


def _find_too_large(tx: Connection, page: ListPage, values: Values, access: Access) -> Sequence[int]:
    """Return the ids of the rows that a filter did not read, of those that match the others."""
    sizes = {one.name: one.size for one in page.filters if one.size and one.name in values}
    if not sizes:
        return ()
    left = {name: value for name, value in values.items() if name not in sizes}
    rows, condition = _find(tx, page, left, access)
    size = next(iter(sizes.values()))(rows)
    return tx.execute(select(rows.c.id).where(condition, size > MAX_SEARCHED_BYTES)).scalars().all()


def _count_facet(tx: Connection, page: ListPage, values: Values, access: Access) -> dict[str, int]:
    if not page.facet:
        return {}
    left = {name: value for name, value in values.items() if name != page.facet}
    rows, condition = _find(tx, page, left, access)
    value = rows.c[page.facet]
    counted = select(value, func.count()).where(condition).group_by(value).order_by(value)
    return {name: min(count, MAX_COUNTED + 1) for name, count in tx.execute(counted)}


def make_cursor(page: ListPage, row: Row[Any]) -> str:
    """Return the cursor of the rows after ``row``."""
    keys = [getattr(row, name) for name in page.order]
    return base64.urlsafe_b64encode(orjson.dumps(keys)).decode().rstrip("=")


def _read_cursor(page: ListPage, text: str) -> tuple[Any, ...]:
    if not text:
        return ()
    kinds = {column.name: column.kind for column in page.columns}
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return tuple(_read_key(kinds[name], value) for name, value in zip(page.order, found, strict=True))
    except (ValueError, TypeError, InputInvalid):
        raise InputInvalid(f"after={text!r} should be the cursor of an answer") from None


def _read_key(kind: str, value: Any) -> Any:
    """Return the value of a cursor, which has to be of its column's kind; raise ``ValueError``."""
    if kind == "number":
        return parse_whole("after", str(value), 0, LARGEST_ID)
    if not isinstance(value, str) or not is_text(value):
        raise ValueError(value)
    return parse_time(value) if kind == "time" else value


def parse_whole(name: str, text: str, least: int, most: int) -> int:
    """Return the whole number in ``text``; raise ``InputInvalid`` for another text or number."""
    if re.fullmatch("[0-9]{1,19}", text) and least <= int(text) <= most:
        return int(text)
    raise InputInvalid(f"{name}={text[:40]!r} should be a whole number, {least} to {most}")
