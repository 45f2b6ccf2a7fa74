"""A level that left the shelf, or whose item is gone, is not pushed."""

from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from services.cli.main import main
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.products.inventory_items import ingest_inventory_items
from services.shopify.stock.handler import ingest_inventory_levels
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    NOON,
    ORDER,
    Ingest,
    add_shop,
    count_levels,
    forget_work,
    ingest,
    item,
    level,
    line,
    order,
    product,
    rows,
    verdicts,
)

LEVELS = "select location_id, available, disconnected_at is null from inventory_levels order by 1"
MUGS = f"stock of MUG at location {LOCATION}"
PRODUCT = 4
"""The product of ``bodies.product``."""


def said(effects: HandlerResult) -> list[str]:
    """What the audit says, in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


def sent(topic: str, minutes: float, **body: Any) -> WorkItem:
    return item("x", body, event_topic=topic)._replace(occurred_at=NOON + timedelta(minutes=minutes))


def cut(minutes: float, location: int = LOCATION) -> WorkItem:
    return sent("inventory_levels/disconnect", minutes, inventory_item_id=ITEM, location_id=location)


@pytest.fixture
def shelves(engine: Engine) -> Engine:
    """Ten mugs at one location and five at the next, counted a minute before noon; two were sold at noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1), level(5, -1, location=LOCATION + 1))
    count_levels(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=2)], location_id=LOCATION))
    forget_work(engine)
    return engine


def test_disconnected_level_is_off_the_shelf_and_keeps_its_figure(shelves: Engine) -> None:
    effects = ingest(shelves, ingest_inventory_levels, cut(5))

    assert verdicts(effects) == ["done"]
    assert said(effects)[0] == f"{MUGS}: no longer stocked"
    assert rows(shelves, LEVELS) == [(LOCATION, 8, False), (LOCATION + 1, 5, True)]
    assert effects.new_work == []


def test_level_that_is_seen_later_is_back_on_the_shelf(shelves: Engine) -> None:
    ingest(shelves, ingest_inventory_levels, cut(5))

    effects = ingest(shelves, ingest_inventory_levels, level(8, 6))

    assert f"{MUGS}: stocked again" in said(effects)
    assert rows(shelves, LEVELS) == [(LOCATION, 8, True), (LOCATION + 1, 5, True)]


@pytest.mark.parametrize("seen", [5, 6])
def test_disconnection_that_comes_after_a_later_sight_is_stale(shelves: Engine, seen: float) -> None:
    ingest(shelves, ingest_inventory_levels, level(8, seen))

    effects = ingest(shelves, ingest_inventory_levels, cut(5))

    assert (verdicts(effects), effects.audit, effects.new_work) == (["stale"], [], [])
    assert rows(shelves, LEVELS)[0] == (LOCATION, 8, True)


def test_disconnection_of_a_level_nobody_saw_is_remembered(shelves: Engine) -> None:
    ingest(shelves, ingest_inventory_levels, cut(5, LOCATION - 1))
    effects = ingest(shelves, ingest_inventory_levels, level(7, 2, location=LOCATION - 1))

    assert verdicts(effects) == ["done"]
    assert effects.new_work == []
    assert rows(shelves, LEVELS) == [(LOCATION - 1, 7, False), (LOCATION, 8, True), (LOCATION + 1, 5, True)]


ENDS: list[tuple[Ingest, WorkItem]] = [
    (ingest_inventory_items, sent("inventory_items/delete", 5, id=ITEM)),
    (ingest_products, sent("products/delete", 5, id=PRODUCT)),
]


@pytest.mark.parametrize(("effect", "end"), ENDS, ids=["item", "product"])
def test_levels_of_what_is_deleted_are_off_the_shelf_for_good(
    shelves: Engine, effect: Ingest, end: WorkItem
) -> None:
    effects = ingest(shelves, effect, end)
    assert verdicts(effects) == ["done"]
    assert f"{MUGS}: no longer stocked" in said(effects)
    assert effects.new_work == []

    late = ingest(shelves, ingest_inventory_levels, level(9, 20), level(3, 20, location=LOCATION + 2))
    sale = ingest(shelves, ingest_orders, order(9, number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert late.new_work == sale.new_work == []
    assert rows(shelves, LEVELS) == [(LOCATION, 8, False), (LOCATION + 1, 5, False), (LOCATION + 2, 3, False)]


def test_deleted_product_takes_its_variants_with_it_those_that_come_late_too(shelves: Engine) -> None:
    effects = ingest(shelves, ingest_products, sent("products/delete", 5, id=PRODUCT))
    assert "variant 5: deleted with its product" in said(effects)

    ingest(shelves, ingest_products, product("CUP", 50, number=ITEM + 1))

    assert rows(shelves, "select inventory_item_id, product_id, deleted_at from variants order by 1") == [
        (ITEM, PRODUCT, NOON + timedelta(minutes=5)),
        (ITEM + 1, PRODUCT, NOON + timedelta(minutes=5)),
    ]
    assert rows(shelves, "select title, deleted_at is not null from products") == [("A mug", True)]


def test_levels_of_a_shop_that_gives_its_stock_to_shopify_follow_shopify_again(shelves: Engine) -> None:
    ingest(shelves, ingest_inventory_levels, level(9, 5))
    forget_work(shelves)

    shown = CliRunner().invoke(main, ["shops", "set", "harbour", "--stock-owner", "shopify"])

    assert shown.exit_code == 0, shown.output
    assert "2 levels follow Shopify from now on" in shown.output
    assert [row[1] for row in rows(shelves, LEVELS)] == [9, 5]
    assert rows(shelves, "select count(*) from inventory_levels where counted_at is not null") == [(0,)]
    assert rows(shelves, "select 1 from work_queue") == []
    words = rows(shelves, "select summary from audit_mutations where summary like '%stock owner%' order by 1")
    assert [row[0].partition(":")[0] for row in words] == [
        f"{MUGS} 8 -> 9 by the shop's stock owner",
        f"stock of MUG at location {LOCATION + 1} 5 -> 5 by the shop's stock owner",
    ]


@pytest.mark.parametrize("owner", ["pool:Mugs", "pool:", "us", ""])
def test_stock_owner_that_is_none_is_refused_by_name(shelves: Engine, owner: str) -> None:
    shown = CliRunner().invoke(main, ["shops", "set", "harbour", "--stock-owner", owner])

    assert shown.exit_code != 0
    assert f"stock_owner={owner!r} should be shopify, shopfleet or pool:NAME" in shown.output
