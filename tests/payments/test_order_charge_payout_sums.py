"""Orders, charges and payouts of a day side by side."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from services.payments.order_charge_payout_sums import LINKS, sum_orders_charges_payouts
from services.payments.trace import trace_payment
from tests.payments.day_rows import BEGINS, DAY, NOON, add_recorded, row

GID = "gid://shopify/Order/"


def add_order(
    tx: Connection, number: int, amount: int = 1000, ref: str = "", gateway: str = "stripe"
) -> None:
    values = {"gid": f"{GID}{number}", "name": f"#{number}", "amount": amount, "at": NOON, "n": number}
    tx.execute(
        text(
            "insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, "
            "placed_at, updated_at) values (1, :gid, :name, :amount, 'CAD', 'paid', :at, :at)"
        ),
        values,
    )
    tx.execute(
        text(
            "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, "
            "gateway, amount_cents, currency, payment_ref, processed_at) "
            "values (1, :n, :gid, 'sale', 'success', :gateway, :amount, 'CAD', :ref, :at)"
        ),
        values | {"ref": ref, "gateway": gateway},
    )


def add_entry(tx: Connection, source: str, net: int, payout: str) -> None:
    tx.execute(
        text(
            "insert into balance_entries (shop_id, entry_id, kind, source_id, amount_cents, fee_cents, "
            "net_cents, currency, created_at, payout_id) "
            "values (1, :id, 'charge', :source, 1000, 1000 - :net, :net, 'CAD', :at, :payout)"
        ),
        {"id": f"txn_{source}", "source": source, "net": net, "payout": payout, "at": NOON},
    )


def find_rows(tx: Connection) -> Sequence[Row[Any]]:
    """Return the payments of the day before they are summed."""
    return tx.exec_driver_sql(f"{LINKS} select * from rows", DAY._asdict()).all()  # noqa: S608


def test_each_payment_is_followed_from_its_order_to_its_payout(tx: Connection) -> None:
    add_order(tx, 1, ref="ch_1")
    add_order(tx, 2, ref="pi_2")
    add_order(tx, 3, 900, ref="ch_3")
    add_order(tx, 4, ref="ch_none")
    add_order(tx, 5, gateway="gift_card")
    add_order(tx, 6)
    add_recorded(
        tx,
        [
            row("ch_1"),
            row("ch_2", parent_id="pi_2"),
            row("ch_3"),
            row("ch_6", order_ref=f"{GID}6"),
            row("ch_7"),
            row("ch_8", status="failed"),
            row("po_1"),
            row("po_2", status="in_transit"),
        ],
    )
    add_entry(tx, "ch_1", 941, "po_1")
    add_entry(tx, "ch_2", 940, "po_2")
    add_entry(tx, "ch_3", 939, "")

    found = {(each.order_name, each.provider_id): each for each in find_rows(tx)}

    assert {key: (each.state, each.payout_id, each.is_in_transit) for key, each in found.items()} == {
        ("#1", "ch_1"): ("matched", "po_1", False),
        ("#2", "ch_2"): ("matched", "po_2", True),
        ("#3", "ch_3"): ("differs", None, True),
        ("#4", None): ("order_without_charge", None, False),
        ("#6", "ch_6"): ("matched", None, True),
        ("", "ch_7"): ("charge_without_order", None, True),
    }
    assert found["#3", "ch_3"]._asdict() == {
        "state": "differs",
        "order_gid": f"{GID}3",
        "order_name": "#3",
        "provider_id": "ch_3",
        "order_cents": 900,
        "charge_cents": 1000,
        "currency": "CAD",
        "payout_id": None,
        "is_in_transit": True,
        "transit_cents": 939,
        "transit_currency": "CAD",
        "occurred_at": NOON,
    }
    assert sum_orders_charges_payouts(tx, 1, DAY.begins, DAY.ends) == {
        "unmatched_orders": 1,
        "unmatched_charges": 1,
        "differing_orders": 1,
        "in_transit": 4,
        "in_transit_cad_cents": 940 + 939 + 1000 + 1000,
    }


def test_day_without_data_has_no_figures(tx: Connection) -> None:
    add_recorded(tx, [row("ch_1", at=DAY.ends)])

    assert find_rows(tx) == []
    assert sum_orders_charges_payouts(tx, 1, BEGINS, DAY.ends) == {}


def test_trail_leads_from_any_name_to_the_whole_payment(tx: Connection) -> None:
    add_order(tx, 1, ref="pi_1")
    add_order(tx, 2, ref="ch_2")
    add_recorded(
        tx,
        [
            row("ch_1", parent_id="pi_1"),
            row("re_1", 200, parent_id="ch_1"),
            row("du_1", parent_id="ch_2"),
            row("ch_2"),
            row("po_1", 941),
        ],
    )
    add_entry(tx, "ch_1", 941, "po_1")

    for named in ("#1", "1", f"{GID}1", "ch_1", "pi_1", "re_1", "po_1"):
        assert [(step.what, step.id) for step in trace_payment(tx, 1, named)] == [
            ("order", f"#1 {GID}1"),
            ("sale", "1"),
            ("charge", "ch_1"),
            ("refund", "re_1"),
            ("balance entry", "txn_ch_1"),
            ("payout", "po_1"),
        ], named
    assert [step.what for step in trace_payment(tx, 1, "du_1")] == ["order", "sale", "charge", "dispute"]
    assert trace_payment(tx, 1, "ch_9") == []
    assert trace_payment(tx, 2, "ch_1") == []


def test_test_orders_and_test_payments_are_in_no_sum(tx: Connection) -> None:
    add_order(tx, 1)
    add_order(tx, 2)
    add_order(tx, 3, 900, ref="ch_3")
    add_recorded(tx, [row("ch_3")])
    tx.exec_driver_sql("update orders set is_test = true where name = '#1'")
    tx.exec_driver_sql("update order_transactions set is_test = true where order_transaction_id > 1")

    sums = sum_orders_charges_payouts(tx, 1, DAY.begins, DAY.ends)

    assert "unmatched_orders" not in sums
    assert "differing_orders" not in sums
