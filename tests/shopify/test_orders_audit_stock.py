"""Audit summaries of stock: each order and refund has its step of a level."""

from sqlalchemy import Engine

from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.audit_texts import MUGS, NAME, changes, summaries
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    add_shop,
    at,
    ingest,
    level,
    line,
    order,
    product,
    refund,
    rows,
)


def test_each_order_of_a_set_has_its_own_step_of_a_level(mugs: Engine) -> None:
    orders = [
        order(number=ORDER + n, name=f"#{n}", lines=[line(ORDER + n + 1, quantity=sold), line(ORDER + n + 2)])
        for n, sold in ((1000, 2), (2000, 1))
    ]

    effects = ingest(mugs, ingest_orders, *orders)

    assert [words[1:] for words in summaries(effects)] == [
        (f"{MUGS} 12 -> 9 by order #1000",),
        (f"{MUGS} 9 -> 7 by order #2000",),
    ]
    steps = [entry.mutations[1] for entry in effects.audit]
    assert {(s.table_name, s.row_id) for s in steps} == {("inventory_levels", f"{ITEM}:{LOCATION}")}
    assert [(s.before, s.after) for s in steps] == [
        ({"available": 12}, {"available": 9}),
        ({"available": 9}, {"available": 7}),
    ]


def test_order_that_took_its_stock_before_has_no_step(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(
        mugs, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)], name="#b"), order(5)
    )

    assert [words[1:] for words in summaries(effects)] == [(f"{MUGS} 11 -> 10 by order #b",), ()]


def test_sale_that_the_observation_contains_is_no_step(mugs: Engine) -> None:
    early = order(number=ORDER + 50, lines=[line(ORDER + 51)], created_at=at(-30))

    effects = ingest(mugs, ingest_orders, early, order())

    assert [words[1:] for words in summaries(effects)] == [(), (f"{MUGS} 12 -> 11 by {NAME}",)]


def test_level_recounted_in_a_set_is_one_step_of_its_last_order(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    sold = order(number=ORDER + 50, lines=[line(ORDER + 51, quantity=2)], name="#b")
    effects = ingest(mugs, ingest_orders, sold, order(5, lines=[line(quantity=4)]))

    assert [words[1:] for words in summaries(effects)] == [(), (f"{MUGS} 11 -> 6 by {NAME}",)]


def test_refund_is_audited_with_its_order_and_its_stock(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(mugs, ingest_refunds, given := refund())

    number = ORDER + 500
    assert summaries(effects) == [
        (
            f"refund {number} of order {ORDER} recorded: 12.50 CAD, 1 line",
            f"{NAME}: refunded 0.00 -> 12.50 CAD",
            f"{MUGS} 11 -> 12 by refund {number}",
        )
    ]
    assert ingest(mugs, ingest_refunds, given, refund()).audit == []


def test_two_refunds_of_an_order_in_a_set_share_its_sum(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=2)], total_price="25.00"))

    effects = ingest(
        mugs, ingest_refunds, refund(amount="5.00"), refund(40, refund_id=ORDER + 600, amount="7.50")
    )

    assert [words[1] for words in summaries(effects)] == [
        f"{NAME}: refunded 0.00 -> 5.00 CAD",
        f"{NAME}: refunded 5.00 -> 12.50 CAD",
    ]


def test_refund_whose_money_moved_later_is_audited_again_and_the_largest_of_a_set_counts(
    mugs: Engine,
) -> None:
    ingest(mugs, ingest_orders, order())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    ingest(mugs, ingest_refunds, refund(transactions=pending))

    effects = ingest(mugs, ingest_refunds, refund(), refund(transactions=pending))

    assert [words[0] for words in summaries(effects)] == [
        f"refund {ORDER + 500} of order {ORDER}: pending -> success, 0.00 -> 12.50 CAD"
    ]
    assert rows(mugs, "select refunded_cents from orders") == [(1250,)]


def test_refund_received_again_with_less_is_not_audited(mugs: Engine) -> None:
    ingest(mugs, ingest_refunds, refund())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]

    assert ingest(mugs, ingest_refunds, refund(transactions=pending)).audit == []


def test_level_of_no_sku_follows_shopifys_count(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(10, -1))

    assert summaries(ingest(engine, ingest_inventory_levels, level(8, 5))) == [
        (f"stock of item {ITEM} at location {LOCATION}: Shopify counted 8 (was 10), 10 -> 8",)
    ]


def test_order_that_comes_after_its_refund_states_the_refunded_sum(mugs: Engine) -> None:
    ingest(mugs, ingest_refunds, refund())

    assert summaries(ingest(mugs, ingest_orders, order()))[0][0].endswith("paid, 1 line, 12.50 CAD refunded")


def test_count_of_shopifys_is_audited_with_the_count_before(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=3)]))

    effects = ingest(mugs, ingest_inventory_levels, level(8, 5))

    assert summaries(effects) == [(f"{MUGS}: Shopify counted 8 (was 12)",)]
    before, after = changes(effects)
    assert {name: (before[name], after[name]) for name in set(before) - {"observed_at"}} == {
        "observed_available": (12, 8),
        "shopify_available": (12, 8),
    }


def test_first_observation_of_a_level_is_recorded_as_it_is(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))

    assert summaries(ingest(engine, ingest_inventory_levels, level(12, -1))) == [(f"{MUGS} recorded: 12",)]


def test_counted_level_that_a_second_location_of_its_item_changes_is_audited(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order(lines=[line(quantity=3)]))

    effects = ingest(mugs, ingest_inventory_levels, level(5, -1, location=LOCATION - 1))

    assert summaries(effects) == [
        (
            f"stock of MUG at location {LOCATION - 1} recorded: 5",
            f"{MUGS} 9 -> 12 by a recount of its item",
        )
    ]


def test_variant_that_takes_another_sku_is_audited_with_its_level(mugs: Engine) -> None:
    ingest(mugs, ingest_orders, order())

    effects = ingest(mugs, ingest_products, product("CUP", 1))

    assert summaries(effects) == [
        (
            "product 4: received again",
            "variant 5: sku MUG -> sku CUP",
            f"stock of item {ITEM} at location {LOCATION}: sku MUG -> CUP, 11 -> 12",
        )
    ]
    assert summaries(ingest(mugs, ingest_products, product("CUP", 2))) == [
        ("product 4: received again", "variant 5: received again, only updated_at changed")
    ]
