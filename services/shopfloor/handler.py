"""Topic ``stage_sync``: puts orders on the board, and shows there what an edit or a cancellation changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Row

from services.audit.chain import AuditEntry, Mutation
from services.core.counts import format_count
from services.core.pg_arrays import arrays, int_array
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, WorkItem
from services.shopfloor.payload import FloorOrder, list_changes, parse_floor_order

TOPIC = "stage_sync"
_Key = tuple[int, str]

_FIND = """
select f.shop_id, f.order_gid, f.name, f.due_at, f.storage, f.notes, f.lines, f.version, f.changes,
       f.cancelled_at, f.changed_at, f.holder_id, u.name as holder
  from unnest(%(shop_id)s::int[], %(order_gid)s::text[]) as v(shop_id, order_gid)
  join floor_orders f using (shop_id, order_gid)
  left join users u on u.id = f.holder_id
"""
_FIND_ZONES = "select id, timezone from shops where id = any(%(shop_id)s::int[])"
_FIND_PEOPLE = """
select r.shop_id, u.id, lower(u.name) as name, lower(u.email) as email
  from user_roles r join users u on u.id = r.user_id and u.active
 where r.shop_id = any(%(shop_id)s::int[]) and r.role <> 'viewer' order by u.id desc
"""
_SYNC = "select floor_sync(%(items)s::jsonb)"
_LONGEST = 1000


def sync_stages(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Write the orders of ``items`` to the board. The work planned last has the newest state of its order.

    An edit of an order that somebody works on, and a cancellation, stay on the order until it is finished or
    released, so that the holder sees them. An assignee whom the shop does not have is ignored.
    """
    newest: dict[_Key, WorkItem] = {}
    for item in sorted(items, key=lambda one: one.id):
        newest[item.shop_id, item.key] = item
    keys = sorted(newest)
    shop_ids = int_array(sorted({shop_id for shop_id, _ in keys}))
    zones = {row.id: ZoneInfo(row.timezone) for row in tx.exec_driver_sql(_FIND_ZONES, {"shop_id": shop_ids})}
    people = {
        (row.shop_id, name): row.id
        for row in tx.exec_driver_sql(_FIND_PEOPLE, {"shop_id": shop_ids})
        for name in (row.name, row.email)
    }
    found = tx.exec_driver_sql(_FIND, arrays("shop_id order_gid", keys))
    known = {(row.shop_id, row.order_gid): row for row in found}
    rows: list[dict[str, Any]] = []
    audit: list[AuditEntry] = []
    results: dict[int, str] = {}
    for key in keys:
        item, row = newest[key], known.get(key)
        if key[0] not in zones or (row is not None and row.version >= item.id):
            results[item.id] = "stale"
            continue
        before = _read_row(row)
        if item.payload.get("deleted"):
            order = before._replace(cancelled_at=now)
        else:
            order = parse_floor_order(item.body, zones[key[0]])
        changes = list_changes(before, order) if row is not None and row.version else []
        assignee_id = people.get((key[0], order.assignee.lower())) if order.assignee else None
        rows.append(_make_row(key, item, row, order, changes, now) | {"assignee_id": assignee_id})
        audit += [audit_entry(item, [one]) for one in _describe(key[1], row, order, changes)]
        results[item.id] = "cancelled" if order.cancelled_at else "done"
    if rows:
        tx.exec_driver_sql(_SYNC, {"items": orjson.dumps(rows).decode()})
    return HandlerResult([Done(results.get(item.id, "stale")) for item in items], (), audit)


def _read_row(row: Row[Any] | None) -> FloorOrder:
    if row is None:
        return FloorOrder()
    return FloorOrder(
        row.name, row.due_at, row.storage, row.notes, lines=row.lines, cancelled_at=row.cancelled_at
    )


def _make_row(
    key: _Key, item: WorkItem, row: Row[Any] | None, order: FloorOrder, changes: Sequence[str], now: datetime
) -> dict[str, Any]:
    earlier = [row.changes] if row is not None and row.changes else []
    return {
        "shop_id": key[0],
        "order_gid": key[1],
        "name": order.name or key[1].rpartition("/")[2],
        "storage": order.storage,
        "notes": order.notes,
        "lines": order.lines,
        "changes": "; ".join([*earlier, *changes])[-_LONGEST:],
        "version": item.id,
        "due_at": order.due_at,
        "changed_at": now if changes else row and row.changed_at,
        "cancelled_at": order.cancelled_at,
    }


def _describe(gid: str, row: Row[Any] | None, order: FloorOrder, changes: Sequence[str]) -> list[Mutation]:
    """Return the audit's mutation, without texts of the customer; none if nothing is different."""
    label = f"order {order.name or gid.rpartition('/')[2]} of the shop floor"
    texts = [f"{format_count(len(changes), 'part')} changed"] if changes else []
    if row is None:
        texts.append("on the board")
    if order.cancelled_at and (row is None or row.cancelled_at is None):
        texts.append("cancelled" + (f" while {row.holder} works on it" if row and row.holder else ""))
    return [Mutation("floor_orders", gid, f"{label}: {', '.join(texts)}")] if texts else []
