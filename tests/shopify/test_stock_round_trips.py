"""Stock rows are read back by name by each finder, with distinct values."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from services.core.db import transaction
from services.providers.shopify_admin import ShopifyLevel, ShopLevelKey
from services.shopify.products.handler import ingest_products
from services.shopify.stock import movements
from services.shopify.stock.counts import LevelCount, plan_counts
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.levels import LevelKey, Movement
from services.shopify.stock.low_stock import ReorderPoint, find_stock, list_reorder_changes
from services.shopify.stock.movements import record_movements
from services.shopify.stock.pool_checks import list_linked
from services.shopify.stock.pool_store import find_pool_levels
from services.shopify.stock.push_store import find_push_levels
from tests.shopify.sample_payloads import ITEM, LOCATION, NOW, SHOP, add_shop, ingest, item, level, product
from tests.shopify.test_round_trips import ODD

KEY = LevelKey(SHOP, ITEM, LOCATION)
MINUTE = timedelta(minutes=1)
COLUMNS: dict[str, Any] = {
    "sku": f"sku {ODD}", "available": 11, "reorder_point": 12, "observed_available": 13,
    "observed_at": NOW + MINUTE, "shopify_available": 14, "changed_at": NOW + 2 * MINUTE,
    "counted_available": 15, "counted_at": NOW + 4 * MINUTE, "known_at": NOW + 5 * MINUTE, "doubts": 16,
    "pool": "a pool", "pool_sku": f"pool {ODD}",
}  # fmt: skip


@pytest.fixture
def row(engine: Engine) -> dict[str, Any]:
    """Insert one level with a distinct value in each column."""
    add_shop(engine)
    ingest(engine, ingest_inventory_levels, level(9, 1))
    names = ", ".join(f"{name} = %({name})s" for name in COLUMNS)
    with transaction(engine) as tx:
        tx.exec_driver_sql(f"update inventory_levels set {names}", COLUMNS)  # noqa: S608
        tx.exec_driver_sql("insert into stock_pools (name) values ('a pool')")
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")
        return dict(tx.exec_driver_sql("select * from inventory_levels").mappings().one())


def assert_fields(found: Any, row: dict[str, Any], **renamed: str) -> None:
    """Check that the fields of ``found`` equal the columns of ``row``; columns may be ``renamed``."""
    fields = {name: renamed.get(name, name) for name in found._fields}
    wanted = {name: row[column] for name, column in fields.items() if column in row}
    assert {name: getattr(found, name) for name in wanted} == wanted
    assert len(wanted) >= 2


def test_level_is_found_for_a_push(engine: Engine, row: dict[str, Any]) -> None:
    push = item("inventory_push", b"{}")._replace(key=f"{ITEM}:{LOCATION}")
    with transaction(engine) as tx:
        (found,) = find_push_levels(tx, [push]).values()

    assert_fields(found, row)
    assert (found.is_ours, found.is_in_sync, found.is_settled, found.is_located) == (True, False, True, True)


def test_level_is_found_for_a_pool(engine: Engine, row: dict[str, Any]) -> None:
    with transaction(engine) as tx:
        (found,) = find_pool_levels(tx, [KEY]).values()
        (linked,) = list_linked(tx, "a pool")

    assert_fields(found, row, known="shopify_available")
    assert found.has_open_call is False
    assert_fields(linked, row, sku="pool_sku", shop_sku="sku")
    assert (LevelKey.from_row(linked), linked.slug, linked.must_read, linked.is_stocked) == (
        KEY,
        "harbour",
        True,
        True,
    )


def test_level_is_found_for_a_count(engine: Engine, row: dict[str, Any]) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("update inventory_levels set pool = null, pool_sku = null")
        held = {KEY[1:]: ShopifyLevel(20, None, 27)}
        (change,) = plan_counts(tx, SHOP, [LevelCount(ShopLevelKey(ITEM, LOCATION), 31)], held)  # type: ignore[arg-type]

    assert_fields(change, row, available="", before="available")
    assert (change.pieces, change.held_back, change.available) == (31, 7, 24)


def test_level_is_found_for_reports(engine: Engine, row: dict[str, Any]) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into locations (shop_id, location_id, name, updated_at) values (1, 77, 'Pier', now())"
        )
        tx.exec_driver_sql(
            "insert into variants (shop_id, inventory_item_id, variant_id, sku, title, updated_at) "
            "values (1, %(item)s, 5, 'v', 'Blue', now())",
            {"item": ITEM},
        )
        (found,) = find_stock(tx, SHOP, NOW, row["sku"])
        (change,) = list_reorder_changes(tx, SHOP, [ReorderPoint(row["sku"], 99)])

    assert_fields(found, row)
    assert (found.title, found.location, found.sold_30d, found.days_cover) == ("Blue", "Pier", 0, None)
    assert_fields(change, row, before="reorder_point")
    assert change.after == 99


def make_movement(number: int, **fields: Any) -> Movement:
    made: dict[str, Any] = {
        "shop_id": SHOP, "source": f"order-line:{number} {ODD}", "sku": f"sku {number} {ODD}",
        "delta": -number, "at": NOW + number * MINUTE, "variant_id": 100 + number,
        "location_id": 200 + number, "order_id": 300 + number,
    }  # fmt: skip
    return Movement(**made | fields)


def find_movements(tx: Connection) -> list[Movement]:
    return [
        Movement(**row._mapping) for row in tx.exec_driver_sql("select * from stock_movements order by at")
    ]


@pytest.mark.parametrize("owner", ["shopify", "shopfleet"])
@pytest.mark.parametrize("are_new", [True, False])
def test_movement_is_read_back_by_name_and_when_it_is_taken_back(
    engine: Engine, owner: str, are_new: bool
) -> None:
    add_shop(engine)
    made = [make_movement(1), make_movement(2, variant_id=None, location_id=None, order_id=None)]
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = %(owner)s", {"owner": owner})
        record_movements(tx, made, NOW, are_new=are_new)
        assert find_movements(tx) == made
        taken = movements._delete_movements(tx, made)

    assert {(one.source, one.sku, one.delta, one.at, one.variant_id) for one in taken} == {
        (one.source, one.sku, one.delta, one.at, one.variant_id) for one in made
    }


@pytest.mark.usefixtures("row")
def test_shift_names_its_level_its_figures_and_its_movements(engine: Engine) -> None:
    ingest(engine, ingest_products, product(f"sku {ODD}"))
    sold = make_movement(3, source="order-line:3", variant_id=5, location_id=LOCATION, at=NOW + 9 * MINUTE)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update inventory_levels set available = 15")
        (added,) = record_movements(tx, [sold], NOW)
        (recounted,) = record_movements(tx, [sold._replace(delta=-5)], NOW)

    assert added == ((*KEY, f"sku {ODD}"), 15, 12, "order-line:3", False, True)
    assert recounted == ((*KEY, f"sku {ODD}"), 12, 10, "order-line:3 order-line:3", True, True)
