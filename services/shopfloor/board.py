"""Reads the board: the open orders of a shop by stage, and one order with its stages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.db import Page, fetch_page
from services.core.errors import InputInvalid

_IS_OPEN = "f.completed_at is null and f.cancelled_at is null"
_STAGES = "select floor_stages(%(shop_id)s)"
_COUNT = f"""
select f.stage, count(*) as open, count(*) filter (where f.due_at < %(now)s) as late,
       count(f.holder_id) as held, min(f.due_at) as first_due_at
  from floor_orders f where f.shop_id = %(shop_id)s and {_IS_OPEN} group by f.stage
"""  # noqa: S608 - constants only
_COLUMNS = """
f.order_gid, f.name, f.stage, f.due_at, f.storage, f.notes, f.lines, f.changes, f.changed_at, f.arrived_at,
f.moved_at, f.completed_at, f.cancelled_at, f.assignee_id, f.holder_id, a.name as assignee, h.name as holder
"""
_FROM = """
from floor_orders f left join users a on a.id = f.assignee_id left join users h on h.id = f.holder_id
"""
_LIST = f"""
select {_COLUMNS} {_FROM}
 where f.shop_id = %(shop_id)s and {_IS_OPEN} and (%(stage)s = '' or f.stage = %(stage)s)
 order by f.due_at nulls last, f.arrived_at, f.order_gid limit %(limit)s
"""
_GET = f"select {_COLUMNS} {_FROM} where f.shop_id = %(shop_id)s and f.order_gid = %(order_gid)s"
_GET_STAGES = """
select s.stage, s.started_at, s.started_by, s.finished_at, s.finished_by from order_stages s
 where s.shop_id = %(shop_id)s and s.order_gid = %(order_gid)s order by s.started_at, s.finished_at
"""
# Cancelled orders of a holder are not on the board, but their holder must stop.
_LIST_CANCELLED = f"""
select {_COLUMNS} {_FROM}
 where f.shop_id = %(shop_id)s and f.cancelled_at is not null and f.holder_id is not null
   and (%(holder_id)s::int is null or f.holder_id = %(holder_id)s) order by f.cancelled_at
"""
_FIND = (
    """
select order_gid from orders
 where shop_id = %(shop_id)s and order_gid = any(%(gids)s::text[]) and deleted_at is null limit 1
""",
    """
select order_gid from floor_orders
 where shop_id = %(shop_id)s and name = any(%(names)s::text[]) order by arrived_at desc limit 1
""",
    # Without an index: only for an order that never was on the board.
    """
select order_gid from orders
 where shop_id = %(shop_id)s and name = any(%(names)s::text[]) and deleted_at is null
 order by placed_at desc limit 1
""",
)
_GID = "gid://shopify/Order/"


class StageCount(NamedTuple):
    """A stage of a shop, and its open orders: how many, late ones, those that somebody works on."""

    stage: str
    open: int = 0
    late: int = 0
    held: int = 0
    first_due_at: datetime | None = None


def read_stages(tx: Connection, shop_id: int) -> list[str]:
    """Return the names of the stages of a shop, in their order; the last is reached, not worked on."""
    stages: list[str] = tx.exec_driver_sql(_STAGES, {"shop_id": shop_id}).scalar_one()
    return stages


def count_stages(tx: Connection, shop_id: int, now: datetime) -> list[StageCount]:
    """Return the stages that are worked on, with the counts of their open orders."""
    counted = {row.stage: row for row in tx.exec_driver_sql(_COUNT, {"shop_id": shop_id, "now": now})}
    stages = read_stages(tx, shop_id)[:-1]
    return [StageCount(*counted[one]) if one in counted else StageCount(one) for one in stages]


def list_open_orders(
    tx: Connection, shop_id: int, *, stage: str = "", limit: int | None = None
) -> Page[Row[Any]]:
    """Return the open orders of a shop, or of one stage: the one that is due first first."""
    return fetch_page(tx, _LIST, limit, {"shop_id": shop_id, "stage": stage})


def list_cancelled(tx: Connection, shop_id: int, holder_id: int | None = None) -> Sequence[Row[Any]]:
    """Return cancelled orders that somebody, or ``holder_id``, still works on."""
    return tx.exec_driver_sql(_LIST_CANCELLED, {"shop_id": shop_id, "holder_id": holder_id}).all()


def find_floor_order(tx: Connection, shop_id: int, order_gid: str) -> Row[Any] | None:
    """Return an order of the board; None if it never was there."""
    return tx.exec_driver_sql(_GET, {"shop_id": shop_id, "order_gid": order_gid}).one_or_none()


def list_order_stages(tx: Connection, shop_id: int, order_gid: str) -> Sequence[Row[Any]]:
    """Return the stages of an order that were started, the first one first."""
    return tx.exec_driver_sql(_GET_STAGES, {"shop_id": shop_id, "order_gid": order_gid}).all()


def find_order_gid(tx: Connection, shop_id: int, code: str) -> str:
    """Return the global id of the order ``code``: a barcode, a number at Shopify, a name such as ``#1001``.

    Of several orders with the name, the newest. Raises ``InputInvalid`` if the shop has none.
    """
    code = code.strip()
    names = [code, code.removeprefix("#"), f"#{code.removeprefix('#')}"]
    values = {"shop_id": shop_id, "gids": [code, f"{_GID}{code}"], "names": names}
    for statement in _FIND:
        found: str | None = tx.exec_driver_sql(statement, values).scalar()
        if found is not None:
            return found
    raise InputInvalid(f"there is no order {code!r} at this shop: `fleet stages show` lists open ones")
