"""Find and upsert by primary key, with the SQL of each table's columns."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.pg_arrays import find_by_key, upsert_rows
from services.shopify.logistics.tables import inventory_shipments, variant_stock
from services.shopify.tables import locations, storefronts

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_columns_that_are_not_given_have_their_default_and_then_stay(engine: Engine) -> None:
    key = {"shop_id": [1, 1], "location_id": [7, 8]}
    with transaction(engine) as tx:
        upsert_rows(tx, locations, {**key, "updated_at": [NOON, NOON]})
        upsert_rows(
            tx, locations, {"shop_id": [1], "location_id": [8], "name": ["Shop"], "updated_at": [NOON]}
        )
        upsert_rows(tx, locations, {"shop_id": [1], "location_id": [8], "updated_at": [NOON + timedelta(1)]})
        found = find_by_key(tx, locations, [(1, 7), (1, 8), (1, 9)])

    assert found.keys() == {(1, 7), (1, 8)}
    assert found[1, 7] == {
        "shop_id": 1, "location_id": 7, "name": "", "province": "", "is_active": True,
        "updated_at": NOON, "deleted_at": None,
    }  # fmt: skip
    assert (found[1, 8]["name"], found[1, 8]["updated_at"]) == ("Shop", NOON + timedelta(1))


def test_key_of_one_column_and_of_no_row(engine: Engine) -> None:
    with transaction(engine) as tx:
        upsert_rows(tx, storefronts, {"shop_id": [3], "shopify_id": [2**53 + 1], "updated_at": [NOON]})
        found = find_by_key(tx, storefronts, [(3,)])
        assert find_by_key(tx, storefronts, []) == {}

    assert found[(3,)]["shopify_id"] == 2**53 + 1


def test_json_null_and_flags_are_written_as_they_are(engine: Engine) -> None:
    fields = {"status": [NOON.isoformat(), 'a "b" \\ {c}']}
    key = {"shop_id": [1], "inventory_shipment_id": [5]}
    with transaction(engine) as tx:
        upsert_rows(
            tx,
            inventory_shipments,
            {**key, "field_versions": [fields], "quantity": [None], "updated_at": [NOON]},
        )
        upsert_rows(
            tx, variant_stock,
            {"shop_id": [1, 1], "variant_id": [1, 2], "is_in_stock": [False, True], "updated_at": [NOON] * 2},
        )  # fmt: skip
        (shipment,) = find_by_key(tx, inventory_shipments, [(1, 5)]).values()
        stock = find_by_key(tx, variant_stock, [(1, 1), (1, 2)])

    assert (shipment["field_versions"], shipment["quantity"]) == (fields, None)
    assert [stock[1, number]["is_in_stock"] for number in (1, 2)] == [False, True]


def test_unknown_column_is_refused(engine: Engine) -> None:
    with transaction(engine) as tx, pytest.raises(KeyError, match="no_such_column"):
        upsert_rows(tx, locations, {"shop_id": [1], "location_id": [1], "no_such_column": [1]})
