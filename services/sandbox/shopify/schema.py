"""Shopify's Admin schema, as far as the sandbox has it: resolvers of fields, and documents."""

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import graphql

from services.sandbox.shopify.pages import page_of
from services.sandbox.shopify.values import Node

FILE = Path(__file__).with_name("admin.graphql")

BULK = "bulk"
"""The context of a bulk operation: its lists have one page."""

_CONNECTION_FIELD = re.compile(r"(\w+)(?:\(([^)]*)\))?: (\w+)Connection!")


class DocumentRefused(Exception):
    """A document that is not GraphQL or does not match the schema; ``errors`` are for the answer."""

    def __init__(self, errors: list[Node]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


@cache
def load_schema() -> graphql.GraphQLSchema:
    """Return the schema of ``admin.graphql`` with resolvers that read ``Node`` and ``WebhookNode``."""
    text = FILE.read_text(encoding="utf-8")
    listed = sorted({found[3] for found in _CONNECTION_FIELD.finditer(text)})
    text = _CONNECTION_FIELD.sub(r"\1(after: String, first: Int, \2): \3Connection!", text)
    text = text.replace("implements Node {", "implements Node { id: ID!")
    connections = (
        f"type {name}Connection {{ nodes: [{name}!]! edges: [{name}Edge!]! pageInfo: PageInfo! }}\n"
        f"type {name}Edge {{ node: {name}! }}\n"
        for name in listed
    )
    schema = graphql.build_schema(text + "".join(connections))
    for kind in schema.type_map.values():
        if graphql.is_object_type(kind) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                field.resolve = _choose_resolver(kind.name, field)
    mutation: Any = schema.type_map["Mutation"]
    mutation.fields["inventorySetQuantities"].resolve = _resolve_keyed
    return schema


@lru_cache(maxsize=512)
def read_document(text: str) -> graphql.DocumentNode:
    """Return ``text`` parsed and validated; raise ``DocumentRefused``."""
    try:
        tree = graphql.parse(text)
    except graphql.GraphQLError as wrong:
        raise DocumentRefused([_describe(wrong, "PARSE_ERROR")]) from None
    if wrongs := graphql.validate(load_schema(), tree):
        raise DocumentRefused([_describe(wrong, "undefinedField") for wrong in wrongs])
    return tree


def _describe(wrong: graphql.GraphQLError, code: str) -> Node:
    places = [{"line": at.line, "column": at.column} for at in wrong.locations or ()]
    return {"message": wrong.message, "extensions": {"code": code}} | (
        {"locations": places} if places else {}
    )


def _choose_resolver(parent: str, field: graphql.GraphQLField) -> Any:
    if graphql.get_named_type(field.type).name.endswith("Connection"):
        # Shopify sorts lists without a sort key by id, except the parts of an object.
        defaults = {"sortKey": "ID"} if parent == "QueryRoot" or "query" in field.args else {}
        return lambda source, info, **args: page_of(
            _resolve(source, info, **args) or [], defaults | args, is_bulk=info.context == BULK
        )
    return _resolve_list if "first" in field.args else _resolve


def _resolve(source: Any, info: Any, **args: Any) -> Any:
    if not isinstance(source, dict):
        return source.get(info.field_name, **args)
    value = source.get(info.field_name)
    return value(**args) if callable(value) else value


def _resolve_list(source: Any, info: Any, **args: Any) -> Any:
    return (_resolve(source, info, **args) or [])[: args.get("first")]


def _resolve_keyed(source: Any, info: Any, **args: Any) -> Any:
    """Resolve a mutation that takes its idempotency key from a directive."""
    directive: Any = info.schema.get_directive("idempotent")
    given = graphql.get_directive_values(directive, info.field_nodes[0], info.variable_values) or {}
    return _resolve(source, info, **args, key=given.get("key", ""))
