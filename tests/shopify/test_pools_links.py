"""Linking items to a pool, its incidents, and leaving it."""

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.shopify.stock.pool_checks import (
    PoolRefused,
    list_pools,
    plan_links,
    plan_wanted_links,
)
from services.shopify.stock.pool_links import set_buffer, unlink_items
from services.shops.shops import get_shop_by_id, set_shop
from tests.shopify.pool_world import POOL, SKUS, WHO, World, fresh
from tests.shopify.sample_payloads import NOW, rows

LINKED = "select count(*) from inventory_levels where shop_id = 2 and pool is not null"
INCIDENTS = "select status from incidents where rule = 'stock_oversold'"


def oversell(engine: Engine) -> World:
    world = fresh(engine, 1)
    for shop_id in (1, 2):
        world.sell(shop_id, "MUG", 1)
    world.settle()
    assert rows(engine, INCIDENTS) == [("open",)]
    return world


def test_incident_of_an_oversell_ends_when_its_sku_is_taken_out(engine: Engine) -> None:
    oversell(engine)
    with transaction(engine) as tx:
        unlink_items(tx, POOL, {"MUG"}, utc_now(), **WHO)
    assert rows(engine, INCIDENTS) == [("resolved",)]


def test_incident_of_an_oversell_ends_when_the_last_shop_leaves(engine: Engine) -> None:
    world = oversell(engine)
    for shop_id in world.shops:
        world.leave(shop_id)
    assert rows(engine, INCIDENTS) == [("resolved",)]


def test_shop_that_left_while_its_levels_were_read_is_not_linked(engine: Engine) -> None:
    world = fresh(engine, 10)
    world.leave(2)

    with pytest.raises(PoolRefused, match="shop2: no longer in pool mugs"):
        world.link(2)


def test_owner_that_is_set_again_takes_over_levels_that_were_left_behind(engine: Engine) -> None:
    """As after a crash between the two transactions of `fleet shops set`."""
    fresh(engine, 10)
    with transaction(engine) as tx:
        set_shop(tx, "shop2", {"stock_owner": "pool:other"}, now=utc_now())
    assert rows(engine, LINKED) == [(2,)]

    shown = CliRunner().invoke(main, ["shops", "set", "shop2", "--stock-owner", "pool:other"])

    assert "2 levels follow Shopify from now on" in shown.output
    assert rows(engine, LINKED) == [(0,)]


def test_level_cannot_be_two_items_of_a_pool(engine: Engine) -> None:
    world = fresh(engine, 10)
    with transaction(engine) as tx:
        shops = [get_shop_by_id(tx, shop_id) for shop_id in world.shops]
        with pytest.raises(PoolRefused, match="item 2001 is already 'MUG' of a pool"):
            plan_links(tx, plan_wanted_links(shops, ["CUP"], {("shop2", "CUP"): "MUG"}))
    with transaction(engine) as tx:
        unlink_items(tx, POOL, SKUS, utc_now(), **WHO)
        with pytest.raises(PoolRefused, match="'CUP' and 'MUG' of the pool would both be this item"):
            plan_links(tx, plan_wanted_links(shops, SKUS, {("shop2", "CUP"): "MUG"}))


@pytest.mark.parametrize("is_sold", [True, False])
def test_unsold_items_of_a_shop_are_no_fault_and_unshared_items_are(engine: Engine, is_sold: bool) -> None:
    fresh(engine, 10)
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update inventory_levels set pool = null, pool_sku = null, sku = %(sku)s "
            "where sku = 'MUG' and shop_id = 2",
            {"sku": "MUG" if is_sold else "CAN"},
        )

    with transaction(engine) as tx:
        (pool,) = list_pools(tx, POOL)
    unlinked = ["shop2: sku='MUG': in stock, and not linked: fleet stock pool mugs --sku MUG"]
    assert pool.faults == (unlinked if is_sold else [])


def test_buffer_that_changes_while_pushes_are_under_way_is_kept(engine: Engine) -> None:
    world = fresh(engine, 10)
    world.sell(1, "MUG", 3)
    world.deliver(world.shops[1])
    is_set: list[bool] = []

    def keep_four() -> None:
        if not is_set:
            is_set.append(True)
            with transaction(engine) as tx:
                set_buffer(tx, POOL, 4, NOW, **WHO)

    world.go_on = keep_four  # type: ignore[method-assign]
    world.settle()

    assert world.figures()["MUG"] == 7
    assert world.is_held({"CUP": 6, "MUG": 3})
