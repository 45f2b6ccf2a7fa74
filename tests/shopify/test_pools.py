"""Several shops share one stock pool: its figure changes only by reports of Shopify."""

import random
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import Level
from services.shopify.stock.pool_links import set_buffer
from services.shopify.stock.pool_store import record_own_changes
from services.shopify.stock.push_item import LevelPush
from tests.shopify.pool_world import POOL, WHO, World, fresh
from tests.shopify.sample_payloads import LOCATION, NOW, ingest, item, line, order, rows

FAULTS = ("answer lost", "not sent", "throttled", "read")
INCIDENTS = "select status, summary from incidents where rule = 'stock_oversold'"


def test_sale_in_one_shop_is_pushed_to_the_others_once_and_its_echo_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)

    world.sell(1, "MUG", 3)
    world.settle()

    assert world.figures() == {"CUP": 10, "MUG": 7}
    assert world.is_held({"CUP": 10, "MUG": 7})
    assert {shop_id: len(shop.writes) for shop_id, shop in world.shops.items()} == {1: 0, 2: 1, 3: 1}


def test_order_moves_no_pool_and_explains_what_moved_it(engine: Engine) -> None:
    world = fresh(engine, 10)
    sold = line(sku="MUG", quantity=3) | {"variant_id": world.place(1, "MUG").inventory_item_id + 500}
    ingest(engine, ingest_orders, order(1, lines=[sold], created_at=world.now.isoformat()))

    assert world.figures()["MUG"] == 10
    world.sell(1, "MUG", 3)
    world.settle()

    ((summary,),) = rows(
        engine,
        "select m ->> 'summary' from audit_events, jsonb_array_elements(mutations::jsonb) m "
        "where m ->> 'table_name' = 'stock_pool_items' and m ->> 'summary' like '%->%'",
    )
    assert summary == "pool mugs: MUG 10 -> 7, as Shopify changed 10 -> 7 at location 77; order #911"


def test_restock_reaches_the_other_shops(engine: Engine) -> None:
    world = fresh(engine, 10)

    world.sell(2, "CUP", -5)
    world.settle()

    assert world.is_held({"CUP": 15, "MUG": 10})
    assert world.count_writes() == 2


def test_echo_that_arrives_before_the_answer_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    world.is_prompt = True

    world.sell(1, "MUG", 1)
    world.settle()

    assert world.figures()["MUG"] == 9
    assert world.is_held({"CUP": 10, "MUG": 9})
    assert world.count_writes() == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_failed_call_keeps_the_pool_right(engine: Engine, fault: str) -> None:
    world = fresh(engine, 10)
    world.shops[2].faults = [fault]

    world.sell(1, "MUG", 1)
    world.settle()
    world.sell(2, "MUG", 2)
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 10, "MUG": 7})
    assert world.count_writes() == 4


@pytest.mark.parametrize("is_done", [True, False])
def test_push_that_was_given_up_counts_as_done_if_shopify_holds_its_figure(
    engine: Engine, is_done: bool
) -> None:
    world = fresh(engine, 10)
    world.shops[2].faults = ["answer lost" if is_done else "not sent"]
    world.sell(1, "MUG", 4)
    world.deliver(world.shops[1])
    world.push()
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update work_queue set status = 'discarded', finished_at = now() where status = 'error'"
        )

    world.sell(3, "MUG", 1)
    world.settle()

    assert world.figures()["MUG"] == 5
    assert world.is_held({"CUP": 10, "MUG": 5})


def test_buffer_is_kept_from_sale_in_every_shop(engine: Engine) -> None:
    world = fresh(engine, 10)
    with transaction(engine) as tx:
        set_buffer(tx, POOL, 3, NOW, **WHO)
    world.settle()
    assert world.is_held({"CUP": 7, "MUG": 7})

    world.sell(1, "MUG", 6)
    world.settle()
    assert (world.figures()["MUG"], world.held()[2]["MUG"]) == (4, 1)

    world.sell(2, "MUG", 1)
    world.settle()
    assert (world.figures()["MUG"], world.held()[1]["MUG"]) == (3, 0)


def test_oversell_is_one_incident_that_names_both_orders_and_ends_with_a_restock(engine: Engine) -> None:
    world = fresh(engine, 1)
    for shop_id in (1, 2):
        item_id = world.place(shop_id, "MUG").inventory_item_id
        sold = line(7_000 + shop_id, "MUG") | {"variant_id": item_id + 500}
        placed = order(1, number=shop_id, lines=[sold], created_at=world.now.isoformat(), name=f"#{shop_id}0")
        world.sell(shop_id, "MUG", 1)
        if shop_id == 1:
            ingest(engine, ingest_orders, placed)
    world.settle()
    assert world.figures()["MUG"] == -1
    ((_, summary),) = rows(engine, INCIDENTS)
    assert "order #10 of shop1; no order of shop2 is recorded yet" in summary

    ingest(engine, ingest_orders, placed._replace(shop_id=2))
    ((status, summary),) = rows(engine, INCIDENTS)
    assert status == "open"
    assert "by 1 piece. Last sales: order #10 of shop1; order #20 of shop2." in summary
    writes = world.count_writes()

    world.sell(1, "MUG", -5)
    world.settle()
    assert [status for status, _ in rows(engine, INCIDENTS)] == ["resolved"]
    assert world.is_held({"CUP": 1, "MUG": 4})
    assert world.count_writes() - writes == 3, (
        "one piece is missing, so the shop of the restock has one less too"
    )


