"""Saved filters of the console's lists: a person's own ones, and shared ones (without a person)."""

from collections.abc import Sequence
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.accounts.roles import Access, Role
from services.accounts.tables import saved_filters
from services.audit.append import Author, Mutation, append_change
from services.core.errors import InputInvalid

MAX_SAVED = 50
"""Most filters of a list that a person, or the fleet, has."""
LONGEST_NAME, LONGEST_QUERY = 60, 2000

_column = saved_filters.c


def list_saved(tx: Connection, list_name: str, user_id: int) -> Sequence[Row[Any]]:
    """Return the saved filters of a list: this person's and the shared ones, by name."""
    is_visible = (_column.user_id == user_id) | _column.user_id.is_(None)
    wanted = select(saved_filters).where(_column.list == list_name, is_visible)
    return tx.execute(wanted.order_by(func.lower(_column.name), _column.id)).all()


def save_filter(
    tx: Connection, owner: Access, list_name: str, name: str, query: str, **author: Unpack[Author]
) -> int:
    """Save ``query`` as a filter of ``owner`` alone; return its id.

    Raises ``InputInvalid`` for an empty, long or taken name, and for more than ``MAX_SAVED``.
    """
    name = name.strip()
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise InputInvalid(
            f"name={name[:80]!r} should have 1 to {LONGEST_NAME} characters that can be printed"
        )
    if not query or len(query) > LONGEST_QUERY:
        raise InputInvalid(f"query should have 1 to {LONGEST_QUERY:,} characters: set a filter first")
    row = {"user_id": owner.user_id, "list": list_name, "name": name, "query": query}
    row |= {"created_by": author["by"], "created_at": author["now"]}
    _check_count(tx, list_name, _column.user_id == owner.user_id)
    try:
        with tx.begin_nested():
            made = tx.execute(insert(saved_filters).values(row).returning(_column.id))
            filter_id = int(made.scalar_one())
    except IntegrityError:
        raise InputInvalid(f"name={name!r} is a saved filter already: delete it first") from None
    _audit(tx, "filter.save", filter_id, f"saved the filter {name!r} of {list_name}", **author)
    return filter_id


def share_filter(tx: Connection, owner: Access, filter_id: int, **author: Unpack[Author]) -> Row[Any]:
    """Make a filter of ``owner`` one of everybody; return it. Needs an operator of the fleet."""
    _check_role(owner)
    found = _get(tx, filter_id, _column.user_id == owner.user_id)
    _check_count(tx, found.list, _column.user_id.is_(None))
    try:
        with tx.begin_nested():
            tx.execute(update(saved_filters).where(_column.id == filter_id).values(user_id=None))
    except IntegrityError:
        raise InputInvalid(f"name={found.name!r} is a shared filter already") from None
    _audit(tx, "filter.share", filter_id, f"shared the filter {found.name!r} of {found.list}", **author)
    return found


def delete_filter(tx: Connection, owner: Access, filter_id: int, **author: Unpack[Author]) -> Row[Any]:
    """Delete a filter of ``owner``, or a shared one as an operator of the fleet; return it."""
    found = _get(tx, filter_id, (_column.user_id == owner.user_id) | _column.user_id.is_(None))
    if found.user_id is None:
        _check_role(owner)
    tx.execute(delete(saved_filters).where(_column.id == filter_id))
    _audit(tx, "filter.delete", filter_id, f"deleted the filter {found.name!r} of {found.list}", **author)
    return found


def _get(tx: Connection, filter_id: int, is_visible: ColumnElement[bool]) -> Row[Any]:
    found = tx.execute(select(saved_filters).where(_column.id == filter_id, is_visible)).one_or_none()
    if found is None:
        raise InputInvalid(f"you have no saved filter {filter_id}")
    return found


def _check_role(owner: Access) -> None:
    if not owner.may(Role.OPERATOR):
        raise InputInvalid("shared filters are changed by an operator of the fleet")


def _check_count(tx: Connection, list_name: str, is_one: ColumnElement[bool]) -> None:
    counted = select(func.count()).select_from(saved_filters).where(_column.list == list_name, is_one)
    if (tx.scalar(counted) or 0) >= MAX_SAVED:
        raise InputInvalid(f"{list_name} has {MAX_SAVED} saved filters: delete one first")


def _audit(tx: Connection, action: str, filter_id: int, summary: str, **author: Unpack[Author]) -> None:
    mutation = Mutation("saved_filters", str(filter_id), summary)
    append_change(tx, action, {None: [mutation]}, **author)
