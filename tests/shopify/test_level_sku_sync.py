"""A disconnected level, or one of a deleted item, is not pushed."""

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
    clear_work_queue,
    count_levels,
    ingest,
    item,
    level,
    line,
    order,
    outcome_codes,
    product,
    rows,
)

LEVELS = """
select location_id, available, disconnected_at is null from inventory_levels order by 1, inventory_item_id
"""
MUGS = f"stock of MUG at location {LOCATION}"
PRODUCT = 4
"""The product of ``bodies.product``."""


def summaries(effects: HandlerResult) -> list[str]:
    """Return the audit summaries in order."""
    return [mutation.summary for entry in effects.audit for mutation in entry.mutations]


def sent(topic: str, minutes: float, **body: Any) -> WorkItem:
    return item("x", body, event_topic=topic)._replace(occurred_at=NOON + timedelta(minutes=minutes))


def cut(minutes: float, location: int = LOCATION) -> WorkItem:
    return sent("inventory_levels/disconnect", minutes, inventory_item_id=ITEM, location_id=location)


@pytest.fixture
def stocked(engine: Engine) -> Engine:
    """Ten mugs at one location and five at another, counted a minute before noon; two sold at noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1), level(5, -1, location=LOCATION + 1))
    count_levels(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=2)], location_id=LOCATION))
    clear_work_queue(engine)
    return engine


def test_disconnection_is_recorded_and_the_level_keeps_its_figure(stocked: Engine) -> None:
    effects = ingest(stocked, ingest_inventory_levels, cut(5))

    assert outcome_codes(effects) == ["done"]
    assert summaries(effects)[0] == f"{MUGS}: no longer stocked"
    assert rows(stocked, LEVELS) == [(LOCATION, 8, False), (LOCATION + 1, 5, True)]
    assert effects.new_work == []


def test_later_observation_connects_the_level_again(stocked: Engine) -> None:
    ingest(stocked, ingest_inventory_levels, cut(5))

    effects = ingest(stocked, ingest_inventory_levels, level(8, 6))

    assert f"{MUGS}: stocked again" in summaries(effects)
    assert rows(stocked, LEVELS) == [(LOCATION, 8, True), (LOCATION + 1, 5, True)]


@pytest.mark.parametrize("seen", [5, 6])
def test_disconnection_older_than_an_observation_is_stale(stocked: Engine, seen: float) -> None:
    ingest(stocked, ingest_inventory_levels, level(8, seen))

    effects = ingest(stocked, ingest_inventory_levels, cut(5))

    assert (outcome_codes(effects), effects.audit, effects.new_work) == (["stale"], [], [])
    assert rows(stocked, LEVELS)[0] == (LOCATION, 8, True)


def test_disconnection_of_an_unknown_level_is_recorded(stocked: Engine) -> None:
    ingest(stocked, ingest_inventory_levels, cut(5, LOCATION - 1))
    effects = ingest(stocked, ingest_inventory_levels, level(7, 2, location=LOCATION - 1))

    assert outcome_codes(effects) == ["done"]
    assert effects.new_work == []
    assert rows(stocked, LEVELS) == [(LOCATION - 1, 7, False), (LOCATION, 8, True), (LOCATION + 1, 5, True)]


ENDS: list[tuple[Ingest, WorkItem]] = [
    (ingest_inventory_items, sent("inventory_items/delete", 5, id=ITEM)),
    (ingest_products, sent("products/delete", 5, id=PRODUCT)),
]


@pytest.mark.parametrize(("effect", "end"), ENDS, ids=["item", "product"])
def test_levels_of_deleted_items_stay_disconnected(stocked: Engine, effect: Ingest, end: WorkItem) -> None:
    effects = ingest(stocked, effect, end)
    assert outcome_codes(effects) == ["done"]
    assert f"{MUGS}: no longer stocked" in summaries(effects)
    assert effects.new_work == []

    late = ingest(stocked, ingest_inventory_levels, level(9, 20), level(3, 20, location=LOCATION + 2))
    sale = ingest(stocked, ingest_orders, order(9, number=ORDER + 50, lines=[line(ORDER + 51)]))

    assert late.new_work == sale.new_work == []
    assert rows(stocked, LEVELS) == [(LOCATION, 8, False), (LOCATION + 1, 5, False), (LOCATION + 2, 3, False)]


def test_deletion_of_a_product_deletes_its_variants_even_late_ones(stocked: Engine) -> None:
    effects = ingest(stocked, ingest_products, sent("products/delete", 5, id=PRODUCT))
    assert "variant 5: deleted with its product" in summaries(effects)

    ingest(stocked, ingest_products, product("CUP", 50, number=ITEM + 1))

    assert rows(stocked, "select inventory_item_id, product_id, deleted_at from variants order by 1") == [
        (ITEM, PRODUCT, NOON + timedelta(minutes=5)),
        (ITEM + 1, PRODUCT, NOON + timedelta(minutes=5)),
    ]
    assert rows(stocked, "select title, deleted_at is not null from products") == [("A mug", True)]


def test_levels_of_a_shop_that_gives_its_stock_to_shopify_follow_shopify_again(stocked: Engine) -> None:
    ingest(stocked, ingest_inventory_levels, level(9, 5))
    clear_work_queue(stocked)

    shown = CliRunner().invoke(main, ["shops", "set", "harbour", "--stock-owner", "shopify"])

    assert shown.exit_code == 0, shown.output
    assert "2 levels follow Shopify from now on" in shown.output
    assert [row[1] for row in rows(stocked, LEVELS)] == [9, 5]
    assert rows(stocked, "select count(*) from inventory_levels where counted_at is not null") == [(0,)]
    assert rows(stocked, "select 1 from work_queue") == []
    changes = rows(
        stocked, "select summary from audit_mutations where summary like '%stock owner%' order by 1"
    )
    assert [row[0].partition(":")[0] for row in changes] == [
        f"{MUGS} 8 -> 9 by the shop's stock owner",
        f"stock of MUG at location {LOCATION + 1} 5 -> 5 by the shop's stock owner",
    ]


@pytest.mark.parametrize("owner", ["pool:Mugs", "pool:", "us", ""])
def test_invalid_stock_owner_is_refused_by_name(stocked: Engine, owner: str) -> None:
    shown = CliRunner().invoke(main, ["shops", "set", "harbour", "--stock-owner", owner])

    assert shown.exit_code != 0
    assert f"--stock-owner={owner!r} should be shopify, shopfleet or pool:NAME" in shown.output
