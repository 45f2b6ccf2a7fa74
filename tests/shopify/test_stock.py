"""Stock: what was observed plus what moved since, whatever the order in which events come."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.claim import claim_leased
from services.ledger.topics import TOPICS
from services.ledger.work import WorkItem
from services.shopify.logistics.fulfillment_orders import ingest_fulfillment_orders
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOW,
    ORDER,
    SHOP,
    Ingest,
    add_shop,
    at,
    count_levels,
    forget_work,
    ingest,
    item,
    level,
    line,
    order,
    product,
    refund,
    rows,
    verdicts,
)

LEVELS = "select location_id, sku, available, shopify_available from inventory_levels order by 1"
PUSHES = "select key, status, payload from work_queue where topic = 'inventory_push' order by id"
KEY = f"{ITEM}:{LOCATION}"


@pytest.fixture
def shelf(engine: Engine) -> Engine:
    """A shop that owns its figures, with ten mugs counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    forget_work(engine)
    return engine


def test_order_after_the_observation_lowers_the_level_and_plans_one_push(shelf: Engine) -> None:
    effects = ingest(shelf, ingest_orders, sold := order(lines=[line(quantity=3)]))

    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 7, 10)]
    assert rows(shelf, PUSHES) == [(KEY, "pending", {})]
    assert [(new.event_id, new.request_id) for new in effects.new_work] == [(sold.event_id, sold.request_id)]


def test_observation_that_holds_the_order_already_counts_it_once(shelf: Engine) -> None:
    ingest(shelf, ingest_inventory_levels, level(7, 1))
    effects = ingest(shelf, ingest_orders, order(lines=[line(quantity=3)]))

    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 7, 7)]
    assert effects.new_work == []


def test_level_that_shopify_owns_is_what_shopify_reported_whatever_is_sold_and_returned(
    engine: Engine,
) -> None:
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_refunds, refund(quantity=1))
    assert rows(engine, LEVELS) == [(LOCATION, "MUG", 10, 10)]

    ingest(engine, ingest_inventory_levels, level(8, 31))

    assert rows(engine, LEVELS) == [(LOCATION, "MUG", 8, 8)]
    assert rows(engine, "select sum(delta) from stock_movements") == [(-2,)]
    assert rows(engine, PUSHES) == []


def test_observation_in_step_with_ours_plans_no_push(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order(lines=[line(quantity=3)]))
    effects = ingest(shelf, ingest_inventory_levels, level(7, 1))

    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 7, 7)]
    assert effects.new_work == []


def test_second_change_relies_on_the_push_that_waits(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order())
    ingest(shelf, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 8, 10)]
    assert len(rows(shelf, PUSHES)) == 1


@pytest.mark.parametrize(
    "touched",
    [
        "locked_at = now(), locked_by = 'w'",
        "retry_count = 1, status = 'error'",
        "status = 'done'",
        "payload = '{\"quantity\": 9}'",
    ],
)
def test_push_that_somebody_began_cannot_stand_in_for_a_new_one(shelf: Engine, touched: str) -> None:
    ingest(shelf, ingest_orders, order())
    with transaction(shelf) as tx:
        tx.exec_driver_sql(f"update work_queue set {touched}")  # noqa: S608

    ingest(shelf, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert len(rows(shelf, PUSHES)) == 2


def test_push_that_is_being_claimed_at_this_moment_is_not_relied_on(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order())
    with transaction(shelf) as claiming:
        claimed = claim_leased(claiming, TOPICS["inventory_push"], NOW + timedelta(minutes=1), "w")
        assert len(claimed.items) == 1

        effects = ingest(shelf, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert len(effects.new_work) == 1


def test_push_that_is_relied_on_cannot_be_claimed_before_the_change_is_seen(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order())
    with transaction(shelf) as changing:
        ingest_orders(changing, [order(number=ORDER + 50, lines=[line(ORDER + 51)])], NOW)
        with transaction(shelf) as claiming:
            early = claim_leased(claiming, TOPICS["inventory_push"], NOW + timedelta(minutes=1), "w")

    assert early.items == []


def test_older_observation_is_stale(shelf: Engine) -> None:
    effects = ingest(shelf, ingest_inventory_levels, level(9, -2), level(12, 5), level(12, 5), level(11, 4))

    assert verdicts(effects) == ["stale", "done", "done", "stale"]
    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 10, 12)]


