"""The rows of each list to which filters are applied: at most ``MOST``, read from an index."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, case, func, select, union_all

from services.alerts.tables import incidents
from services.audit.tables import audit_events
from services.bulk.store import SHOWN
from services.bulk.tables import bulk_actions
from services.console.list_page import MAX_CANDIDATES, Values
from services.core.clock import utc_now
from services.jobs.tables import job_runs
from services.ledger.tables import inbound_events, request_errors, work_queue

MOST = MAX_CANDIDATES + 1
"""One more than is searched, which shows that there are more."""
_LATE, _FIRST = timedelta(hours=1), datetime(2000, 1, 1, tzinfo=UTC)
_OPEN, _GIVEN_UP = frozenset({"pending", "error"}), frozenset({"dead", "discarded"})
_WORK_COLUMNS = (
    ("shop", "shop_id"),
    *((one, one) for one in ("queue", "topic", "status", "error_code", "key", "origin")),
)


def select_newest(tx: Connection, table: Table, values: Values, at: str) -> Select[Any]:
    """Select the newest rows of the shops that are wanted; the table has an index by shop and id."""
    found, shop = _newest(tx, table, values, at), table.c.shop_id
    if "shop" in values:
        found = found.where(shop == values["shop"])
    elif "shops" in values:
        found = found.where(shop.in_(values["shops"]))
    return found


def _newest(
    tx: Connection, table: Table, values: Values, at: str, *, is_in_order: bool = False
) -> Select[Any]:
    """Return the newest rows, from the cursor or ``until`` on; ids are in the order of time.

    ``is_in_order``: no row is more than ``_LATE`` out of order, so that ``since`` ends the search.
    """
    found = select(table).order_by(table.c.id.desc()).limit(MOST)
    if "until" in values:
        found = found.where(table.c.id <= _find_last_id(tx, table, at, values["until"]))
    if is_in_order and "since" in values:
        begin = max(values["since"], _FIRST) - _LATE
        found = found.where(table.c.id > _find_last_id(tx, table, at, begin))
    if "after" in values:
        found = found.where(table.c.id < values["after"][0])
    return found


def _find_last_id(tx: Connection, table: Table, at: str, before: Any) -> int:
    """Return a number from which on all rows are of ``before`` or later: a search by halves."""
    low, high = 0, tx.execute(select(func.max(table.c.id))).scalar() or 0
    while low < high:
        middle = (low + high) // 2
        next_row = (
            select(table.c.id, table.c[at].label("at"))
            .where(table.c.id > middle)
            .order_by(table.c.id)
            .limit(1)
        )
        row = tx.execute(next_row).one()
        if row.at < before:
            low = int(row.id)
        else:
            high = middle
    return low


def find_work(tx: Connection, values: Values) -> Select[Any]:
    statuses = frozenset(values.get("status", ()))
    if not statuses or not statuses <= _OPEN | _GIVEN_UP:
        return _newest(tx, work_queue, values, "created_at", is_in_order=True)
    status, locked_at = work_queue.c.status, work_queue.c.locked_at
    is_open, is_given_up = status.in_(("pending", "error")), status.in_(("dead", "discarded"))
    # The predicates of three partial indexes.
    parts: list[ColumnElement[bool]] = []
    if statuses & _OPEN:
        parts += [is_open & locked_at.is_(None), is_open & locked_at.is_not(None)]
    if statuses & _GIVEN_UP:
        parts += [is_given_up]
    matches = _match_work(values)
    found = [
        select(work_queue).where(part, *matches).order_by(work_queue.c.id.desc()).limit(MOST).subquery()
        for part in parts
    ]
    rows = union_all(*(select(one) for one in found)).subquery()
    return select(rows).order_by(rows.c.id.desc()).limit(MOST)


def _match_work(values: Values) -> list[ColumnElement[bool]]:
    """Return the conditions of all filters but those of payloads, of the person's shops and of the cursor."""
    column = work_queue.c
    found: list[ColumnElement[bool]] = []
    for name, of in _WORK_COLUMNS:
        if name in values:
            value = values[name]
            found.append(column[of].in_(value) if isinstance(value, tuple) else column[of] == value)
    if "shops" in values:
        found.append(column.shop_id.in_(values["shops"]))
    if "since" in values:
        found.append(column.created_at >= values["since"])
    if "until" in values:
        found.append(column.created_at < values["until"])
    if "after" in values:
        found.append(column.id < values["after"][0])
    return found


def find_events(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, inbound_events, values, "received_at", is_in_order=True)


def find_incidents(_tx: Connection, values: Values) -> Select[Any]:
    column = incidents.c
    state = case(
        (column.status == "resolved", "resolved"),
        (column.snoozed_until > utc_now(), "snoozed"),
        (column.acknowledged_at.is_not(None), "acknowledged"),
        else_="open",
    )
    found = select(incidents, state.label("state")).limit(MOST)
    wanted = values.get("state", ())
    if wanted and "resolved" not in wanted:
        return found.where(column.status == "open")
    return found.order_by(column.id.desc())


def find_errors(_tx: Connection, _values: Values) -> Select[Any]:
    return select(request_errors).order_by(request_errors.c.at.desc()).limit(MOST)


def find_entries(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, audit_events, values, "at")


def find_runs(tx: Connection, values: Values) -> Select[Any]:
    return _newest(tx, job_runs, values, "due_at")


def find_bulk_actions(_tx: Connection, _values: Values) -> Select[Any]:
    return select(*SHOWN).order_by(bulk_actions.c.id.desc()).limit(MOST)
