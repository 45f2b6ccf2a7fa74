"""Queries of Shopify's lists are valid in its schemas and below the cost limit of a query."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.providers import shopify_documents

SCHEMAS = Path(__file__).parents[4] / "shared" / "samples" / "shopify" / "admin_graphql"
DOCUMENTS = {
    name: text
    for name, text in vars(shopify_documents).items()
    if not name.startswith("_") and name.isupper() and isinstance(text, str)
}
UNSIZED = 3
"""Counted size of a list without a size argument."""

needs_schemas = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="Shopify's AdminApi schemas are not beside this project (../shared/samples)"
)


@cache
def schema(version: str) -> Any:
    from graphql import build_client_schema

    with gzip.open(SCHEMAS / f"admin_{version}.json.gz") as file:
        return build_client_schema(json.load(file)["data"], assume_valid=True)


@needs_schemas
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_document_costs_less_than_a_query_may(name: str) -> None:
    from graphql import parse

    (operation,) = parse(DOCUMENTS[name]).definitions
    root = schema("2026-07").query_type if "query" in DOCUMENTS[name][:5] else schema("2026-07").mutation_type

    assert 0 < cost(operation.selection_set, root) <= 1000  # type: ignore[attr-defined]


def cost(selections: Any, of: Any) -> int:
    """Return the cost by Shopify's rules: objects 1, scalars 0, lists by their size, mutations 10."""
    from graphql import GraphQLList, GraphQLNonNull, get_named_type, is_leaf_type

    total = 0
    for field in selections.selections:
        if field.kind == "inline_fragment":
            named = schema("2026-07").type_map[field.type_condition.name.value]
            total += cost(field.selection_set, named)
            continue
        kind = of.fields[field.name.value].type
        named = get_named_type(kind)
        if is_leaf_type(named):
            continue
        inside = cost(field.selection_set, named)
        sizes = [int(a.value.value) for a in field.arguments or () if a.name.value == "first"]
        is_list = isinstance(kind.of_type if isinstance(kind, GraphQLNonNull) else kind, GraphQLList)
        if field.name.value in ("nodes", "pageInfo"):
            total += inside if field.name.value == "nodes" else 0
        elif named.name.endswith("Connection"):
            total += 2 + sizes[0] * (1 + inside)
        elif is_list:
            total += (sizes[0] if sizes else UNSIZED) * (1 + inside)
        else:
            total += (10 if of.name == "Mutation" else 1) + inside
    return total