def test_item_that_shopify_does_not_count_is_untracked(shelf: Engine) -> None:
    assert verdicts(ingest(shelf, ingest_inventory_levels, level(None, 5))) == ["not_tracked"]


@pytest.mark.parametrize("field", ["inventory_item_id", "location_id", "updated_at"])
def test_level_that_lacks_a_field_is_refused_alone(shelf: Engine, field: str) -> None:
    import orjson

    from tests.shopify.sample_payloads import item

    body = orjson.loads(level(1, 5).body)
    del body[field]
    effects = ingest(shelf, ingest_inventory_levels, item("inventory_level_ingest", body), level(4, 5))

    assert verdicts(effects) == ["shopify.unreadable_inventory_level", "done"]


def test_level_known_before_its_variant_counts_orders_once_the_sku_is_known(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    ingest(engine, ingest_orders, order())
    assert rows(engine, LEVELS) == [(LOCATION, "", 10, 10)]
    forget_work(engine)

    effects = ingest(engine, ingest_products, product())

    assert rows(engine, LEVELS) == [(LOCATION, "MUG", 9, 10)]
    assert [new.key for new in effects.new_work] == [KEY]


def test_variant_that_loses_its_sku_gives_back_what_was_counted(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order())
    ingest(shelf, ingest_products, product(None, 1))

    assert rows(shelf, LEVELS) == [(LOCATION, "", 10, 10)]
    assert verdicts(ingest(shelf, ingest_products, product("MUG", 0))) == ["stale"]


def test_sale_over_the_counter_counts_at_its_own_location(shelf: Engine) -> None:
    ingest(shelf, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(shelf)

    ingest(shelf, ingest_orders, order(location_id=LOCATION + 1))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 4]


def test_sale_without_a_location_counts_where_its_item_alone_is_stocked_else_nowhere(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order())
    assert [row[2] for row in rows(shelf, LEVELS)] == [9]

    ingest(shelf, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 5]


def test_online_sale_counts_where_its_fulfilment_order_is_assigned(shelf: Engine) -> None:
    ingest(shelf, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(shelf)
    ingest(shelf, ingest_orders, order())
    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 5]
    forget_work(shelf)

    effects = ingest(shelf, ingest_fulfillment_orders, routed(LOCATION + 1))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 4]
    assert [new.key for new in effects.new_work] == [f"{ITEM}:{LOCATION + 1}"]
    assert f"stock of MUG at location {LOCATION + 1} 5 -> 4" in effects.audit[0].mutations[-1].summary


def test_sale_that_fulfilment_orders_divide_over_locations_counts_nowhere(shelf: Engine) -> None:
    ingest(shelf, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(shelf)
    ingest(shelf, ingest_orders, order())

    ingest(shelf, ingest_fulfillment_orders, routed(LOCATION + 1), routed(LOCATION, 2))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 5]


def test_restock_counts_at_the_location_of_its_refund(shelf: Engine) -> None:
    ingest(shelf, ingest_inventory_levels, level(5, -1, location=LOCATION + 1))
    count_levels(shelf)
    ingest(shelf, ingest_orders, order(location_id=LOCATION + 1, lines=[line(quantity=3)]))

    ingest(shelf, ingest_refunds, refund())

    assert [row[2] for row in rows(shelf, LEVELS)] == [11, 2]


def test_line_counts_for_the_item_of_its_variant_where_several_have_its_sku(shelf: Engine) -> None:
    twin = product(number=ITEM + 1, variant=6)
    ingest(shelf, ingest_products, twin)
    ingest(shelf, ingest_inventory_levels, level(20, -1, number=ITEM + 1))
    count_levels(shelf)

    ingest(shelf, ingest_orders, order(lines=[line(quantity=3) | {"variant_id": 6}]))

    by_item = "select inventory_item_id, available from inventory_levels order by 1"
    assert rows(shelf, by_item) == [(ITEM, 10), (ITEM + 1, 17)]