def test_shop_that_sold_beyond_its_own_stock_is_not_pushed_to_zero(engine: Engine) -> None:
    world = fresh(engine, 1)

    world.sell(1, "MUG", 2)
    world.settle()

    assert world.figures()["MUG"] == -1
    assert [world.held()[shop_id]["MUG"] for shop_id in (1, 2, 3)] == [-1, 0, 0]
    assert world.shops[1].writes == []


def test_reconnected_level_moves_no_pool(engine: Engine) -> None:
    world = fresh(engine, 10)
    shop, place = world.shops[2], world.place(2, "MUG")
    body = {"inventory_item_id": place.inventory_item_id, "location_id": place.location_id}
    off = item("inventory_level_ingest", body, shop_id=2, event_topic="inventory_levels/disconnect")
    ingest(engine, ingest_inventory_levels, off._replace(received_at=world.now))
    world.wait(60)
    world.sell(1, "MUG", 1)
    world.settle()
    assert shop.writes == []

    shop.change(place, 0)
    world.settle()

    assert world.figures()["MUG"] == 9
    assert world.is_held({"CUP": 10, "MUG": 9})


def test_sale_right_after_a_push_counts_though_the_answer_is_dated_later(engine: Engine) -> None:
    """Shopify's times of the call and of the level differ by a second."""
    world = fresh(engine, 10)
    world.answers_ahead = timedelta(seconds=1)
    world.sell(1, "MUG", 1)
    world.deliver(world.shops[1])
    world.push()
    world.shops[2].webhooks.clear()

    world.sell(2, "MUG", 2)
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 10, "MUG": 7})


def test_reading_is_repeated_if_a_call_became_unknown_during_it(engine: Engine) -> None:
    world = fresh(engine, 10)
    for _ in range(2):
        world.sell(2, "MUG", 1)
        world.deliver(world.shops[2])
    assert rows(engine, "select shop_id, doubts from inventory_levels where doubts > 0") == [(2, 1)]
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from work_queue where shop_id <> 2")

    def sell_more() -> None:
        world.sell(2, "MUG", 1)
        world.deliver(world.shops[2])

    world.during = [sell_more]
    world.push()
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 10, "MUG": 7})


def test_reading_corrects_a_webhook_processed_during_a_call(engine: Engine) -> None:
    """It was processed before the intent of the call was committed: a sale and a restock before the call."""
    world = fresh(engine, 10)
    shop, place, level = world.shops[2], world.place(2, "MUG"), Level(2, 2001, LOCATION, "MUG")
    for pieces in (1, -1):
        world.sell(2, "MUG", pieces)
        world.wait(10)
    sold, restocked = shop.webhooks
    ingest(engine, ingest_inventory_levels, sold)
    shop.change(place, 8)
    work = item("inventory_push", b"{}")
    with transaction(engine) as tx:
        call = LevelPush(work, level, 8, 10, 10, changed_at=world.now.replace(microsecond=0))
        record_own_changes(tx, [call], NOW)
    assert rows(
        engine, "select shopify_available, doubts from inventory_levels where shop_id = 2 and sku = 'MUG'"
    ) == [(7, 1)]

    ingest(engine, ingest_inventory_levels, restocked)
    world.settle()

    assert world.figures()["MUG"] == 10
    assert world.is_held({"CUP": 10, "MUG": 10})


@pytest.mark.parametrize("seed", range(12))
def test_any_history_ends_with_every_shop_at_the_pools_figure(engine: Engine, seed: int) -> None:
    """Sales, restocks and edits in three shops, webhooks lost, shuffled and twice, calls that fail."""
    rng = random.Random(seed)
    world: World = fresh(engine, 60, rng)
    world.is_busy = True
    for _ in range(40):
        world.wait(rng.choice((0, 0.3, 2, 5, 30)))
        step = rng.random()
        if step < 0.4:
            world.sell_any()
        elif step < 0.6:
            world.deliver(rng.choice(list(world.shops.values())), lost=0.2)
        elif step < 0.7:
            world.shops[rng.choice((1, 2, 3))].faults.append(rng.choice(FAULTS))
        else:
            world.push()
    world.is_busy = False
    world.wait(30)
    world.settle()
    world.heal()
    world.settle()

    assert world.figures() == world.model
    assert world.is_held(world.model)
    assert world.count_writes() <= 2 * world.changes
