"""Rows of refunds and of an order's parts are read back by name, with distinct values."""

from typing import Any

from sqlalchemy import Connection, Engine, Table

from services.core.db import transaction
from services.core.pg_arrays import upsert_rows
from services.shopify.backfill.orders import find_stored_orders
from services.shopify.logistics.tables import fulfillments
from services.shopify.orders.refund_settlement import PARTS, Refund, RefundLine, RefundPayment, SettledRefund
from services.shopify.orders.refund_store import _find_refunds, record_refunds, recount_refunds
from services.shopify.orders.store import key_arrays, record_orders
from services.shopify.orders.tables import order_transactions
from tests.shopify.sample_payloads import NOW, add_shop
from tests.shopify.test_round_trips_by_hand import make, make_order, select

GID = "gid://shopify/Order/1"
LINE: RefundLine = make(RefundLine)
REFUND: Refund = make(
    Refund, shop_id=1, order_gid=GID, lines=[LINE], doubts=(),
    payments={7: RefundPayment("success", 901), 8: RefundPayment("failure", 902, is_foreign=True)},
)  # fmt: skip


def insert(tx: Connection, table: Table, **columns: Any) -> None:
    upsert_rows(tx, table, {name: [value] for name, value in columns.items()})


def test_parts_of_a_refund_are_read_back_by_name(engine: Engine) -> None:
    add_shop(engine)
    with transaction(engine) as tx:
        record_orders(tx, {(1, GID): make_order(1)}, (), {})
        record_refunds(tx, [REFUND])
        recount_refunds(tx, [(1, GID)])
        found = _find_refunds(tx, key_arrays([(1, GID)]))
        (row,) = select(tx, "order_refunds")

    ((key, refunds),) = found.items()
    (parts,) = refunds
    assert key == ((1, GID), REFUND.currency)
    found_row = parts.row
    assert (found_row.refund_id, found_row.refunded_at) == (REFUND.refund_id, REFUND.refunded_at)
    assert {name: getattr(found_row, name) for name in PARTS} == {
        name: getattr(REFUND, name) for name in PARTS
    }
    assert parts.payments == REFUND.payments
    lines = (
        found_row.goods_cents, found_row.goods_tax_cents, found_row.tip_line_cents, found_row.line_count
    )  # fmt: skip
    assert lines == (LINE.subtotal_cents, LINE.tax_cents, 0, 1)
    assert parts.settled == SettledRefund(**{name: row[name] for name in SettledRefund._fields})
    assert (parts.settled.status, parts.settled.amount_cents) == ("success", 901)


def test_latest_status_of_a_payment_is_that_of_its_transaction(engine: Engine) -> None:
    add_shop(engine)
    pending = REFUND._replace(payments={7: RefundPayment("pending", 901)})
    with transaction(engine) as tx:
        record_refunds(tx, [pending])
        insert(tx, order_transactions, shop_id=1, order_transaction_id=7, order_gid=GID, kind="refund",
               status="success", amount_cents=901, currency="CAD", processed_at=NOW)  # fmt: skip
        ((parts,),) = _find_refunds(tx, key_arrays([(1, GID)])).values()

    assert parts.payments == {7: RefundPayment("success", 901)}


def test_children_of_an_order_are_read_back_by_name(engine: Engine) -> None:
    add_shop(engine)
    with transaction(engine) as tx:
        record_orders(tx, {(1, GID): make_order(1)}, (), {})
        record_refunds(tx, [REFUND])
        insert(tx, order_transactions, shop_id=1, order_transaction_id=11, order_gid=GID, kind="sale",
               status="success", amount_cents=77, currency="CAD", processed_at=NOW)  # fmt: skip
        insert(tx, fulfillments, shop_id=1, fulfillment_id=12, order_gid=GID, status="open", quantity=3,
               shipment_status="in_transit", fulfilled_at=NOW, updated_at=NOW)  # fmt: skip
        stored = find_stored_orders(tx, 1, [{"id": GID}])

    assert stored.orders[GID]["name"] == make_order(1).name
    assert stored.of("transactions", GID) == {11: ("transactions", GID, 11, "success", "", None, 0)}
    assert stored.of("refunds", GID) == {
        REFUND.refund_id: ("refunds", GID, REFUND.refund_id, "", "", None, 901)
    }
    assert stored.of("fulfillments", GID) == {12: ("fulfillments", GID, 12, "open", "in_transit", NOW, 0)}
    assert stored.of("fulfillments", "gid://shopify/Order/2") == {}