def test_line_without_a_variant_counts_for_no_item_where_several_have_its_sku(shelf: Engine) -> None:
    ingest(shelf, ingest_products, product(number=ITEM + 1, variant=6))
    ingest(shelf, ingest_inventory_levels, level(20, -1, number=ITEM + 1))
    count_levels(shelf)

    ingest(shelf, ingest_orders, order(lines=[line(quantity=3)]))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10, 20]


def test_level_has_the_sku_that_only_its_inventory_item_states(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_inventory_items, stock_item("CUP", -5))
    ingest(engine, ingest_inventory_levels, level(10, -1))
    assert rows(engine, LEVELS) == [(LOCATION, "CUP", 10, 10)]

    ingest(engine, ingest_inventory_items, stock_item("PLATE", 5))

    assert rows(engine, LEVELS) == [(LOCATION, "PLATE", 10, 10)]


def routed(location: int, number: int = 1, order_id: int = ORDER) -> WorkItem:
    """A fulfilment order of the order, assigned to ``location``."""
    one = {
        "id": f"gid://shopify/FulfillmentOrder/{number}", "order_id": order_id, "status": "open",
        "assigned_location_id": location,
    }  # fmt: skip
    topic = "fulfillment_orders/order_routing_complete"
    return item("fulfillment_order_ingest", {"fulfillment_order": one}, event_topic=topic)


def stock_item(sku: str, minutes: float) -> WorkItem:
    body = {"id": ITEM, "sku": sku, "tracked": True, "cost": None, "updated_at": at(minutes)}
    return item("inventory_item_ingest", body, event_topic="inventory_items/update")


def test_edited_quantity_replaces_what_the_line_took(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order(1, lines=[line(quantity=1)]))
    ingest(shelf, ingest_orders, order(2, lines=[line(quantity=4)]))

    assert [row[2] for row in rows(shelf, LEVELS)] == [6]


def test_cancelling_moves_no_stock_and_its_refund_brings_it_back(shelf: Engine) -> None:
    ingest(shelf, ingest_orders, order(1))
    ingest(shelf, ingest_orders, order(2, cancelled_at="2026-11-20T20:02:00Z", financial_status="voided"))
    assert [row[2] for row in rows(shelf, LEVELS)] == [9]

    ingest(shelf, ingest_refunds, refund(restock="cancel"))

    assert [row[2] for row in rows(shelf, LEVELS)] == [10]


# The day of one order, in nine events, after the levels were counted half an hour before it.
STORY: tuple[tuple[Ingest, Callable[[], WorkItem]], ...] = (
    (ingest_products, lambda: product("CUP", -90)),
    (ingest_products, lambda: product("MUG", -60)),
    (ingest_inventory_levels, lambda: level(19, 5)),
    (ingest_orders, lambda: order(0, financial_status="pending", location_id=LOCATION)),
    (ingest_orders, lambda: order(0, location_id=LOCATION)),
    (
        ingest_orders,
        lambda: order(
            20, lines=[line(quantity=2), line(ORDER + 2, "CUP")], total_price="37.5", location_id=LOCATION
        ),
    ),
    (
        ingest_orders,
        lambda: order(10, number=ORDER + 50, lines=[line(ORDER + 51, quantity=3)], created_at=_T10),
    ),
    (ingest_fulfillment_orders, lambda: routed(LOCATION)),
    (ingest_refunds, lambda: refund(30, amount="5.00", restock="no_restock")),
    (ingest_refunds, lambda: refund(40, refund_id=ORDER + 600, amount="7.50")),
)
_T10 = "2026-11-20T12:10:00-08:00"

STATE = (
    LEVELS,
    "select location_id, observed_available, observed_at from inventory_levels order by 1",
    "select order_gid, total_cents, refunded_cents, financial_status, updated_at from orders order by 1",
    "select line_id, sku, quantity, refunded_quantity, price_cents from order_lines order by 1",
    "select refund_id, order_gid, amount_cents from order_refunds order by 1",
    "select source, sku, delta, at from stock_movements order by 1",
    "select inventory_item_id, sku, updated_at from variants",
)


