"""The rows of orders and their lines: what is known, what differs, and writing it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from services.core.pg_arrays import instant_array, int_array, text_array
from services.core.pg_copy import copy_rows, write_new
from services.shopify.orders.audit_text import ChangedLine, KnownOrder, Lines
from services.shopify.orders.line_payload import OrderLine
from services.shopify.orders.payload import Order
from services.shopify.orders.refund_store import OrderKey, RefundTotals, recount_refunds

# A probe for each: by a plain join PostgreSQL would read all of a table that has grown since it was analyzed.
_FIND = """
select o.shop_id, o.order_gid, o.updated_at, o.cancelled_at, o.financial_status, o.fulfillment_status,
       o.total_cents, o.content_digest, o.currency, o.name, o.placed_at, o.subtotal_cents, o.tax_cents,
       o.shipping_cents, o.discount_cents, o.customer_id, o.deleted_at
  from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
 cross join lateral (select * from orders o where o.shop_id = v.shop_id and o.order_gid = v.gid offset 0) o
"""

# Returns those that have refunds: they are counted anew.
_UPSERT_ORDERS = """
with written as (
  insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, cancelled_at,
                      placed_at, updated_at, event_id, subtotal_cents, tax_cents, shipping_cents,
                      discount_cents, taxes_included, shipping_taxes, customer_id, staff_label, province,
                      location_id, fulfillment_status, content_digest, is_test, is_tax_exempt, tip_cents,
                      duties_cents, rounding_cents, refund_rounding_cents, duties_included,
                      current_duties_cents, additional_fees_cents, current_additional_fees_cents,
                      conversion_cents)
  select * from unnest(%(shop_id)s::int[], %(gid)s::text[], %(name)s::text[], %(total_cents)s::bigint[],
                       %(currency)s::text[], %(financial_status)s::text[], %(cancelled_at)s::timestamptz[],
                       %(placed_at)s::timestamptz[], %(updated_at)s::timestamptz[], %(event_id)s::bigint[],
                       %(subtotal_cents)s::bigint[], %(tax_cents)s::bigint[], %(shipping_cents)s::bigint[],
                       %(discount_cents)s::bigint[], %(taxes_included)s::boolean[],
                       %(shipping_taxes)s::jsonb[], %(customer_id)s::bigint[], %(staff_label)s::text[],
                       %(province)s::text[], %(location_id)s::bigint[], %(fulfillment_status)s::text[],
                       %(content_digest)s::text[], %(is_test)s::boolean[], %(is_tax_exempt)s::boolean[],
                       %(tip_cents)s::bigint[], %(duties_cents)s::bigint[], %(rounding_cents)s::bigint[],
                       %(refund_rounding_cents)s::bigint[], %(duties_included)s::boolean[],
                       %(current_duties_cents)s::bigint[], %(additional_fees_cents)s::bigint[],
                       %(current_additional_fees_cents)s::bigint[], %(conversion_cents)s::bigint[])
  on conflict (shop_id, order_gid) do update set
     name = excluded.name, total_cents = excluded.total_cents, currency = excluded.currency,
     financial_status = excluded.financial_status, cancelled_at = excluded.cancelled_at,
     placed_at = excluded.placed_at, updated_at = excluded.updated_at, event_id = excluded.event_id,
     subtotal_cents = excluded.subtotal_cents, tax_cents = excluded.tax_cents,
     shipping_cents = excluded.shipping_cents, discount_cents = excluded.discount_cents,
     taxes_included = excluded.taxes_included, shipping_taxes = excluded.shipping_taxes,
     customer_id = excluded.customer_id, staff_label = excluded.staff_label, province = excluded.province,
     location_id = excluded.location_id, fulfillment_status = excluded.fulfillment_status,
     content_digest = excluded.content_digest, is_test = excluded.is_test,
     is_tax_exempt = excluded.is_tax_exempt, tip_cents = excluded.tip_cents,
     duties_cents = excluded.duties_cents, rounding_cents = excluded.rounding_cents,
     refund_rounding_cents = excluded.refund_rounding_cents, duties_included = excluded.duties_included,
     current_duties_cents = excluded.current_duties_cents,
     additional_fees_cents = excluded.additional_fees_cents,
     current_additional_fees_cents = excluded.current_additional_fees_cents,
     conversion_cents = excluded.conversion_cents
  returning shop_id, order_gid
)
select distinct r.shop_id, r.order_gid
  from written w join order_refunds r on r.shop_id = w.shop_id and r.order_gid = w.order_gid
"""

# A refund may have come before its order.
_FIND_REFUNDED = """
select v.shop_id, v.gid from unnest(%(shop_id)s::int[], %(gid)s::text[]) as v(shop_id, gid)
 where exists (select from order_refunds r where r.shop_id = v.shop_id and r.order_gid = v.gid offset 0)
