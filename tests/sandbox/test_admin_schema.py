"""The sandbox's part of the Admin schema is Shopify's own: every name, type, argument and default."""

import gzip
import json
from functools import cache
from pathlib import Path

import pytest
from graphql import (
    build_client_schema,
    is_enum_type,
    is_specified_directive,
    is_specified_scalar_type,
    print_type,
    validate,
)
from graphql.language import parse

from services.sandbox.shopify.schema import FILE, load_schema

SCHEMAS = Path(__file__).parents[3] / "shared" / "samples" / "shopify" / "admin_graphql"
LATER = {("2026-10", "InventorySetQuantitiesUserErrorCode", "ITEM_NOT_STOCKED_AT_LOCATION")}
"""Removed in 2026-10; the project uses 2026-07."""

needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="Shopify's Admin schemas are not beside this project (../shared/samples)"
)


@cache
def shopifys(version):
    with gzip.open(SCHEMAS / f"admin_{version}.json.gz") as file:
        return build_client_schema(json.load(file)["data"], assume_valid=True)


def own_types():
    return {
        name: kind
        for name, kind in load_schema().type_map.items()
        if not name.startswith("__") and not is_specified_scalar_type(kind)
    }


def strays(own, official, version):
    """Return where ``own`` differs from ``official``."""
    if is_enum_type(own):
        return [
            f"{own.name}.{value}"
            for value in own.values
            if value not in official.values and (version, own.name, value) not in LATER
        ]
    found = [f"{own.name} implements {one.name}" for one in getattr(own, "interfaces", ())
             if one.name not in {other.name for other in official.interfaces}]  # fmt: skip
    for name, field in getattr(own, "fields", {}).items():
        other = official.fields.get(name)
        if other is None or str(field.type) != str(other.type):
            found.append(f"{own.name}.{name}: {field.type}, not {other and other.type}")
            continue
        for argument_name, argument in getattr(field, "args", {}).items():
            wanted = other.args.get(argument_name)
            if wanted is None or str(argument.type) != str(wanted.type):
                found.append(f"{own.name}.{name}({argument_name}: {argument.type})")
    return found


@needs_schemas
@pytest.mark.parametrize("version", ["2026-04", "2026-07", "2026-10"])
def test_every_name_type_and_argument_is_shopifys(version):
    official = shopifys(version).type_map

    assert [
        fault for name, kind in own_types().items() for fault in strays(kind, official[name], version)
    ] == []


@needs_schemas
def test_defaults_and_directives_are_shopifys():
    official = shopifys("2026-07")

    for name, kind in own_types().items():
        for field_name, field in getattr(kind, "fields", {}).items():
            for argument_name, argument in getattr(field, "args", {}).items():
                if argument.ast_node.default_value is not None:
                    text = print_type(official.type_map[name])
                    default = argument.ast_node.default_value.value
                    shown = default if isinstance(default, str) else str(default).lower()
                    assert f"{argument_name}: {argument.type} = {shown}" in text, f"{name}.{field_name}"
    for directive in load_schema().directives:
        if not is_specified_directive(directive):
            other = official.get_directive(directive.name)
            assert {name: str(one.type) for name, one in directive.args.items()} == {
                name: str(one.type) for name, one in other.args.items()
            }


@needs_schemas
def test_stray_name_would_be_found():
    own, official = own_types(), shopifys("2026-07").type_map

    assert strays(own["LineItem"], official["Order"], "2026-07")
    assert strays(own["OrderSortKeys"], official["ProductSortKeys"], "2026-07")


def test_file_is_a_schema_of_its_own():
    assert validate(load_schema(), parse("{ shop { name } }")) == []
    assert FILE.read_text(encoding="utf-8").startswith("#")