def _tell(engine: Engine, told: list[tuple[Ingest, WorkItem]]) -> list[list[tuple[object, ...]]]:
    tables = "orders order_lines order_refunds order_refund_lines inventory_levels stock_movements variants"
    with transaction(engine) as tx:
        for table in [*tables.split(), "fulfillment_orders", "work_queue"]:
            tx.exec_driver_sql(f"delete from {table}")  # noqa: S608
    ingest(engine, ingest_inventory_levels, level(20, -30), level(8, -30, location=LOCATION + 1))
    count_levels(engine)
    for effect, event in told:
        ingest(engine, effect, event)
    return [rows(engine, query) for query in STATE]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(range(len(STORY))), max_size=6), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_a_day_ends_in_the_same_state(
    engine: Engine, again: list[int], rng: object
) -> None:
    events = [(effect, make()) for effect, make in STORY]
    told = events + [events[place] for place in again]
    if not rows(engine, "select id from shops"):
        add_shop(engine)
    expected = _tell(engine, events)

    rng.shuffle(told)  # type: ignore[attr-defined]
    state = _tell(engine, told)

    assert state == expected
    # 20 counted, two sold over the counter, three online of an unknown location, one back.
    assert [row[:3] for row in state[0]] == [(LOCATION, "MUG", 19), (LOCATION + 1, "MUG", 8)]
    differs = [row for row in state[0] if row[2] != row[3]]
    waiting = rows(engine, "select key from work_queue where topic = 'inventory_push' and status = 'pending'")
    assert {f"{ITEM}:{row[0]}" for row in differs} <= {row[0] for row in waiting}


def test_refund_before_its_order_is_counted_when_the_order_comes(engine: Engine) -> None:
    add_shop(engine)
    assert verdicts(ingest(engine, ingest_refunds, refund(), refund())) == ["done", "done"]

    ingest(engine, ingest_orders, order())

    assert rows(engine, "select refunded_cents from orders") == [(1250,)]
    assert rows(engine, "select refunded_quantity from order_lines") == [(1,)]


def test_refund_without_money_and_without_currency_is_counted_in_the_shops_own(engine: Engine) -> None:
    assert add_shop(engine) == SHOP
    ingest(engine, ingest_orders, order())
    ingest(engine, ingest_refunds, refund(transactions=[]))

    assert rows(engine, "select amount_cents, currency from order_refunds") == [(0, "CAD")]


def test_refund_that_names_no_currency_for_its_money_is_refused(engine: Engine) -> None:
    paid = [{"kind": "refund", "status": "success", "amount": "1.00", "currency": None}]

    effects = ingest(engine, ingest_refunds, refund(transactions=paid), refund())

    assert verdicts(effects) == ["shopify.unreadable_refund", "done"]


def test_refund_told_again_once_its_money_moved_counts_the_money(engine: Engine) -> None:
    add_shop(engine)
    ingest(engine, ingest_orders, order())
    pending = [{"kind": "refund", "status": "pending", "amount": "12.50", "currency": "CAD"}]
    ingest(engine, ingest_refunds, refund(transactions=pending))
    assert rows(engine, "select refunded_cents from orders") == [(0,)]

    ingest(engine, ingest_refunds, refund())
    ingest(engine, ingest_refunds, refund(transactions=pending))

    assert rows(engine, "select refunded_cents from orders") == [(1250,)]


def test_level_that_takes_another_sku_leaves_what_moved_to_the_other_item_of_the_sku(shelf: Engine) -> None:
    ingest(shelf, ingest_products, product(number=ITEM + 1, variant=6))
    ingest(shelf, ingest_inventory_levels, level(5, -1, number=ITEM + 1, location=LOCATION + 1))
    count_levels(shelf)
    ingest(shelf, ingest_orders, order(lines=[line(quantity=3)]))
    assert rows(shelf, LEVELS) == [(LOCATION, "MUG", 10, 10), (LOCATION + 1, "MUG", 5, 5)]

    ingest(shelf, ingest_products, product("CUP", 1))

    assert rows(shelf, LEVELS) == [(LOCATION, "CUP", 10, 10), (LOCATION + 1, "MUG", 2, 5)]
