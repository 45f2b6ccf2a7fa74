"""Every column is written and read back by its name, with distinct values."""

import importlib
import pkgutil
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

import services.shopify
from services.core.db import transaction
from services.schema.models import metadata
from services.shopify.entities import EntitySpec, EntityState, find_states, write_states
from services.shopify.partial_updates import FieldVersion, PartialEntitySpec
from tests.shopify.sample_payloads import NOW, add_shop, item

ODD = "\\ a\\nb \"quoted\" 'single' {brace,comma} NULL\n\ttab é 漢"
"""A text that fails if a column uses the array function of another type or is not escaped."""

KEY = (1, 2**53 + 7)

OTHER_FIELDS = {
    name: 2000 + place
    for place, name in enumerate((
        "origin", "destination", "line:1", "accepted:1", "rejected:1", "restocked:1", "not_restocked:1",
        "missing:1", "risk:1", "doubt:1",
    ))
}  # fmt: skip
"""Fields of partial entities whose columns have other names."""


def find_specs() -> dict[str, EntitySpec[Any]]:
    modules = pkgutil.walk_packages(services.shopify.__path__, "services.shopify.")
    found = [value for module in modules for value in vars(importlib.import_module(module.name)).values()]
    return {spec.table.name: spec for spec in found if isinstance(spec, EntitySpec)}


SPECS = find_specs()


def make_value(name: str, type_: type, place: int) -> Any:
    """Return a value that no other column has; of two adjacent flags one is true."""
    return {
        "str": f"{name} {ODD}",
        "int": 1000 + place,
        "bool": place % 2 == 0,
        "datetime": NOW + timedelta(minutes=place),
    }[type_.__name__]


def make_data(spec: EntitySpec[Any]) -> Any:
    columns = [column for column in spec.table.columns if column.name in spec.data_columns]
    values = {
        str(column.name): make_value(column.name, column.type.python_type, place)
        for place, column in enumerate(columns)
        if column.name != "field_versions"
    }
    if not isinstance(spec, PartialEntitySpec):
        return spec.make(**values)
    fields = {
        name: value if isinstance(value, str | int) else value.isoformat()
        for name, value in values.items()
        if name != "updated_at"
    }
    fields |= OTHER_FIELDS
    return spec.make(field_versions={name: (NOW.isoformat(), value) for name, value in fields.items()})


@pytest.mark.parametrize("table", sorted(SPECS))
def test_row_is_read_back_by_the_names_of_its_columns(engine: Engine, table: str) -> None:
    spec, data = SPECS[table], make_data(SPECS[table])
    add_shop(engine)
    deleted_at = NOW + timedelta(days=1)
    work = item("x", b"{}")._replace(event_id=4711)

    with transaction(engine) as tx:
        write_states(tx, {KEY: EntityState(data, deleted_at)}, {KEY: work}, spec)
        row = dict(tx.exec_driver_sql(f"select * from {table}").mappings().one())  # noqa: S608

    expected = {name: data._asdict()[name] for name in spec.data_columns}
    if "field_versions" in expected:
        expected["field_versions"] = {
            name: [at.isoformat(), value] for name, (at, value) in expected["field_versions"].items()
        }
    if spec.deletion_column in row:
        expected[spec.deletion_column] = deleted_at
    if "event_id" in row:
        expected["event_id"] = 4711
    assert {name: row[name] for name in expected} == expected
    keys = {column.name for column in metadata.tables[table].primary_key}
    assert row.keys() - expected.keys() - keys == set(), "a column that no test fills"


@pytest.mark.parametrize("table", sorted(SPECS))
def test_finder_returns_the_state_that_was_written(engine: Engine, table: str) -> None:
    spec, data = SPECS[table], make_data(SPECS[table])
    shop_id = add_shop(engine)
    key = (shop_id, shop_id) if table == "storefronts" else KEY
    is_deletable = spec.deletion_column in metadata.tables[table].columns
    state = EntityState(data, NOW + timedelta(days=1) if is_deletable else None)

    with transaction(engine) as tx:
        write_states(tx, {key: state}, {key: item("x", b"{}")}, spec)
        found = find_states(tx, [key], spec)

    assert found == {key: state}


@pytest.mark.parametrize("table", [name for name, spec in sorted(SPECS.items()) if spec.blank is not None])
def test_row_of_which_only_the_deletion_is_known_has_no_data(engine: Engine, table: str) -> None:
    spec = SPECS[table]
    shop_id = add_shop(engine)
    key = (shop_id, shop_id)
    state: EntityState[Any] = EntityState(None, NOW)

    with transaction(engine) as tx:
        write_states(tx, {key: state}, {key: item("x", b"{}")}, spec)
        found = find_states(tx, [key], spec)

    assert found == {key: state}


def test_field_versions_are_written_as_plain_json() -> None:
    partial = [spec for spec in SPECS.values() if isinstance(spec, PartialEntitySpec)]
    assert len(partial) >= 6
    for spec in partial:
        (version,) = spec.make(field_versions={"a": (NOW.isoformat(), "b")}).fields.values()
        assert version == FieldVersion(NOW, "b")


def test_specifications_are_found() -> None:
    assert len(SPECS) >= 15
