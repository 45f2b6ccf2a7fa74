"""Invalid fields of an order are recorded by rule and noted; amounts that are no sale are separate."""

from typing import Any

import pytest
from sqlalchemy import Engine

from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from tests.shopify.sample_payloads import (
    ORDER,
    add_shop,
    at,
    ingest,
    line,
    order,
    outcome_codes,
    refund,
    rows,
)

GST = {"title": "GST", "price": "5.00", "rate": 0.05}
PST = {"title": "PST", "price": "7.00", "rate": 0.07}
BC = {"country_code": "CA", "province_code": "BC"}
AB = {"country_code": "CA", "province_code": "AB"}
DOUBTS = "select order_gid, doubts from order_notices"
SHOP_MONEY = {"shop_money": {"amount": "20.00", "currency_code": "CAD"}}


def taxed(*taxes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a line of 100.00 with taxes."""
    return line(price="100.00") | {"tax_lines": list(taxes)} | fields


@pytest.mark.parametrize(
    ("fields", "columns", "stored", "doubts"),
    [
        (
            {"line_items": [line() | {"discount_allocations": [{"amount": "3.335"}]}]},
            "discount_cents", [(334,)],
            "line_items[0].discount_allocations[0].amount is '3.335': 3.34 CAD is recorded",
        ),
        (
            {"line_items": [line(price=12.5)]}, "price_cents", [(1250,)],  # type: ignore[arg-type]
            "line_items[0].price is '12.5': 12.50 CAD is recorded",
        ),
        (
            {"line_items": [taxed(GST | {"price": None})]}, "taxes -> 0 -> 'cents'", [(0,)],
            "line_items[0].tax_lines[0].price is null: nothing is recorded",
        ),
        (
            {"line_items": [taxed(GST | {"price": None, "price_set": SHOP_MONEY})]}, "taxes -> 0 -> 'cents'",
            [(2000,)], "line_items[0].tax_lines[0].price is null: its price_set is recorded",
        ),
        (
            {"line_items": [taxed(GST), taxed(GST, PST) | {"price": "90.00"}]},
            "quantity, price_cents * quantity - discount_cents, taxes -> 0 -> 'cents'", [(2, 19000, 1000)],
            "line_items[1].id is also that of another line: they are recorded as one",
        ),
    ],
)  # fmt: skip
def test_an_odd_field_loses_no_order_and_is_noted(
    engine: Engine, fields: dict[str, Any], columns: str, stored: list[Any], doubts: str
) -> None:
    add_shop(engine)

    other = order(number=ORDER + 50, lines=[line(ORDER + 51)])

    assert outcome_codes(ingest(engine, ingest_orders, order(**fields), other)) == ["done", "done"]

    line_of = f"select {columns} from order_lines where order_gid like '%{ORDER}'"  # noqa: S608
    assert rows(engine, line_of) == stored
    assert rows(engine, DOUBTS) == [(f"gid://shopify/Order/{ORDER}", doubts)]


def test_rates_in_percent_are_shares_and_the_channels_taxes_are_marked(engine: Engine) -> None:
    percent = [GST | {"rate": 5.0}, PST | {"rate": 7.000000000000001, "channel_liable": True}]
    ingest(engine, ingest_orders, order(lines=[taxed(*percent)]))

    assert rows(engine, "select taxes from order_lines") == [
        ([{"title": "GST", "rate": "0.05", "cents": 500},
          {"title": "PST", "rate": "0.07", "cents": 700, "liable": True}],)
    ]  # fmt: skip


def test_a_tax_of_the_whole_order_is_split_over_what_bears_it(engine: Engine) -> None:
    sold = [line(ORDER + n, price=price) for n, price in ((1, "33.33"), (2, "66.67"))]
    gift = line(ORDER + 3, price="50.00") | {"gift_card": True}
    ingest(
        engine, ingest_orders, order(lines=[*sold, gift], tax_lines=[GST]),
        order(number=ORDER + 100, lines=[line(ORDER + 101, price="100.00")],
              tax_lines=[GST | {"price": "6.00"}], total_shipping_price_set=SHOP_MONEY),
    )  # fmt: skip

    shares = "select line_id - :order, (taxes -> 0 ->> 'cents')::int from order_lines order by 1"
    assert rows(engine, shares, order=ORDER) == [(1, 167), (2, 333), (3, None), (101, 500)]
    assert rows(engine, "select shipping_taxes -> 0 -> 'cents' from orders order by order_gid") == [
        (None,), (100,),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "shipping"),
    [
        ({"shipping_lines": [{"price": "10.00", "tax_lines": [GST]}]}, (1000, 500)),
        (
            {"total_shipping_price_set": SHOP_MONEY,
             "shipping_lines": [{"price": "20.00", "tax_lines": [GST], "is_removed": True}]}, (0, None),
        ),
        (
            {"total_shipping_price_set": SHOP_MONEY,
             "shipping_lines": [{"price": "15.00", "is_removed": True}, {"price": "5.00"}]}, (500, None),
        ),
        ({"total_shipping_price_set": SHOP_MONEY, "shipping_lines": [{"price": "25.00"}]}, (2000, None)),
        ({}, (None, None)),
    ],
)  # fmt: skip
def test_shipping_is_the_sum_of_the_lines_that_are_left(
    engine: Engine, fields: dict[str, Any], shipping: Any
) -> None:
    ingest(engine, ingest_orders, order(**fields))

    columns = "select shipping_cents, shipping_taxes -> 0 -> 'cents' from orders"
    assert rows(engine, columns) == [shipping]


@pytest.mark.parametrize(
    ("fields", "province"),
    [
        ({"shipping_address": BC, "billing_address": AB}, "CA-BC"),
        ({"billing_address": AB, "location_id": 9}, ""),
        ({"billing_address": AB, "line_items": [line() | {"requires_shipping": True}]}, ""),
        ({"billing_address": AB, "line_items": [line() | {"requires_shipping": False}]}, "CA-AB"),
        ({"shipping_address": {"country_code": "CA", "province": "British Columbia"}}, "CA-BC"),
        ({"shipping_address": {"country": "Canada", "province": "Qu\xe9bec"}}, "CA-QC"),
        ({"shipping_address": {"country_code": "CA", "province": "on"}}, "CA-ON"),
        ({"shipping_address": {"country_code": "US", "province": "Washington"}}, "US"),
    ],
)
def test_place_of_supply_is_where_the_goods_change_hands(
    engine: Engine, fields: dict[str, Any], province: str
) -> None:
    ingest(engine, ingest_orders, order(**fields))

    assert rows(engine, "select province from orders") == [(province,)]


def test_an_import_counts_on_the_day_of_its_sale_and_of_its_refund(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(processed_at=at(-9000)))
    ingest(engine, ingest_refunds, refund(processed_at=at(-8000)))

    when = "select extract(epoch from r.refunded_at - o.placed_at)::int from orders o join order_refunds r"
    assert rows(engine, f"{when} using (shop_id, order_gid)") == [(60000,)]


def test_tips_duties_rounding_and_exemptions_have_columns_of_their_own(engine: Engine) -> None:
    cents = {"shop_money": {"amount": "-0.02", "currency_code": "CAD"}}
    tip = line(ORDER + 2, sku=None, price="15.00") | {"tip_payment_gateway": "cash"}
    unnamed = line(ORDER + 52, sku=None, price="15.00") | {"title": "Tip"}
    ingest(
        engine, ingest_orders,
        order(lines=[line(), tip], original_total_duties_set=SHOP_MONEY, tax_exempt=True,
              total_cash_rounding_payment_adjustment_set=cents,
              total_cash_rounding_refund_adjustment_set=cents),
        order(number=ORDER + 50, lines=[line(ORDER + 51), unnamed], total_tip_received="15.00",
              customer={"id": 7, "tax_exempt": True}),
        order(number=ORDER + 70, lines=[line(ORDER + 71)], total_tip_received="4.00"),
    )  # fmt: skip

    columns = "tip_cents, duties_cents, rounding_cents, refund_rounding_cents, is_tax_exempt"
    assert rows(engine, f"select {columns} from orders order by order_gid") == [  # noqa: S608
        (1500, 2000, -2, -2, True), (1500, 0, 0, 0, True), (400, 0, 0, 0, False),
    ]  # fmt: skip
    assert rows(engine, "select line_id - :order from order_lines where is_tip order by 1", order=ORDER) == [
        (2,), (52,),
    ]  # fmt: skip


def test_fees_that_an_order_has_no_more_are_the_part_of_its_refund_that_no_field_states(
    engine: Engine,
) -> None:
    add_shop(engine)
    fees = {
        f"{state}_total_additional_fees_set": {"shop_money": {"amount": amount, "currency_code": "CAD"}}
        for state, amount in (("original", "9.00"), ("current", "4.00"))
    }
    ingest(engine, ingest_refunds, refund(amount="20.00", refund_line_items=[], order_adjustments=[]))
    ingest(engine, ingest_orders, order(**fees))

    assert rows(engine, "select additional_fees_cents, current_additional_fees_cents from orders") == [
        (900, 400)
    ]
    assert rows(engine, "select additional_fees_cents, unexplained_cents from order_refunds") == [(500, 1500)]


@pytest.mark.parametrize(
    ("fields", "cents"),
    [
        ({"presentment_currency": "USD"}, -3),
        ({"presentment_currency": "USD", "total_price": "108.97"}, 0),
        ({"presentment_currency": "USD", "total_price": "120.00"}, 0),
        ({"presentment_currency": "CAD"}, 0),
        ({}, 0),
    ],
)
def test_what_rounding_left_between_a_converted_total_and_its_parts_is_stored(
    engine: Engine, fields: dict[str, Any], cents: int
) -> None:
    sold = line(quantity=7, price="14.29") | {
        "tax_lines": [GST | {"price": "5.00"}],
        "total_discount": "1.06",
    }
    shipped = {"total_shipping_price_set": {"shop_money": {"amount": "5.00", "currency_code": "CAD"}}}
    ingest(engine, ingest_orders, order(**{"lines": [sold], "total_price": "108.94"} | shipped | fields))

    assert rows(engine, "select conversion_cents from orders") == [(cents,)]


def test_a_test_order_and_its_refund_leave_stock_alone(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(test=True))
    ingest(engine, ingest_refunds, refund())

    assert rows(engine, "select is_test from orders") == [(True,)]
    assert rows(engine, "select * from stock_movements") == []


def test_row_from_before_the_parts_existed_is_completed_by_the_same_state(engine: Engine) -> None:
    ingest(engine, ingest_orders, order(total_tip_received="4.00"))
    with engine.begin() as tx:
        tx.exec_driver_sql("update orders set tip_cents = 0, content_digest = 'ffffffffffffffff'")

    assert outcome_codes(ingest(engine, ingest_orders, order(total_tip_received="4.00"))) == ["done"]
    assert rows(engine, "select tip_cents from orders") == [(400,)]
