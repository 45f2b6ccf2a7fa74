"""Every column holds what its name says: distinct values go in, and come back by name and by the finders."""

import importlib
import pkgutil
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

import services.shopify
from services.core.db import transaction
from services.schema.models import metadata
from services.shopify.merge import EntityState
from services.shopify.partial_updates import FieldVersions
from services.shopify.upsert import EntitySpec, find_states, write_states
from tests.shopify.sample_payloads import NOW, add_shop, item

ODD = "\\ a\\nb \"quoted\" 'single' {brace,comma} NULL\n\ttab é 漢"
"""A text that breaks where a column is written by the array maker of another type, or is not escaped."""

KEY = (1, 2**53 + 7)


def find_specs() -> dict[str, EntitySpec[Any]]:
    modules = pkgutil.walk_packages(services.shopify.__path__, "services.shopify.")
    found = [vars(importlib.import_module(module.name)).get("_KIND") for module in modules]
    return {kind.table: kind for kind in found if kind is not None}


SPECS = find_specs()


def make_value(name: str, type_: str, place: int) -> Any:
    """A value that no other column has; of two neighbouring flags one is true."""
    return {
        "text": f"{name} {ODD}",
        "bigint": 1000 + place,
        "boolean": place % 2 == 0,
        "timestamptz": NOW + timedelta(minutes=place),
    }[type_]


def make_state(kind: EntitySpec[Any]) -> Any:
    columns = enumerate(kind.columns.items())
    values = {name: make_value(name, type_, place) for place, (name, type_) in columns}
    if not isinstance(kind.blank, FieldVersions):
        return type(kind.blank)(**values)
    told = {
        name: value if isinstance(value, str | int) else value.isoformat()
        for name, value in values.items()
        if name not in ("updated_at", "told")
    }
    return type(kind.blank).tell(NOW, told)


@pytest.mark.parametrize("table", sorted(SPECS))
def test_row_comes_back_by_the_names_of_its_columns(engine: Engine, table: str) -> None:
    kind, state = SPECS[table], make_state(SPECS[table])
    add_shop(engine)
    gone_at = NOW + timedelta(days=1)
    told = item("x", b"{}")._replace(event_id=4711)

    with transaction(engine) as tx:
        write_states(tx, {KEY: EntityState(state, gone_at)}, {KEY: told}, kind)
        row = dict(tx.exec_driver_sql(f"select * from {table}").mappings().one())  # noqa: S608

    wanted = {name: getattr(state, name) for name in kind.columns}
    if "told" in wanted:
        wanted["told"] = orjson.loads(wanted["told"])
    if kind.ended[0] in row:
        wanted[kind.ended[0]] = gone_at
    if "event_id" in row:
        wanted["event_id"] = 4711
    assert {name: row[name] for name in wanted} == wanted
    keys = {column.name for column in metadata.tables[table].primary_key}
    assert row.keys() - wanted.keys() - keys == set(), "a column that no test fills"


@pytest.mark.parametrize("table", sorted(SPECS))
def test_finder_returns_the_state_that_was_written(engine: Engine, table: str) -> None:
    kind, state = SPECS[table], make_state(SPECS[table])
    shop_id = add_shop(engine)
    key = (shop_id, shop_id) if table == "storefronts" else KEY
    has_end = kind.ended[0] in metadata.tables[table].columns
    row = EntityState(state, NOW + timedelta(days=1) if has_end else None)

    with transaction(engine) as tx:
        write_states(tx, {key: row}, {key: item("x", b"{}")}, kind)
        found = find_states(tx, [key], kind)

    assert found == {key: row}


def test_kinds_are_found() -> None:
    assert len(SPECS) >= 15
