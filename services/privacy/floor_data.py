"""Personal data on the shop floor: the notes of an order, its storage location and its items."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.pg_arrays import text_array
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource

_FIND = """
select name as "order", notes, storage, changes, lines, due_at, stage from floor_orders
 where shop_id = %(shop_id)s and order_gid = any(%(gids)s::text[]) order by order_gid
"""


def find_floor_orders(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the subject's orders as the shop floor has them."""
    yield from map(dict, tx.exec_driver_sql(_FIND, _values(subject)).mappings())


def redact_floor_orders(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:  # noqa: ARG001
    """Empty the texts of the subject's orders; who moved them when stays."""
    values = _values(subject) | ({"gids": None} if subject.whole_shop else {})
    redacted = tx.exec_driver_sql("select floor_redact(%(shop_id)s, %(gids)s::text[])", values)
    return {"floor_orders": int(redacted.scalar_one())}


def _values(subject: DataSubject) -> dict[str, Any]:
    return {"shop_id": subject.shop_id, "gids": text_array(sorted(subject.order_gids))}


FLOOR_ORDERS = PersonalDataSource(
    name="orders on the shop floor",
    tables=("floor_orders",),
    find=find_floor_orders,
    redact=redact_floor_orders,
)
