"""Disconnected and reconnected levels, and webhooks with odd times, do not change a pool."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from services.ledger.work import WorkItem
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.pool_world import World, fresh
from tests.shopify.sample_payloads import LOCATION, ingest, item


def disconnect(world: World) -> WorkItem:
    """Return the event that disconnects the mugs of shop 2 now."""
    body = {"inventory_item_id": world.place(2, "MUG").inventory_item_id, "location_id": LOCATION}
    event = item("inventory_level_ingest", body, shop_id=2, event_topic="inventory_levels/disconnect")
    return event._replace(received_at=world.now)


def connect(world: World) -> WorkItem:
    """Return the event that connects the mugs of shop 2 with zero pieces."""
    world.wait(5)
    world.shops[2].change(world.place(2, "MUG"), 0)
    return world.shops[2].webhooks.pop()


def test_disconnected_and_reconnected_level_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    ingest(engine, ingest_inventory_levels, disconnect(world))
    world.sell(1, "MUG", 2)
    world.deliver(world.shops[1])
    world.push()
    ingest(engine, ingest_inventory_levels, connect(world))
    world.settle()

    assert world.figures()["MUG"] == 8
    assert world.is_held({"CUP": 10, "MUG": 8})


def test_level_disconnected_and_reconnected_in_one_batch_moves_nothing(engine: Engine) -> None:
    world = fresh(engine, 10)
    ingest(engine, ingest_inventory_levels, disconnect(world), connect(world))
    world.settle()

    assert world.figures()["MUG"] == 10
    assert world.is_held({"CUP": 10, "MUG": 10})


@pytest.mark.parametrize("is_updated_first", [True, False])
def test_connection_without_its_disconnection_moves_nothing(engine: Engine, is_updated_first: bool) -> None:
    world = fresh(engine, 10)
    updated = connect(world)
    connected = updated._replace(event_topic="inventory_levels/connect")
    both = (updated, connected) if is_updated_first else (connected, updated)
    ingest(engine, ingest_inventory_levels, *both)
    world.settle()

    assert world.figures()["MUG"] == 10
    assert world.is_held({"CUP": 10, "MUG": 10})


def test_old_disconnection_together_with_a_sale_hides_no_sale(engine: Engine) -> None:
    world = fresh(engine, 10)
    old = disconnect(world)._replace(received_at=world.now - timedelta(days=1))
    world.sell(2, "MUG", 3)
    ingest(engine, ingest_inventory_levels, old, world.shops[2].webhooks.pop())
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 10, "MUG": 7})


@pytest.mark.parametrize("minutes", [-10, 10])
def test_different_clock_of_shopify_changes_nothing(engine: Engine, minutes: int) -> None:
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
            kept += [event for shop in world.shops.values() for event in shop.webhooks]
            for shop in world.shops.values():
                world.deliver(shop)
            world.push()
        world.wait((0, 1, 20)[number % 3])
    world.settle()

    world.wait(3 * 86_400)
    ingest(engine, ingest_inventory_levels, *kept)
    world.settle()
    for event in kept:
        ingest(engine, ingest_inventory_levels, event)
    world.settle()

    assert world.figures()["MUG"] == 4
    assert world.is_held({"CUP": 10, "MUG": 4})
