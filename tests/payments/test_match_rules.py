"""Breaks other than differing rows: fees, duplicates, amounts of orders."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.errors import Misconfigured
from services.payments.match_rules import parse_fee_profile
from tests.payments.day_rows import BEGINS, NOON, add_recorded, found_breaks, match_rows, row


def test_different_fee_at_stripe_is_a_break(tx: Connection) -> None:
    add_recorded(tx, [row("ch_1", fee_cents=59), row("ch_2", fee_cents=59), row("ch_3")])

    assert found_breaks(
        tx, [row("ch_1", fee_cents=60), row("ch_2", fee_cents=59), row("ch_3", fee_cents=60)]
    ) == [("fee", "ch_1")]
    recorded, stripe = tx.exec_driver_sql("select ours, theirs from reconciliation_staging").one()
    assert (recorded["fee_cents"], stripe["fee_cents"]) == (59, 60)


def add_entry(
    tx: Connection, entry_id: str, amount: int, fee: int, net: int, source: str, **more: Any
) -> None:
    tx.execute(
        text(
            "insert into balance_entries (shop_id, entry_id, kind, source_id, amount_cents, fee_cents, "
            "net_cents, currency, created_at) values (1, :id, :kind, :source, :amount, :fee, :net, "
            "'CAD', :at)"
        ),
        {"id": entry_id, "amount": amount, "fee": fee, "net": net, "source": source, "at": NOON}
        | {"kind": "charge"}
        | more,
    )


def test_entry_of_the_balance_that_does_not_add_up_is_a_break(tx: Connection) -> None:
    both = [row("ch_1", fee_cents=59), row("ch_2", fee_cents=59)]
    add_recorded(tx, both)
    add_entry(tx, "txn_1", 1000, 59, 941, "ch_1")
    add_entry(tx, "txn_2", 1000, 59, 940, "ch_2")
    add_entry(tx, "txn_4", 1000, 61, 1, "ch_2", at=BEGINS - timedelta(1))

    assert match_rows(tx, both)[1] == [("fee", "balance", "txn_2")]


def test_fee_is_compared_with_the_shops_profile_if_it_has_one(engine: Engine) -> None:
    from tests.shopify.sample_payloads import add_shop

    add_shop(engine)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            """update shop_config set settings = '{"stripe_fee": {"percent": "2.9", "fixed_cents": 30}}'"""
        )
        both = [row("ch_1"), row("ch_2"), row("ch_3")]
        add_recorded(tx, both)
        for number, fee in ((1, 59), (2, 60), (3, 61)):  # 2.9% of 10.00 and 0.30 are 0.59
            add_entry(tx, f"txn_{number}", 1000, fee, 1000 - fee, f"ch_{number}")

        assert match_rows(tx, both)[1] == [("fee", "charge", "ch_3")]
        (evidence,) = tx.exec_driver_sql("select evidence from reconciliation_staging").one()
        assert (evidence["looked_at"], evidence["expected_cents"]) == ("profile", 59)


@pytest.mark.parametrize(
    "profile",
    [
        "2.9% + 30",
        {"percent": 2.9, "fixed_cents": 30},
        {"percent": "2,9", "fixed_cents": 30},
        {"percent": "2.9"},
        {"percent": "2.9", "fixed_cents": "30"},
        {"percent": "2.9", "fixed_cents": 30, "tolerance_cents": -1},
    ],
)
def test_invalid_fee_profile_is_refused_with_an_example(profile: Any) -> None:
    with pytest.raises(Misconfigured, match=r"it should be like .*2\.9") as raised:
        parse_fee_profile(profile)

    assert raised.value.code == "stripe.fee_profile"


ORDER = "gid://shopify/Order/7"


def test_second_payment_of_an_order_is_a_duplicate_that_names_its_twin(tx: Connection) -> None:
    later = NOON + timedelta(minutes=1)
    both = [
        row("ch_1", order_ref=ORDER),
        row("ch_2", order_ref=ORDER, at=later),
        row("ch_3", parent_id="pi_1"),
        row("ch_4", parent_id="pi_1", at=later),
        row("ch_5", order_ref="gid://shopify/Order/8"),
        row("ch_6", 900, order_ref=ORDER),
        row("ch_7", order_ref=ORDER, currency="USD"),
        row("ch_8", order_ref=ORDER, refunded_cents=1000),
        row("ch_9", status="failed", order_ref=ORDER),
    ]
    add_recorded(tx, both)

    assert match_rows(tx, both)[1] == [("duplicate", "charge", "ch_2"), ("duplicate", "charge", "ch_4")]
    twins = tx.exec_driver_sql("select evidence ->> 'twin' from reconciliation_staging order by provider_id")
    assert [twin for (twin,) in twins] == ["ch_1", "ch_3"]


@pytest.mark.parametrize(("days", "is_found"), [(1, True), (2, True), (3, False)])
def test_twin_may_be_of_the_two_days_before(tx: Connection, days: int, is_found: bool) -> None:
    both = [row("ch_2", order_ref=ORDER, at=BEGINS)]
    add_recorded(tx, [*both, row("ch_1", order_ref=ORDER, at=BEGINS - timedelta(days=days))])
    add_recorded(tx, [row("ch_0", order_ref=ORDER, at=BEGINS - timedelta(days=1))], shop_id=2)

    assert found_breaks(tx, both) == ([("duplicate", "ch_2")] if is_found else [])


@pytest.mark.parametrize(("total", "is_found"), [(2500, False), (2499, True)])
def test_order_paid_in_equal_parts_is_no_duplicate_if_its_total_covers_them(
    tx: Connection, total: int, is_found: bool
) -> None:
    both = [row("ch_1", order_ref=ORDER), row("ch_2", order_ref=ORDER), row("ch_3", 500, order_ref=ORDER)]
    add_recorded(tx, both)
    add_order(tx, total)

    assert found_breaks(tx, both) == ([("duplicate", "ch_2")] if is_found else [])


def add_order(tx: Connection, total: int) -> None:
    tx.execute(
        text(
            "insert into orders (shop_id, order_gid, name, total_cents, currency, financial_status, "
            "placed_at, updated_at) values (1, :gid, '#7', :total, 'CAD', 'paid', :at, :at)"
        ),
        {"gid": ORDER, "total": total, "at": NOON},
    )


@pytest.mark.parametrize("ref", ["ch_1", "pi_1"])
@pytest.mark.parametrize(("amount", "is_found"), [(1000, False), (1100, True)])
def test_order_is_compared_with_the_charge_that_shopify_names(
    tx: Connection, ref: str, amount: int, is_found: bool
) -> None:
    both = [row("ch_1", parent_id="pi_1"), row("ch_2")]
    add_recorded(tx, both)
    add_order(tx, amount)
    tx.execute(
        text(
            "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, "
            "gateway, amount_cents, currency, payment_ref, processed_at) "
            "values (1, 5, :gid, 'sale', 'success', 'stripe', :amount, 'CAD', :ref, :at)"
        ),
        {"gid": ORDER, "amount": amount, "ref": ref, "at": NOON},
    )

    assert match_rows(tx, both)[1] == ([("amount", "order", ORDER)] if is_found else [])


def test_test_payment_is_compared_with_no_charge(tx: Connection) -> None:
    both = [row("ch_1")]
    add_recorded(tx, both)
    add_order(tx, 1100)
    tx.execute(
        text(
            "insert into order_transactions (shop_id, order_transaction_id, order_gid, kind, status, "
            "gateway, amount_cents, currency, payment_ref, processed_at, is_test) "
            "values (1, 5, :gid, 'sale', 'success', 'bogus', 1100, 'CAD', 'ch_1', :at, true)"
        ),
        {"gid": ORDER, "at": NOON},
    )

    assert match_rows(tx, both)[1] == []
