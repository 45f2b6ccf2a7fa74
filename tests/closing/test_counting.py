"""Which amounts count, when and where: one rule for statement, tax files and digest."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from services.closing.digest import record_owner_digest
from services.closing.profit_and_loss import ProfitStatement, net_sales, plan_statement
from services.closing.sale_items import make_month_period
from services.closing.tax_profile import TaxProfile
from services.closing.totals import UNREAD_DAYS, MonthFigures, get_figures
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.shopify.backfill.state import update_state
from tests.closing.months import ZONE, add_order, add_refund, at, gst_pst, insert, line
from tests.shopify.sample_payloads import add_shop

HERE = TaxProfile(province="CA-BC")


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    return engine


def figures(engine: Engine, period: str = "2026-10", profile: TaxProfile = HERE) -> MonthFigures:
    with transaction(engine) as tx:
        return get_figures(tx, make_month_period(1, period, ZONE, profile))


def accounts(engine: Engine, profile: TaxProfile = HERE, currency: str = "CAD") -> dict[str, int]:
    found = figures(engine, profile=profile).accounts.get(currency, {})
    return {name: cents for name, cents in found.items() if cents}


def statement(engine: Engine) -> ProfitStatement:
    found = figures(engine)
    return plan_statement(
        shop_name="Harbour", shop_currency="CAD", period="2026-10", zone=ZONE.key,
        accounts=found.accounts, accounts_before={}, corrections=(), counts=found.counts,
    )  # fmt: skip


def shown(engine: Engine) -> dict[str, str]:
    return {each.label: each.amount for each in statement(engine).lines}


def sell(engine: Engine, *lines: dict[str, Any], number: int = 1, **order: Any) -> None:
    with transaction(engine) as tx:
        add_order(tx, number, at(5), lines or [line(number * 10, 10_000, gst_pst(500, 700))], **order)


def give_back(engine: Engine, amount: int, *lines: tuple[int, int, int, int], **refund: Any) -> None:
    with transaction(engine) as tx:
        add_refund(tx, 1, 1, at(20), amount, lines, **refund)


SOLD = {"gross_sales": 10_000, "tax:CA-BC:GST": 500, "tax:CA-BC:PST": 700}


@pytest.mark.parametrize(
    "order",
    [
        {"is_test": True},
        {"financial_status": "voided"},
        {"financial_status": "expired"},
        {"deleted_at": at(6)},
        {"financial_status": "pending", "cancelled_at": at(6)},
        {"financial_status": "authorized", "cancelled_at": at(6)},
    ],
)
def test_order_without_a_sale_and_its_refund_count_nowhere(shop: Engine, order: dict[str, Any]) -> None:
    sell(shop, shipping_cents=800, tip_cents=100, duties_cents=50, rounding_cents=2, **order)
    give_back(shop, 11_200, (10, 1, 10_000, 1200), shipping_cents=100, adjustment_cents=-40, tip_cents=5)

    assert accounts(shop) == {}
    assert figures(shop).counts["orders"] == 0
    assert figures(shop).costs == []


def test_an_order_that_is_not_paid_counts_as_its_invoice_does_and_its_sales_have_a_line(shop: Engine) -> None:
    sell(shop, financial_status="pending", shipping_cents=800)

    assert accounts(shop) == {**SOLD, "shipping": 800, "unpaid_sales": 10_800}
    assert shown(shop)["Net sales"] == "108.00"
    assert shown(shop)["Of net sales: orders not paid yet"] == "108.00"
    assert "1 order is not paid yet; unpaid sales have a separate line." in statement(shop).notes


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_refund_counts_once_its_money_is_given_back(shop: Engine, status: str) -> None:
    sell(shop)
    give_back(shop, 11_200, (10, 1, 10_000, 1200), status=status)
    assert accounts(shop) == SOLD

    with transaction(shop) as tx:
        tx.exec_driver_sql("update order_refunds set status = 'success'")

    assert accounts(shop) == {"gross_sales": 10_000, "returns": -10_000}


def test_tips_duties_and_rounding_are_not_net_sales(shop: Engine) -> None:
    tip = line(12, 1500, sku="", title="Tip", is_tip=True)
    sell(shop, line(10, 10_000, gst_pst(500, 700)), tip, tip_cents=1500, duties_cents=2000, rounding_cents=-2)
    give_back(shop, 0, tip_cents=300, duties_cents=700, rounding_cents=1)

    found = accounts(shop)

    assert found == {**SOLD, "tips": 1200, "duties": 1300, "cash_rounding": -3}
    assert net_sales(found) == 10_000
    lines = shown(shop)
    assert (lines["Tips (not revenue)"], lines["Duties (not revenue)"]) == ("12.00", "13.00")
    assert (lines["Rounding of cash"], lines["Profit after payments"]) == ("-0.03", "99.97")


def test_duties_within_the_prices_are_no_sale_and_no_return(shop: Engine) -> None:
    sell(shop, line(10, 10_000), duties_cents=2000, duties_included=True, current_duties_cents=500)
    give_back(shop, 7_000, (10, 1, 7_000, 0), duties_cents=1400)

    found = accounts(shop)

    # Duties: 5.00 are left, 14.00 were refunded, 1.00 was removed and never charged.
    assert found == {"gross_sales": 8_100, "returns": -5_600, "duties": 500}
    assert net_sales(found) == 2_500


def test_the_rounding_of_a_converted_order_is_a_part_of_its_gross_sales(shop: Engine) -> None:
    sell(shop, line(10, 1429, quantity=7), conversion_cents=-3)
    give_back(shop, 10_000, (10, 7, 10_000, 0))

    found = accounts(shop)

    assert found == {"gross_sales": 10_000, "returns": -10_000}
    assert net_sales(found) == 0


def test_additional_fees_are_not_net_sales(shop: Engine) -> None:
    sell(shop, line(10, 10_000), additional_fees_cents=900)
    give_back(shop, 400, additional_fees_cents=400, adjustment_cents=0)

    assert accounts(shop) == {"gross_sales": 10_000, "additional_fees": 500}
    assert shown(shop)["Additional fees of shipping abroad (not revenue)"] == "5.00"


def test_a_refunded_tip_is_no_return(shop: Engine) -> None:
    sell(shop, line(10, 10_000), line(12, 1500, is_tip=True), tip_cents=1500)
    give_back(shop, 11_500, (10, 1, 10_000, 0), (12, 1, 1500, 0), tip_cents=1500)

    assert accounts(shop) == {"gross_sales": 10_000, "returns": -10_000}


def test_adjustment_is_shopifys_amount_with_tax_shared_as_in_the_sale(shop: Engine) -> None:
    sell(shop)
    give_back(shop, 3000, adjustment_cents=-2000, adjustment_tax_cents=-120, unexplained_cents=880)

    assert accounts(shop) == {
        "gross_sales": 10_000, "refund_adjustments": -2880, "tax:CA-BC:GST": 450, "tax:CA-BC:PST": 630,
    }  # fmt: skip


def test_a_deposit_that_is_given_back_with_the_lines_is_no_revenue(shop: Engine) -> None:
    sell(shop, financial_status="refunded", cancelled_at=at(20))
    give_back(shop, 4000, (10, 1, 10_000, 1200))

    assert accounts(shop) == {"gross_sales": 10_000, "returns": -10_000}


def test_pieces_that_an_edit_removed_were_never_sold(shop: Engine) -> None:
    removed = line(10, 5000, gst_pst(450, 630), quantity=2, discount_cents=1000, current_quantity=1)
    removed_line = line(11, 700, gst_pst(35, 49), current_quantity=0)
    refunded = line(12, 700, gst_pst(35, 49), current_quantity=0, refunded_quantity=1)
    sell(shop, removed, removed_line, refunded)

    assert accounts(shop) == {
        "gross_sales": 5700, "discounts": -500, "tax:CA-BC:GST": 260, "tax:CA-BC:PST": 364,
    }  # fmt: skip
    assert {(cost.sku, cost.pieces) for cost in figures(shop).costs} == {("MUG", 2)}


def test_unknown_fees_are_incomplete_and_never_zero(shop: Engine) -> None:
    charge = {"shop_id": 1, "kind": "charge", "status": "paid", "amount_cents": 5000, "currency": "CAD",
              "occurred_at": at(8), "version_at": at(8)}  # fmt: skip
    with transaction(shop) as tx:
        insert(tx, "transactions", provider_id="ch_1", **charge)
        insert(tx, "transactions", provider_id="ch_2", **(charge | {"status": "failed"}))

    assert shown(shop)["Payment fees (Stripe): INCOMPLETE"] == "INCOMPLETE"
    assert "Payment fees (Stripe)" not in shown(shop)
    assert any(note.startswith("INCOMPLETE: the fee of 1 payment ") for note in statement(shop).notes)

    with transaction(shop) as tx:
        insert(tx, "transactions", provider_id="ch_3", fee_cents=175, **charge)
    assert shown(shop)["Payment fees (Stripe): INCOMPLETE"] == "-1.75"
    assert "Profit after payments: INCOMPLETE" in shown(shop)

    with transaction(shop) as tx:
        insert(tx, "balance_entries", shop_id=1, entry_id="txn_1", kind="charge", source_id="ch_1",
               amount_cents=5000, fee_cents=0, net_cents=5000, currency="CAD", created_at=at(8))  # fmt: skip
    assert shown(shop)["Payment fees (Stripe)"] == "-1.75"


def test_a_dispute_lost_in_a_foreign_currency_costs_what_left_the_balance(shop: Engine) -> None:
    dispute = {"shop_id": 1, "kind": "dispute", "status": "lost", "amount_cents": 7000, "currency": "USD",
               "occurred_at": at(8), "version_at": at(8)}  # fmt: skip
    with transaction(shop) as tx:
        insert(tx, "transactions", provider_id="dp_1", **dispute)
        insert(tx, "transactions", provider_id="dp_2", **dispute)
        insert(tx, "balance_entries", shop_id=1, entry_id="txn_1", kind="adjustment", source_id="dp_1",
               amount_cents=-9800, fee_cents=1500, net_cents=-11_300, currency="CAD",
               created_at=at(9))  # fmt: skip

    assert accounts(shop) == {"disputes_lost": -9800, "payment_fees": -1500}
    assert accounts(shop, currency="USD") == {"disputes_lost": -7000}


def test_four_weekly_digests_add_up_to_their_month(shop: Engine) -> None:
    """February 2027 begins on a Monday and has 28 days."""
    odd: list[dict[str, Any]] = [
        {}, {"financial_status": "pending"}, {"financial_status": "voided"}, {"is_test": True},
        {"taxes_included": True, "shipping_cents": 1120, "discount_cents": 120}, {"tip_cents": 500},
        {"financial_status": "partially_paid"}, {"financial_status": "refunded"},
    ]  # fmt: skip
    with transaction(shop) as tx:
        for number in range(1, 29):
            placed = datetime(2027, 2, number, 23, 59, tzinfo=ZONE)
            card = line(number * 10 + 1, 2500, is_gift_card=True)
            physical = line(
                number * 10, 3333, gst_pst(155, 217), quantity=3, discount_cents=101, current_quantity=2
            )
            add_order(tx, number, placed, [physical, card], **odd[number % len(odd)])
            lines = [] if number % 3 else [(number * 10, 1, 3299, 123)]
            add_refund(tx, number, number, placed.astimezone(UTC), 4000, lines, unexplained_cents=number * 7,
                       shipping_cents=60, shipping_tax_cents=7)  # fmt: skip
        tx.exec_driver_sql("update shop_config set owner_email = ''")

    month = figures(shop, "2027-02").accounts["CAD"]
    stats = []
    for week in range(5, 9):
        run = JobRun(id=1, job="weekly-owner-digest", shop_id=1, period=f"2027-W{week:02}",
                     covers=Covers.WEEK, zone=ZONE, request_id="r", work_id=1)  # fmt: skip
        stats.append(record_owner_digest(run).stats)

    assert all(one["net_CAD_cents"] and one["unpaid_CAD_cents"] for one in stats)
    unpaid = sum(int(one["unpaid_CAD_cents"]) for one in stats)
    assert unpaid == month["unpaid_sales"]
    assert sum(int(one["net_CAD_cents"]) for one in stats) + unpaid == net_sales(month)


@pytest.mark.parametrize(
    ("orders_since", "days"),
    [
        (datetime(2026, 10, 12, 20, tzinfo=UTC), 12),
        (datetime(2026, 11, 20, tzinfo=UTC), 31),
        (datetime(2026, 9, 20, tzinfo=UTC), 0),
    ],
)
def test_month_whose_orders_were_not_all_read_is_incomplete(
    shop: Engine, orders_since: datetime, days: int
) -> None:
    with transaction(shop) as tx:
        update_state(tx, 1, scopes=["read_orders"], orders_since=orders_since)

    assert figures(shop).counts.get(UNREAD_DAYS, 0) == days
    notes = [note for note in statement(shop).notes if "were not read from Shopify" in note]
    assert notes == [one for one in statement(shop).notes if f"the first {days} days" in one]
    assert len(notes) == (1 if days else 0)
