"""Levels, deductions by orders, and the pushes that follow."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.ledger.claim import claim_leased
from services.ledger.topics import TOPICS
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    LOCATION,
    NOW,
    ORDER,
    add_shop,
    clear_work_queue,
    count_levels,
    ingest,
    item,
    level,
    line,
    order,
    outcome_codes,
    product,
    refund,
    rows,
)
from tests.shopify.stock_shop import KEY, LEVELS, PUSHES


@pytest.fixture
def counted_shop(engine: Engine) -> Engine:
    """A shop that owns its figures, with ten mugs counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    clear_work_queue(engine)
    return engine


def test_order_after_the_observation_lowers_the_level_and_plans_one_push(counted_shop: Engine) -> None:
    effects = ingest(counted_shop, ingest_orders, sold := order(lines=[line(quantity=3)]))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 7, 10)]
    assert rows(counted_shop, PUSHES) == [(KEY, "pending", {})]
    assert [(new.event_id, new.request_id) for new in effects.new_work] == [(sold.event_id, sold.request_id)]


def test_observation_that_holds_the_order_already_counts_it_once(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_inventory_levels, level(7, 1))
    effects = ingest(counted_shop, ingest_orders, order(lines=[line(quantity=3)]))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 7, 7)]
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


def test_observation_equal_to_our_figure_plans_no_push(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order(lines=[line(quantity=3)]))
    effects = ingest(counted_shop, ingest_inventory_levels, level(7, 1))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 7, 7)]
    assert effects.new_work == []


def test_second_change_uses_the_waiting_push(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order())
    ingest(counted_shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 8, 10)]
    assert len(rows(counted_shop, PUSHES)) == 1


@pytest.mark.parametrize(
    "touched",
    [
        "locked_at = now(), locked_by = 'w'",
        "retry_count = 1, status = 'error'",
        "status = 'done'",
        "payload = '{\"quantity\": 9}'",
    ],
)
def test_started_push_does_not_replace_a_new_one(counted_shop: Engine, touched: str) -> None:
    ingest(counted_shop, ingest_orders, order())
    with transaction(counted_shop) as tx:
        tx.exec_driver_sql(f"update work_queue set {touched}")  # noqa: S608

    ingest(counted_shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert len(rows(counted_shop, PUSHES)) == 2


def test_push_that_is_being_claimed_is_not_reused(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order())
    with transaction(counted_shop) as claiming:
        claimed = claim_leased(claiming, TOPICS["inventory_push"], NOW + timedelta(minutes=1), "w")
        assert len(claimed.items) == 1

        effects = ingest(counted_shop, ingest_orders, order(number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert len(effects.new_work) == 1


def test_reused_push_cannot_be_claimed_before_the_change_is_visible(counted_shop: Engine) -> None:
    ingest(counted_shop, ingest_orders, order())
    with transaction(counted_shop) as changing:
        ingest_orders(changing, [order(number=ORDER + 50, lines=[line(ORDER + 51)])], NOW)
        with transaction(counted_shop) as claiming:
            early = claim_leased(claiming, TOPICS["inventory_push"], NOW + timedelta(minutes=1), "w")

    assert early.items == []


def test_older_observation_is_stale(counted_shop: Engine) -> None:
    effects = ingest(
        counted_shop, ingest_inventory_levels, level(9, -2), level(12, 5), level(12, 5), level(11, 4)
    )

    assert outcome_codes(effects) == ["stale", "done", "done", "stale"]
    assert rows(counted_shop, LEVELS) == [(LOCATION, "MUG", 10, 12)]


def test_item_that_shopify_does_not_count_is_untracked(counted_shop: Engine) -> None:
    assert outcome_codes(ingest(counted_shop, ingest_inventory_levels, level(None, 5))) == ["not_tracked"]


@pytest.mark.parametrize("field", ["inventory_item_id", "location_id", "updated_at"])
def test_level_that_lacks_a_field_is_refused_alone(counted_shop: Engine, field: str) -> None:
    import orjson

    body = orjson.loads(level(1, 5).body)
    del body[field]
    effects = ingest(counted_shop, ingest_inventory_levels, item("inventory_level_ingest", body), level(4, 5))

    assert outcome_codes(effects) == ["shopify.unreadable_inventory_level", "done"]
