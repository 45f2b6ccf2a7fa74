"""A pool's level that leaves the shelf and comes back, and webhooks with odd times, move no pool."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.pool_world import World, fresh
from tests.shopify.sample_payloads import LOCATION, ingest, item


def disconnect(world: World) -> WorkItem:
    """Shop 2 stocks no mugs any more since this moment."""
    body = {"inventory_item_id": world.place(2, "MUG").inventory_item_id, "location_id": LOCATION}
    told = item("inventory_level_ingest", body, shop_id=2, event_topic="inventory_levels/disconnect")
    return told._replace(received_at=world.now)


def connect(world: World) -> WorkItem:
    """Shop 2 stocks mugs again, and none of them yet."""
    world.wait(5)
    world.shops[2].change(world.place(2, "MUG"), 0)
    return world.shops[2].webhooks.pop()


def test_level_that_is_off_and_on_the_shelf_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    ingest(engine, ingest_inventory_levels, disconnect(world))
    world.sell(1, "MUG", 2)
    world.deliver(world.shops[1])
    world.push()
    ingest(engine, ingest_inventory_levels, connect(world))
    world.settle()

    assert world.figures()["MUG"] == 8
    assert world.is_held({"CUP": 10, "MUG": 8})


def test_level_that_is_off_and_on_the_shelf_in_one_set_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    ingest(engine, ingest_inventory_levels, disconnect(world), connect(world))
    world.settle()

    assert world.figures()["MUG"] == 10
    assert world.is_held({"CUP": 10, "MUG": 10})


@pytest.mark.parametrize("is_updated_first", [True, False])
def test_level_that_is_connected_moves_nothing_where_its_disconnection_was_lost(
    engine: Engine, is_updated_first: bool
) -> None:
    world = fresh(engine, 10)
    updated = connect(world)
    connected = updated._replace(event_topic="inventory_levels/connect")
    both = (updated, connected) if is_updated_first else (connected, updated)
    ingest(engine, ingest_inventory_levels, *both)
    world.settle()

    assert world.figures()["MUG"] == 10
    assert world.is_held({"CUP": 10, "MUG": 10})


def test_old_disconnection_beside_a_sale_hides_no_sale(engine: Engine) -> None:
    world = fresh(engine, 10)
    old = disconnect(world)._replace(received_at=world.now - timedelta(days=1))
    world.sell(2, "MUG", 3)
    ingest(engine, ingest_inventory_levels, old, world.shops[2].webhooks.pop())
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 10, "MUG": 7})


@pytest.mark.parametrize("minutes", [-10, 10])
def test_clock_of_shopify_that_is_not_ours_changes_nothing(engine: Engine, minutes: int) -> None:
    world = fresh(engine, 10)
    world.now = datetime.now(UTC) + timedelta(minutes=minutes)
    for number in range(4):
        world.sell(1 + number % 3, "MUG", 1)
        world.settle()
        world.wait(20)

    assert world.figures()["MUG"] == 6
    assert world.is_held({"CUP": 10, "MUG": 6})


def test_webhooks_that_are_replayed_days_later_move_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    kept: list[WorkItem] = []
    for number in range(6):
        world.sell(1 + number % 3, "MUG", 1)
        for _ in range(3):
            kept += [told for shop in world.shops.values() for told in shop.webhooks]
            for shop in world.shops.values():
                world.deliver(shop)
            world.push()
        world.wait((0, 1, 20)[number % 3])
    world.settle()

    world.wait(3 * 86_400)
    ingest(engine, ingest_inventory_levels, *kept)
    world.settle()
    for told in kept:
        ingest(engine, ingest_inventory_levels, told)
    world.settle()

    assert world.figures()["MUG"] == 4
    assert world.is_held({"CUP": 10, "MUG": 4})