"""

# Joined both ways: a line that the row has and the event has not is one that an edit took away.
_FIND_CHANGED_LINES = """
select coalesce(v.shop_id, l.shop_id), coalesce(v.gid, l.order_gid), coalesce(v.line_id, l.line_id),
       v.line_id is null, l.sku, l.title, l.quantity, l.price_cents
  from unnest(%(shop_id)s::int[], %(line_id)s::bigint[], %(gid)s::text[], %(sku)s::text[],
              %(title)s::text[], %(quantity)s::int[], %(price_cents)s::bigint[],
              %(discount_cents)s::bigint[], %(is_taxable)s::boolean[], %(is_gift_card)s::boolean[],
              %(taxes)s::jsonb[], %(product_id)s::bigint[], %(staff_label)s::text[],
              %(is_tip)s::boolean[], %(current_quantity)s::int[])
       as v(shop_id, line_id, gid, sku, title, quantity, price_cents, discount_cents, is_taxable,
            is_gift_card, taxes, product_id, staff_label, is_tip, current_quantity)
  full join (
    select l.* from unnest(%(order_shop_id)s::int[], %(order_gid)s::text[]) as o(shop_id, gid)
     cross join lateral (
       select * from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.gid offset 0) l
  ) l on l.shop_id = v.shop_id and l.order_gid = v.gid and l.line_id = v.line_id
 where (l.sku, l.title, l.quantity, l.price_cents, l.discount_cents, l.is_taxable, l.is_gift_card, l.taxes,
        l.product_id, l.staff_label, l.is_tip, l.current_quantity)
       is distinct from (v.sku, v.title, v.quantity, v.price_cents, v.discount_cents, v.is_taxable,
                         v.is_gift_card, v.taxes, v.product_id, v.staff_label, v.is_tip,
                         v.current_quantity)
"""

_UPSERT_LINES = """
insert into order_lines as l (shop_id, line_id, order_gid, sku, title, quantity, price_cents, discount_cents,
                              is_taxable, is_gift_card, taxes, product_id, staff_label, is_tip,
                              current_quantity)
select * from unnest(%(shop_id)s::int[], %(line_id)s::bigint[], %(gid)s::text[], %(sku)s::text[],
                     %(title)s::text[], %(quantity)s::int[], %(price_cents)s::bigint[],
                     %(discount_cents)s::bigint[], %(is_taxable)s::boolean[], %(is_gift_card)s::boolean[],
                     %(taxes)s::jsonb[], %(product_id)s::bigint[], %(staff_label)s::text[],
                     %(is_tip)s::boolean[], %(current_quantity)s::int[])
on conflict (shop_id, order_gid, line_id) do update set
   sku = excluded.sku, title = excluded.title, quantity = excluded.quantity,
   price_cents = excluded.price_cents, discount_cents = excluded.discount_cents,
   is_taxable = excluded.is_taxable, is_gift_card = excluded.is_gift_card, taxes = excluded.taxes,
   product_id = excluded.product_id, staff_label = excluded.staff_label, is_tip = excluded.is_tip,
   current_quantity = excluded.current_quantity
"""

_DELETE_LINES = """
delete from order_lines l
 using unnest(%(shop_id)s::int[], %(gid)s::text[], %(line_id)s::bigint[]) as v(shop_id, gid, line_id)
 where l.shop_id = v.shop_id and l.order_gid = v.gid and l.line_id = v.line_id
