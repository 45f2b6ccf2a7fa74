"""Stock counts with open orders, through the commands and the sandbox."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from tests.alerts.linked import LINK, list_actions, open_incident
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    at,
    clear_work_queue,
    ingest,
    level,
    line,
    order,
    product,
    rows,
)
from tests.shopify.test_push_journey import DOMAIN, applied, control, push, sandbox

__all__ = ["sandbox"]

LEVELS = "select available, shopify_available from inventory_levels order by inventory_item_id, location_id"
FIRST = ("--item", str(ITEM), "--location", str(LOCATION))


def stock(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["stock", arguments[0], "harbour", *arguments[1:]], input=text)


def add_at_shopify(url: str, *webhooks: dict[str, Any]) -> None:
    control(url, shop=DOMAIN, sales=list(webhooks))


def sold(number: int, quantity: int, minutes: float = 1) -> dict[str, Any]:
    """Insert an open order of ``quantity`` mugs that Shopify knows too."""
    body: dict[str, Any] = json.loads(
        order(minutes, number=number, lines=[line(number + 1, quantity=quantity) | {"variant_id": 5}]).body
    )
    return {"topic": "orders/create", "body": body}


@pytest.fixture
def stocked(engine: Engine, sandbox: str) -> str:
    """A sandbox with ten mugs."""
    add_at_shopify(
        sandbox, {"topic": "products/update", "body": json.loads(product().body) | {"updated_at": at(-60)}}
    )
    return sandbox


def test_count_during_open_orders_includes_their_pieces(engine: Engine, stocked: str) -> None:
    """Ten in stock, three sold and not sent: a count of nine means that one is missing."""
    add_at_shopify(stocked, sold(ORDER, 3))

    open_incident(engine)
    counted = stock("count", *FIRST, "--pieces", "9", "--json", *LINK)

    assert counted.exit_code == 0, counted.output
    ((_, what),) = list_actions(engine)
    assert what.startswith("counted MUG")
    (change,) = json.loads(counted.stdout)["counts"]
    assert (change["pieces"], change["held_back"], change["available"]) == (9, 3, 6)
    assert rows(engine, LEVELS) == [(6, 7)]
    push(engine)
    assert applied(stocked) == [(7, 6)]
    late = ingest(engine, ingest_orders, order(lines=[line(quantity=3) | {"variant_id": 5}]))
    assert (rows(engine, LEVELS), late.new_work) == ([(6, 6)], [])


def test_count_that_finds_what_shopify_holds_pushes_nothing(engine: Engine, stocked: str) -> None:
    add_at_shopify(stocked, sold(ORDER, 3))

    assert stock("count", "--sku", "MUG", "--location", str(LOCATION), "--pieces", "10").exit_code == 0

    push(engine)
    assert rows(engine, LEVELS) == [(7, 7)]
    assert rows(engine, "select 1 from work_queue where topic = 'inventory_push'") == []


def test_adjustment_of_a_counted_level_is_pushed_and_audited_with_its_reason(
    engine: Engine, stocked: str
) -> None:
    stock("count", *FIRST, "--pieces", "10")

    adjusted = stock("adjust", *FIRST, "--delta", "-2", "--reason", "broken")

    assert "10 -> 8" in adjusted.output
    push(engine)
    assert applied(stocked) == [(10, 8)]
    summaries = rows(engine, "select summary from audit_mutations where summary like '%broken%'")
    assert summaries == [(f"stock of MUG at location {LOCATION} 10 -> 8 by correction of -2: broken",)]


def test_adjustment_of_a_level_that_was_not_counted_names_the_command(engine: Engine, stocked: str) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("update inventory_levels set counted_at = null, counted_available = null")

    adjusted = stock("adjust", *FIRST, "--delta", "1", "--reason", "found")

    assert adjusted.exit_code != 0
    assert f"item {ITEM} at location {LOCATION} was not counted yet: `fleet stock count`" in adjusted.output


@pytest.mark.parametrize(
    "arguments", [("count", "--pieces", "9"), ("adjust", "--delta", "1", "--reason", "x")]
)
def test_shop_whose_stock_shopify_owns_takes_no_count(
    engine: Engine, stocked: str, arguments: tuple[str, ...]
) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopify'")

    refused = stock(arguments[0], *FIRST, *arguments[1:])

    assert refused.exit_code != 0
    assert "--stock-owner shopfleet" in refused.output
    assert rows(engine, LEVELS) == [(10, 10)]


def test_import_shows_what_it_would_do_and_then_does_it(engine: Engine, stocked: str, tmp_path: Path) -> None:
    ingest(engine, ingest_products, product("CUP", number=ITEM + 1, variant=6))
    ingest(engine, ingest_inventory_levels, level(10, -1, number=ITEM + 1))
    control(
        stocked,
        shop=DOMAIN,
        levels=[{"inventory_item_id": ITEM + 1, "location_id": LOCATION, "available": 10}],
    )
    clear_work_queue(engine)
    file = tmp_path / "counts.csv"
    file.write_text(
        f"sku,inventory_item_id,location_id,pieces\nMUG,,{LOCATION},8\n,{ITEM + 1},{LOCATION},12\n"
    )

    dry = stock("import", "--csv", str(file), "--dry-run")
    assert "Would count 2 levels" in dry.output
    assert rows(engine, LEVELS) == [(10, 10), (10, 10)]

    assert stock("import", "--csv", str(file)).exit_code == 0

    push(engine)
    assert sorted(applied(stocked)) == [(10, 8), (10, 12)]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("sku,pieces\nMUG,many\n", "line 2: pieces='many' should be a whole number"),
        ("sku,pieces\nMUG,-1\n", "line 2: pieces='-1' should be a whole number"),
        ("sku,count\nMUG,1\n", "line 1: the columns should be of"),
        ("sku,location_id,pieces\nMUG,here,1\n", "line 2: location_id='here' should be an id of Shopify"),
        ("sku,location_id,pieces\nNONE,77,1\n", "line 2: sku='NONE' should be one of MUG"),
        ("sku,location_id,pieces\nMUG,77,1\nMUG,77,2\n", "is counted twice"),
        ("sku,location_id,pieces\nMUG,78,1\n", "no such level is recorded"),
    ],
)
def test_import_with_a_wrong_line_takes_none_and_names_it(
    engine: Engine, stocked: str, text: str, arguments: str
) -> None:
    refused = stock("import", "--csv", "-", text=text)

    assert refused.exit_code != 0
    assert arguments in refused.output
    assert rows(engine, LEVELS) == [(10, 10)]


def test_the_location_may_be_left_out_where_a_shop_has_only_one(engine: Engine, stocked: str) -> None:
    assert stock("count", "--sku", "MUG", "--pieces", "8").exit_code == 0

    ingest(engine, ingest_inventory_levels, level(10, -1, location=78))
    refused = stock("count", "--sku", "MUG", "--pieces", "8")
    assert refused.exit_code != 0
    assert f"location: name one of {LOCATION}, 78 with --location" in refused.output


def test_sku_that_two_items_share_is_refused_by_name(engine: Engine, stocked: str) -> None:
    ingest(engine, ingest_products, product(number=ITEM + 1, variant=6))

    refused = stock("count", "--sku", "MUG", "--location", str(LOCATION), "--pieces", "1")

    assert (
        f"sku='MUG' belongs to the inventory items {ITEM}, {ITEM + 1}: name one with --item" in refused.output
    )
