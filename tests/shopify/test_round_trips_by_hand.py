"""Rows with handwritten statements are read back by name and by the finders, with distinct values."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any, get_type_hints

import orjson
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, Engine

from services.conversations.handler import ingest_interactions
from services.core.db import transaction
from services.ledger.work import Done
from services.payments.balance import BalanceEntry, record_balance_entries
from services.payments.payload import Transaction
from services.payments.store import find_transactions, upsert_transactions
from services.shopify.entities import EntityState
from services.shopify.orders import customers
from services.shopify.orders.customers import Customer
from services.shopify.orders.line_payload import OrderLine
from services.shopify.orders.payload import Order
from services.shopify.orders.refund_settlement import Refund, RefundLine, RefundPayment
from services.shopify.orders.refund_store import record_refunds
from services.shopify.orders.store import MANY_ORDERS, find_changed_lines, find_known_orders, record_orders
from services.shopify.products.payload import Variant, VariantState
from services.shopify.products.store import find_variants, record_variants
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import LevelKey
from services.shopify.stock.store import find_known_levels, known_version
from tests.shopify.sample_payloads import ITEM, LOCATION, NOW, add_shop, ingest, item, level
from tests.shopify.test_round_trips import ODD

NUMBERS = count(1000)


def make(cls: Any, **fixed: Any) -> Any:
    """Return a ``cls`` with a distinct value in each field, except ``fixed``."""
    values = dict(fixed)
    for place, (name, hint) in enumerate(get_type_hints(cls).items()):
        if name not in values:
            values[name] = _value(name, hint, place)
    return cls(**values)


def _value(name: str, hint: Any, place: int) -> Any:
    types = set(getattr(hint, "__args__", (hint,)))
    if bool in types:
        return place % 2 == 0
    if str in types:
        return f"{name} {ODD}"
    if datetime in types:
        return NOW + timedelta(minutes=place)
    if date in types:
        return date(2026, 11, place % 28 + 1)
    assert int in types, f"{name}: {hint}"
    return next(NUMBERS)


def make_order(number: int) -> Order:
    order_fields: dict[str, Any] = {
        "shop_id": 1, "order_gid": f"gid://shopify/Order/{number}", "customer": None, "doubts": (),
        "variant_ids": {}, "version": (), "shipping_taxes": orjson.dumps([{"title": ODD}]).decode(),
        "lines": [
            make(OrderLine, taxes=orjson.dumps([{"title": ODD, "cents": number}]).decode())
            for _ in range(2)
        ],
    }  # fmt: skip
    order: Order = make(Order, **order_fields)
    return order


def select(tx: Connection, table: str) -> Iterator[dict[str, Any]]:
    for row in tx.exec_driver_sql(f"select * from {table}").mappings():  # noqa: S608 - our own names
        yield dict(row)


def assert_named(row: dict[str, Any], state: Any, **renamed: str) -> None:
    """Check that the columns of ``row`` equal the fields of ``state``; columns may be ``renamed``."""
    fields = {renamed.get(name, name): name for name in get_type_hints(type(state))}
    shared = row.keys() & fields.keys()
    wanted = {column: getattr(state, fields[column]) for column in shared}
    for column in shared:
        if isinstance(row[column], list | dict):
            wanted[column] = orjson.loads(wanted[column])
    assert {column: row[column] for column in shared} == wanted


@pytest.mark.parametrize("orders", [1, MANY_ORDERS], ids=["upsert", "copy"])
def test_orders_and_their_lines_are_read_back_by_name_and_by_their_finder(
    engine: Engine, orders: int
) -> None:
    add_shop(engine)
    made = {order.order_gid: order for order in (make_order(number) for number in range(1, orders + 1))}
    lines = {line.line_id: line for order in made.values() for line in order.lines}

    with transaction(engine) as tx:
        record_orders(tx, {order.key: order for order in made.values()}, (), {})
        for row in select(tx, "orders"):
            assert_named(row, made[row["order_gid"]])
            assert row["content_digest"] == made[row["order_gid"]].content_digest
        for row in select(tx, "order_lines"):
            assert_named(row, lines[row["line_id"]])
        known = find_known_orders(tx, [(1, gid) for gid in made])
        unchanged = find_changed_lines(tx, {order.key: order for order in made.values()})

    assert len(known) == orders
    for (_, gid), found in known.items():
        wanted = {name: getattr(made[gid], name, None) for name in found._fields}
        assert found._asdict() == wanted
    assert unchanged == {}


def test_changed_line_is_read_back_unchanged(engine: Engine) -> None:
    add_shop(engine)
    order = make_order(1)
    line = order.lines[0]

    with transaction(engine) as tx:
        record_orders(tx, {order.key: order}, (), {})
        now = replace(order, lines=[line._replace(discount_cents=1), order.lines[1]])
        changed = find_changed_lines(tx, {order.key: now})

    ((new, old),) = changed[order.key].values()
    assert new == now.lines[0]
    assert old is not None
    shown = ("line_id", "sku", "title", "quantity", "price_cents")
    assert [getattr(old, name) for name in shown] == [getattr(line, name) for name in shown]


def test_refund_and_its_lines_are_read_back_by_name_and_by_their_finder(engine: Engine) -> None:
    add_shop(engine)
    line: RefundLine = make(RefundLine)
    payments = {7: RefundPayment("success", 901), 8: RefundPayment("pending", 902, is_foreign=True)}
    refund: Refund = make(
        Refund, shop_id=1, order_gid="gid://shopify/Order/5", lines=[line], payments=payments, doubts=()
    )

    with transaction(engine) as tx:
        written = record_refunds(tx, [refund])
        (row,) = select(tx, "order_refunds")
        (of_line,) = select(tx, "order_refund_lines")
        again = record_refunds(tx, [refund])

    for name in ("amount_cents", "status", "tip_cents"):  # set when the refund is settled
        row.pop(name)
    assert_named(row, refund)
    assert_named(of_line, line)
    assert [one.is_new for one in written.values()] == [True]
    assert [(one.is_new, one.is_changed, one.new_lines) for one in again.values()] == [(False, False, 0)]


def test_stripes_transaction_is_read_back_by_name_and_by_its_finder(engine: Engine) -> None:
    add_shop(engine)
    made: Transaction = make(Transaction, shop_id=1)

    with transaction(engine) as tx:
        upsert_transactions(tx, [made])
        (row,) = select(tx, "transactions")
        known, _ = find_transactions(tx, [made.key])

    assert_named(row, made)
    (found,) = known.values()
    assert found == made._replace(work_id=0)


def test_balance_entry_is_read_back_by_name(engine: Engine) -> None:
    shop_id = add_shop(engine)
    made: BalanceEntry = make(BalanceEntry)

    with transaction(engine) as tx:
        record_balance_entries(tx, shop_id, [made])
        (row,) = select(tx, "balance_entries")

    assert_named(row, made)


def test_interaction_is_read_back_by_name(engine: Engine) -> None:
    shop_id = add_shop(engine)
    source = {"id": f"AC1 {ODD}", "direction": f"direction {ODD}", "status": f"status {ODD}", "text": ODD,
              "from": f"+1604 {ODD}", "createdAt": NOW.isoformat()}  # fmt: skip
    event = {"type": "message.received", "createdAt": (NOW + timedelta(hours=1)).isoformat(),
             "data": {"object": source}}  # fmt: skip
    work = item("x", orjson.dumps(event))._replace(event_id=4711)

    with transaction(engine) as tx:
        (outcome,) = ingest_interactions(tx, [work], NOW).outcomes
        (row,) = select(tx, "interactions")
        again = ingest_interactions(tx, [work], NOW).outcomes

    assert (outcome, again, shop_id) == (Done(), [Done()], row["shop_id"])
    wanted = {
        "provider_id": source["id"], "kind": "message", "direction": source["direction"], "event_id": 4711,
        "status": source["status"], "participants": [source["from"]], "body": ODD, "occurred_at": NOW,
        "version_at": NOW + timedelta(hours=1),
        "detail": {"type": "message.received", "object": source, "context": {}, "progress": 1},
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def test_variant_is_read_back_by_name_and_by_its_finder(engine: Engine) -> None:
    add_shop(engine)
    made = Variant(item("product_ingest", b"{}"), 9, make(VariantState))

    with transaction(engine) as tx:
        record_variants(tx, [made], {})
        (row,) = select(tx, "variants")
        (found,) = find_variants(tx, [made.key]).values()

    assert_named(row, made.state)
    assert (row["shop_id"], row["inventory_item_id"]) == made.key
    assert found == made.state


def test_customer_is_read_back_by_name(engine: Engine) -> None:
    add_shop(engine)
    made, gone_at = make(Customer), NOW + timedelta(days=2)

    with transaction(engine) as tx:
        customers.upsert_customers(tx, {(1, 9): EntityState(made, gone_at)})
        (row,) = select(tx, "customers")

    assert_named(row, made)
    assert row["deleted_at"] == gone_at
    assert row["redacted_at"] is None


def test_level_is_read_back_by_the_finder(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(11, 1))
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update inventory_levels set sku = 's', available = 12, shopify_available = 13, "
            "disconnected_at = %(at)s, counted_at = %(at)s",
            {"at": NOW},
        )
        (row,) = select(tx, "inventory_levels")
        (found,) = find_known_levels(tx, [LevelKey(1, ITEM, LOCATION)]).values()

    assert found.row_sku == row["sku"] == "s"
    assert known_version(found) == (row["observed_at"], -row["observed_available"])
    assert (found.shopify_available, found.available) == (13, 12)
    assert (found.disconnected_at, found.gone_at, found.is_ours) == (NOW, None, True)