"""


MANY_ORDERS = MANY_LINES = 50
"""From so many new rows on, writing them without asking for a conflict pays for its savepoint."""


def find_known(tx: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, KnownOrder]:
    """Return those of the orders that have a row."""
    if not keys:
        return {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "gid": text_array([gid for _, gid in keys])}
    return {(r[0], r[1]): KnownOrder(*r[2:]) for r in tx.exec_driver_sql(_FIND, arrays)}


def find_changed_lines(tx: Connection, orders: Sequence[Order]) -> dict[OrderKey, Lines]:
    """Return the lines of known ``orders`` that are new, or gone, or not as they were."""
    if not orders:
        return {}
    lines = {(o.shop_id, o.gid, line.line_id): line for o in orders for line in o.lines}
    arrays = _line_arrays([(o, line) for o in orders for line in o.lines])
    arrays["order_shop_id"] = int_array(o.shop_id for o in orders)
    arrays["order_gid"] = text_array([o.gid for o in orders])
    changed: dict[OrderKey, dict[int, ChangedLine]] = {}
    for shop_id, gid, line_id, is_gone, sku, *rest in tx.exec_driver_sql(_FIND_CHANGED_LINES, arrays):
        old = None if sku is None else OrderLine(line_id, sku, *rest)
        new = None if is_gone else lines[shop_id, gid, line_id]
        changed.setdefault((shop_id, gid), {})[line_id] = (new, old)
    return dict(changed)


def record_orders(
    tx: Connection,
    orders: Sequence[Order],
    known: Collection[OrderKey],
    changed: Mapping[OrderKey, Lines],
) -> RefundTotals:
    """Write ``orders`` with their lines, of a known order those ``changed``; return what is refunded now."""
    if len(orders) >= MANY_ORDERS and not known:
        refunded = write_new(tx, lambda: _copy_orders(tx, orders), lambda: _upsert_orders(tx, orders))
    else:
        refunded = _upsert_orders(tx, orders)
    lines = [(o, line) for o in orders if (o.shop_id, o.gid) not in known for line in o.lines]
    altered = [
        (o, line)
        for o in orders
        if (of := changed.get((o.shop_id, o.gid)))
        for line in o.lines
        if line.line_id in of
    ]
    if len(lines) >= MANY_LINES:
        write_new(tx, lambda: _copy_lines(tx, lines), lambda: _upsert_lines(tx, lines))
    else:
        altered += lines
    if altered:
        _upsert_lines(tx, altered)
    gone = [(*key, old.line_id) for key, of in changed.items() for new, old in of.values() if old and not new]
    if gone:
        values = {
            "shop_id": int_array(shop_id for shop_id, _, _ in gone),
            "gid": text_array([gid for _, gid, _ in gone]),
            "line_id": int_array(line_id for _, _, line_id in gone),
        }
        tx.exec_driver_sql(_DELETE_LINES, values)
    return recount_refunds(tx, refunded)


def _copy_orders(tx: Connection, orders: Sequence[Order]) -> list[OrderKey]:
    rows = [
        (o.shop_id, o.event_id, o.updated_at, o.content_digest, *o[_TOLD:_LINES], *o[_LINES + 1 :])
        for o in orders
    ]
    copy_rows(tx, "orders", _ORDER_COLUMNS, rows)
    keys = {"shop_id": int_array(o.shop_id for o in orders), "gid": text_array([o.gid for o in orders])}
    return [(r[0], r[1]) for r in tx.exec_driver_sql(_FIND_REFUNDED, keys)]


def _upsert_orders(tx: Connection, orders: Sequence[Order]) -> list[OrderKey]:
    return [(r[0], r[1]) for r in tx.exec_driver_sql(_UPSERT_ORDERS, _order_arrays(orders))]


def _copy_lines(tx: Connection, lines: Sequence[tuple[Order, OrderLine]]) -> None:
    copy_rows(tx, "order_lines", _LINE_COLUMNS, [(o.shop_id, o.gid, *line) for o, line in lines])


def _upsert_lines(tx: Connection, lines: Sequence[tuple[Order, OrderLine]]) -> None:
    tx.exec_driver_sql(_UPSERT_LINES, _line_arrays(lines))


_MAKE_ARRAY: Mapping[str, Callable[[Sequence[Any]], str]] = {
    "gid": text_array, "name": text_array, "currency": text_array, "financial_status": text_array,
    "cancelled_at": instant_array, "placed_at": instant_array, "updated_at": instant_array,
    "shipping_taxes": text_array, "staff_label": text_array, "province": text_array,
    "fulfillment_status": text_array, "sku": text_array, "title": text_array, "taxes": text_array,
}  # fmt: skip
"""How a column of ``Order`` or ``OrderLine`` becomes an array; any other is of numbers."""

_TOLD, _LINES = Order._fields.index("total_cents"), Order._fields.index("lines")
_ORDER_COLUMNS = [
    "order_gid" if name == "gid" else name
    for name in ("shop_id", "event_id", "updated_at", "content_digest",
                 *Order._fields[_TOLD:_LINES], *Order._fields[_LINES + 1 :])
]  # fmt: skip
_LINE_COLUMNS = ("shop_id", "order_gid", *OrderLine._fields)

_NOT_A_COLUMN = {"request_id", "version", "lines", "work_id", "customer", "doubts", "variant_ids"}


def _order_arrays(orders: Sequence[Order]) -> dict[str, str]:
    columns = dict(zip(Order._fields, zip(*orders, strict=True), strict=True))
    arrays = {
        name: _MAKE_ARRAY.get(name, int_array)(column)
        for name, column in columns.items()
        if name not in _NOT_A_COLUMN
    }
    return {**arrays, "content_digest": text_array([order.content_digest for order in orders])}


def _line_arrays(lines: Sequence[tuple[Order, OrderLine]]) -> dict[str, str]:
    columns = zip(*[line for _, line in lines], strict=True) if lines else ((),) * len(OrderLine._fields)
    return {
        "shop_id": int_array([order.shop_id for order, _ in lines]),
        "gid": text_array([order.gid for order, _ in lines]),
        **{
            name: _MAKE_ARRAY.get(name, int_array)(column)
            for name, column in zip(OrderLine._fields, columns, strict=True)
        },
    }
