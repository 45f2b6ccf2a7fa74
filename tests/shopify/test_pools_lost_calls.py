"""A call with a lost answer, or one that was given up, is no sale and no restock of a pool."""

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.shopify.stock.pool_checks import PoolRefused
from services.shopify.stock.pool_links import unlink_items
from tests.shopify.pool_world import POOL, WHO, World, fresh
from tests.shopify.sample_payloads import rows

AVAILABLE = "select available from inventory_levels where sku = 'MUG' and shop_id = 2"


def lose_call(engine: Engine, pieces: int, fault: str = "answer lost") -> World:
    """Sell ``pieces`` of ten mugs in shop 1 and lose the answer of the push to shop 2."""
    world = fresh(engine, 10)
    world.shops[2].faults = [fault]
    world.sell(1, "MUG", pieces)
    world.deliver(world.shops[1])
    world.push()
    world.wait(30)
    return world


def give_up(engine: Engine, age: str = "0 minutes") -> None:
    """Use up the tries of every call without an answer."""
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update work_queue set status = 'dead', finished_at = now() - %(age)s::interval "
            "where status = 'error'",
            {"age": age},
        )


def test_restock_survives_a_push_that_was_given_up_and_never_arrived(engine: Engine) -> None:
    world = lose_call(engine, -5, "not sent")
    give_up(engine)

    world.sell(3, "MUG", 1)
    world.settle()

    assert world.figures()["MUG"] == 14
    assert world.is_held({"CUP": 10, "MUG": 14})


@pytest.mark.parametrize("age", ["10 minutes", "3 hours"])
def test_push_that_was_given_up_long_ago_and_was_done_is_no_sale(engine: Engine, age: str) -> None:
    world = lose_call(engine, 4)
    give_up(engine, age)

    world.wait(3 * 3600)
    world.settle()
    world.heal()
    world.settle()

    assert world.figures()["MUG"] == 6
    assert world.is_held({"CUP": 10, "MUG": 6})


def test_push_that_was_given_up_is_considered_until_a_reading(engine: Engine) -> None:
    world = lose_call(engine, 4)
    give_up(engine)
    world.sell(3, "MUG", 1)
    world.deliver(world.shops[3])

    world.is_prompt = True  # the call's echo arrives while the level is read
    world.push()
    world.settle()

    assert world.figures()["MUG"] == 5
    assert world.is_held({"CUP": 10, "MUG": 5})


def test_call_with_an_expired_key_is_considered_until_a_reading(engine: Engine) -> None:
    world = lose_call(engine, 4)
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            'update work_queue set payload = payload || \'{"asked_at": "2026-01-01T00:00:00+00:00"}\' '
            "where status = 'error'"
        )

    world.is_prompt = True
    world.push()
    world.settle()

    assert world.figures()["MUG"] == 6
    assert world.is_held({"CUP": 10, "MUG": 6})


@pytest.mark.parametrize("is_whole_shop", [True, False])
def test_level_that_leaves_a_pool_has_shopifys_last_figure(engine: Engine, is_whole_shop: bool) -> None:
    world = lose_call(engine, 4)
    world.deliver(world.shops[2])

    if is_whole_shop:
        world.leave(2)
    else:
        with transaction(engine) as tx:
            unlink_items(tx, POOL, {"MUG"}, utc_now(), **WHO)
    world.settle()
    world.heal()
    world.settle()

    assert rows(engine, AVAILABLE) == [(6,)]


def test_level_with_a_call_under_way_is_not_linked(engine: Engine) -> None:
    world = lose_call(engine, 4)
    world.leave(2)
    world.enter(2)
    world.deliver(world.shops[2])

    with pytest.raises(PoolRefused, match="MUG of shop2: a push of the level has no answer yet"):
        world.link(2)
    world.settle()
    world.link(2)
    world.sell(1, "MUG", 1)
    world.settle()

    assert world.figures()["MUG"] == 5
    assert world.is_held({"CUP": 10, "MUG": 5})


def test_call_that_was_given_up_before_its_level_is_linked_is_in_the_reading(engine: Engine) -> None:
    world = lose_call(engine, 4)
    give_up(engine)
    world.leave(2)
    world.enter(2)
    world.deliver(world.shops[2])

    world.link(2)
    world.sell(1, "MUG", 1)
    world.settle()

    assert world.figures()["MUG"] == 5
    assert world.is_held({"CUP": 10, "MUG": 5})
