"""Stock below its reorder point, days of stock left, and setting reorder points."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.shopify.stock.low_stock import (
    ReorderInvalid,
    ReorderPoint,
    find_stock,
    list_low_stock,
    list_reorder_changes,
    parse_reorder_csv,
    record_reorder_points,
)
from tests.shopify.sample_payloads import LOCATION, NOW, SHOP, add_shop, rows

DAY = timedelta(days=1)


@pytest.fixture
def shop(engine: Engine) -> Engine:
    add_shop(engine)
    return engine


def stock(
    engine: Engine, sku: str, available: int, point: int | None, *, item: int, location: int = LOCATION,
    **fields: Any,
) -> None:  # fmt: skip
    columns = {
        "shop_id": SHOP, "inventory_item_id": item, "location_id": location, "sku": sku,
        "available": available, "reorder_point": point, "observed_available": available, "observed_at": NOW,
        "shopify_available": available, "changed_at": NOW, **fields,
    }  # fmt: skip
    put(engine, "inventory_levels", columns)


def put(engine: Engine, table: str, columns: dict[str, Any]) -> None:
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    with transaction(engine) as tx:
        tx.execute(text(f"insert into {table} ({names}) values ({values})"), columns)  # noqa: S608


def sell(engine: Engine, sku: str, pieces: int, at: datetime, source: str) -> None:
    put(
        engine,
        "stock_movements",
        {"shop_id": SHOP, "source": source, "sku": sku, "delta": -pieces, "at": at},
    )


def low(engine: Engine) -> list[Any]:
    with transaction(engine) as tx:
        return list_low_stock(tx, SHOP, NOW)


def test_low_stock_is_what_is_under_its_point_and_what_runs_out_first_comes_first(shop: Engine) -> None:
    stock(shop, "MUG", 9, 10, item=1)
    stock(shop, "TEA", 4, 5, item=2)
    stock(shop, "FULL", 10, 10, item=3)
    stock(shop, "UNWATCHED", 0, None, item=4)
    stock(shop, "SLOW", 1, 5, item=5)
    sell(shop, "MUG", 60, NOW - DAY, "order-line:1")
    sell(shop, "TEA", 8, NOW - 2 * DAY, "order-line:2")

    found = low(shop)

    assert [(one.sku, one.sold_30d, one.days_cover) for one in found] == [
        ("MUG", 60, Decimal("4.5")),
        ("TEA", 8, Decimal("15.0")),
        ("SLOW", 0, None),
    ]


def test_returned_pieces_are_not_sold_and_only_thirty_days_count(shop: Engine) -> None:
    stock(shop, "MUG", 5, 10, item=1)
    sell(shop, "MUG", 100, NOW - 30 * DAY, "order-line:old")
    sell(shop, "MUG", 12, NOW - 30 * DAY + timedelta(seconds=1), "order-line:1")
    sell(shop, "MUG", -2, NOW - DAY, "refund-line:1")
    sell(shop, "MUG", 50, NOW + DAY, "order-line:later")

    assert [(one.sold_30d, one.days_cover) for one in low(shop)] == [(10, Decimal("15.0"))]


def test_stock_below_nothing_lasts_no_day(shop: Engine) -> None:
    stock(shop, "MUG", -3, 0, item=1)
    sell(shop, "MUG", 3, NOW - DAY, "order-line:1")

    assert [one.days_cover for one in low(shop)] == [Decimal("0.0")]


def test_items_deleted_at_shopify_are_left_out(shop: Engine) -> None:
    deleted = {"shop_id": SHOP, "updated_at": NOW, "deleted_at": NOW}
    stock(shop, "A", 0, 5, item=1, disconnected_at=NOW)
    stock(shop, "B", 0, 5, item=2)
    put(shop, "variants", deleted | {"inventory_item_id": 2, "variant_id": 9, "sku": "B", "title": "b"})
    stock(shop, "C", 0, 5, item=3)
    put(shop, "inventory_items", deleted | {"inventory_item_id": 3})
    stock(shop, "D", 0, 5, item=4, location=99)
    put(shop, "locations", deleted | {"location_id": 99})
    stock(shop, "E", 0, 5, item=5, location=98)
    put(shop, "locations", {"shop_id": SHOP, "location_id": 98, "name": "Pier", "updated_at": NOW})

    assert [(one.sku, one.location) for one in low(shop)] == [("E", "Pier")]


def test_stock_of_one_sku_is_shown_with_what_shopify_holds(shop: Engine) -> None:
    stock(shop, "MUG", 5, None, item=1)
    stock(shop, "TEA", 5, None, item=2)

    with transaction(shop) as tx:
        assert [line.sku for line in find_stock(tx, SHOP, NOW)] == ["MUG", "TEA"]
        (line,) = find_stock(tx, SHOP, NOW, "TEA")
    assert (line.available, line.shopify_available, line.reorder_point) == (5, 5, None)


def change(tx: Connection, *wanted: ReorderPoint) -> Sequence[Any]:
    changes = list_reorder_changes(tx, SHOP, wanted)
    record_reorder_points(tx, SHOP, changes, NOW, by="dana", request_id="r1")
    return changes


def test_reorder_point_is_set_everywhere_or_at_one_location_and_audited(shop: Engine) -> None:
    stock(shop, "MUG", 5, None, item=1)
    stock(shop, "MUG", 5, 3, item=1, location=99)

    with transaction(shop) as tx:
        assert len(change(tx, ReorderPoint("MUG", 7))) == 2
        assert len(change(tx, ReorderPoint("MUG", 7))) == 0
        assert len(change(tx, ReorderPoint("MUG", None, 99))) == 1

    points = "select location_id, reorder_point from inventory_levels order by 1"
    assert rows(shop, points) == [(LOCATION, 7), (99, None)]
    summaries = rows(
        shop,
        "select e.staff_label, m.summary from audit_mutations m join audit_events e on e.id = m.event_id "
        "where e.action = 'stock.reorder_point' order by e.seq, m.summary",
    )
    assert summaries == [
        ("dana", f"reorder point of MUG at location {LOCATION}: none -> 7"),
        ("dana", "reorder point of MUG at location 99: 3 -> 7"),
        ("dana", "reorder point of MUG at location 99: 7 -> none"),
    ]


def test_file_with_faults_changes_nothing_and_names_each_by_its_line(shop: Engine) -> None:
    stock(shop, "MUG", 5, None, item=1)
    wanted = parse_reorder_csv(f"sku,reorder_point,location_id\nMUG,5,\nNONE,5,\nMUG,6,{LOCATION}\n")

    with pytest.raises(ReorderInvalid) as caught, transaction(shop) as tx:
        change(tx, *wanted)

    message = str(caught.value)
    assert "line 3: the shop has no stock of 'NONE'" in message
    assert "line 2: the level of 'MUG'" in message
    assert "line 4: the level of 'MUG'" in message
    assert rows(shop, "select reorder_point from inventory_levels") == [(None,)]


def test_file_is_read_by_its_column_names_with_a_byte_order_mark_and_empty_points() -> None:
    text_of_file = '\ufeffReorder_Point, SKU\r\n12,MUG\r\n,"TEA, green"\r\n'

    assert parse_reorder_csv(text_of_file) == [
        ReorderPoint("MUG", 12, None, 2),
        ReorderPoint("TEA, green", None, None, 3),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        ("sku,point\nMUG,5\n", "required: sku, reorder_point; they are 'sku,point'"),
        ("sku,reorder_point\n", "no line below"),
        ("sku,reorder_point\nMUG,many\n", "line 2: reorder_point='many'"),
        ("sku,reorder_point\nMUG,-1\n", "line 2: reorder_point='-1'"),
        ("sku,reorder_point\nMUG,1.5\n", "line 2: reorder_point='1.5'"),
        ("sku,reorder_point\n,5\n", "line 2: sku is empty"),
        ("sku,reorder_point\nMUG,5,7\n", "line 2: there are more fields"),
        ("sku,reorder_point,location_id\nMUG,5,here\n", "line 2: location_id='here'"),
    ],
)
def test_file_that_cannot_be_read_says_what_would_be_right(content: str, expected: str) -> None:
    with pytest.raises(ReorderInvalid) as caught:
        parse_reorder_csv(content)
    assert expected in str(caught.value)
