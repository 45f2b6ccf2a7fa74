"""The effect of every way: read the order's bytes, write the order and its lines, mark the row done.

One event per commit (``ingest_one``), or many (``ingest_set``). Both leave the same rows. The newest
``updated_at`` wins. Runs in the peers' environment: psycopg, nothing of the product.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import orjson
import psycopg

READ = """
select w.id, w.shop_id, w.event_id, e.body
from work_queue w join inbound_events e on e.id = w.event_id
where w.id = any(%s) and w.status = 'pending'
"""
READ_EVENT = "select 0::bigint, shop_id, id, body from inbound_events where id = %s"
WRITE_ORDERS = """
insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status,
                    placed_at, updated_at, event_id)
select * from unnest(%s::int[], %s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[],
                     %s::timestamptz[], %s::timestamptz[], %s::bigint[])
on conflict (shop_id, order_gid) do update
set name = excluded.name, total_cents = excluded.total_cents, currency = excluded.currency,
    financial_status = excluded.financial_status, updated_at = excluded.updated_at,
    event_id = excluded.event_id
where orders.updated_at < excluded.updated_at
"""
WRITE_LINES = """
insert into order_lines (shop_id, line_id, order_gid, sku, title, quantity, price_cents)
select * from unnest(%s::int[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[])
on conflict (shop_id, order_gid, line_id) do update
set sku = excluded.sku, title = excluded.title, quantity = excluded.quantity,
    price_cents = excluded.price_cents
"""
WRITE_MOVEMENTS = """
insert into stock_movements (shop_id, sku, source, delta, at)
select * from unnest(%s::int[], %s::text[], %s::text[], %s::int[], %s::timestamptz[])
on conflict (shop_id, source) do nothing
"""
WRITE_CUSTOMERS = """
insert into customers (shop_id, customer_id, name, email, updated_at)
select * from unnest(%s::int[], %s::bigint[], %s::text[], %s::text[], %s::timestamptz[])
on conflict (shop_id, customer_id) do update
set name = excluded.name, email = excluded.email, updated_at = excluded.updated_at
where customers.updated_at < excluded.updated_at
"""
MOVE_LEVELS = """
update inventory_levels l set available = l.available + v.delta, changed_at = now()
from (select shop_id, sku, sum(delta) as delta
      from unnest(%s::int[], %s::text[], %s::text[], %s::int[], %s::timestamptz[])
           as m(shop_id, sku, source, delta, at)
      group by shop_id, sku) v
where l.shop_id = v.shop_id and l.sku = v.sku
returning l.shop_id, l.inventory_item_id
"""
MARK_DONE = """
update work_queue set status = 'done', finished_at = statement_timestamp()
where id = any(%s) and status = 'pending'
"""

EFFECT = os.environ.get("BENCH_EFFECT", "orders")
"""``orders``, ``stock`` or ``pushes``: the part of the product's work that is done here too."""

Level = tuple[int, int]
"""(shop, inventory item)."""

_local = threading.local()


def connection() -> psycopg.Connection[Any]:
    """Return the connection of this thread."""
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(
            os.environ["BENCH_DATABASE_URL"], autocommit=True, prepare_threshold=1
        )
    return _local.connection  # type: ignore[no-any-return]


def ingest_one(work_id: int) -> list[Level]:
    """Write the order of one work row and mark the row done, in one commit; return its changed levels."""
    return ingest_set([work_id])


def ingest_event(event_id: int) -> None:
    """Write the order of one event; for ways without work rows."""
    conn = connection()
    with conn.transaction():
        write(conn, conn.execute(READ_EVENT, [event_id]).fetchall())


def ingest_set(work_ids: Sequence[int]) -> list[Level]:
    """Write the orders of all these rows and mark the rows done, in one commit; return changed levels."""
    conn = connection()
    with conn.transaction():
        rows = conn.execute(READ, [list(work_ids)]).fetchall()
        levels = write(conn, rows)
        conn.execute(MARK_DONE, [[row[0] for row in rows]])
    return levels


def write(conn: psycopg.Connection[Any], rows: Iterable[tuple[int, int, int, bytes]]) -> list[Level]:
    """Write the orders in ``rows`` of (work id, shop, event id, body); return the stock levels changed."""
    orders, lines, moves, people = [], [], [], {}
    for _, shop_id, event_id, body in rows:
        order = orjson.loads(body)
        gid, placed, changed = order["admin_graphql_api_id"], order["created_at"], order["updated_at"]
        status = order["financial_status"]
        head = (shop_id, gid, order["name"], cents(order["total_price"]), order["currency"], status)
        orders.append((*head, placed, changed, event_id))
        if person := order.get("customer"):
            name = f"{person.get('first_name') or ''} {person.get('last_name') or ''}".strip()
            people[shop_id, person["id"]] = (shop_id, person["id"], name, person.get("email") or "", changed)
        for line in order["line_items"]:
            quantity = line["quantity"]
            lines.append(
                (shop_id, line["id"], gid, line["sku"], line["title"], quantity, cents(line["price"]))
            )
            moves.append((shop_id, line["sku"], f"order:{line['id']}", -quantity, placed))
    if not orders:
        return []
    conn.execute(WRITE_ORDERS, _columns(orders))
    conn.execute(WRITE_LINES, _columns(lines))
    if EFFECT == "orders":
        return []
    if people:
        conn.execute(WRITE_CUSTOMERS, _columns([people[key] for key in sorted(people)]))
    conn.execute(WRITE_MOVEMENTS, _columns(moves))
    return conn.execute(MOVE_LEVELS, _columns(moves)).fetchall() if EFFECT == "pushes" else []


def cents(amount: str) -> int:
    """Return a decimal string of a two-decimal currency as minor units."""
    return int(Decimal(amount) * 100)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
