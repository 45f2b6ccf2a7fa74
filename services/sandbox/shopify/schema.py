"""Shopify's Admin schema, as far as the sandbox has it, and how its fields find their values."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLSchema,
    build_schema,
    get_directive_values,
    get_named_type,
    is_object_type,
)

from services.sandbox.faults import ControlInvalid
from services.sandbox.shopify.pages import PageInvalid, page_of
from services.sandbox.shopify.search import SearchInvalid
from services.sandbox.shopify.stock import InputRefused
from services.sandbox.shopify.values import Node

FILE = Path(__file__).with_name("admin.graphql")

_CONNECTION = """
type $Connection { edges: [$Edge!]! nodes: [$!]! pageInfo: PageInfo! }
type $Edge { cursor: String! node: $! }
"""


@cache
def load_schema() -> GraphQLSchema:
    """Return the schema of ``admin.graphql`` with resolvers that read ``Node`` and ``WebhookNode``."""
    text = FILE.read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"(\w+)Connection!", text)))
    schema = build_schema(text + "".join(_CONNECTION.replace("$", name) for name in names))
    for kind in schema.type_map.values():
        if is_object_type(kind) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                field.resolve = _resolver_of(field)
    mutation: Any = schema.type_map["Mutation"]
    mutation.fields["inventorySetQuantities"].resolve = _resolve_keyed
    return schema


def find_value(source: Any, name: str, args: Mapping[str, Any]) -> Any:
    """Return the value of a field of a ``Node`` or a ``WebhookNode``; errors become errors of the answer."""
    try:
        if not isinstance(source, dict):
            return source.get(name, **args)
        value = source.get(name)
        return value(**args) if callable(value) else value
    except InputRefused as refused:
        raise GraphQLError(str(refused), extensions={"code": refused.code}) from None
    except (ControlInvalid, SearchInvalid) as wrong:
        raise GraphQLError(str(wrong), extensions={"code": "INVALID_FIELD_ARGUMENTS"}) from None


def _resolver_of(field: GraphQLField) -> Any:
    if get_named_type(field.type).name.endswith("Connection"):
        # What has no sort key but can be searched is kept by Shopify in the order of ids.
        usual = {"sortKey": "ID"} if "query" in field.args and "sortKey" not in field.args else {}
        return lambda source, info, **args: _resolve_connection(source, info, usual | args)
    if "first" in field.args:
        return _resolve_list
    return _resolve_plain


def _resolve_plain(source: Node, info: Any, **args: Any) -> Any:
    return find_value(source, info.field_name, args)


def _resolve_keyed(source: Node, info: Any, **args: Any) -> Any:
    """A mutation that takes its idempotency key from a directive."""
    directive: Any = info.schema.get_directive("idempotent")
    given = get_directive_values(directive, info.field_nodes[0], info.variable_values) or {}
    return find_value(source, info.field_name, args | {"key": given.get("key", "")})


def _resolve_list(source: Node, info: Any, **args: Any) -> Any:
    return (find_value(source, info.field_name, args) or [])[: args.get("first")]


def _resolve_connection(source: Node, info: Any, args: dict[str, Any]) -> Any:
    nodes = find_value(source, info.field_name, args) or []
    try:
        return page_of(nodes, args)
    except (PageInvalid, SearchInvalid) as wrong:
        raise GraphQLError(str(wrong), extensions={"code": "INVALID_FIELD_ARGUMENTS"}) from None
