"""GraphQL documents: parsed, validated, and cached by their text."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    VariableNode,
    parse,
    validate,
)

from services.sandbox.shopify.schema import load_schema
from services.sandbox.shopify.values import Node

_HOT = "inventorySetQuantities"
_INPUT = frozenset(("name", "reason", "referenceDocumentUri", "quantities"))
_QUANTITY = frozenset(("inventoryItemId", "locationId", "quantity", "changeFromQuantity"))


class DocumentRefused(Exception):
    """A document that is no GraphQL or does not match the schema. ``errors`` are the answer's."""

    def __init__(self, errors: list[Node]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Document:
    """A document that may be executed."""

    tree: DocumentNode
    operations: Mapping[str, OperationDefinitionNode]
    fragments: Mapping[str, FragmentDefinitionNode]
    push: "Push | None"

    def find_operation(self, name: str | None) -> OperationDefinitionNode | None:
        """Return the operation called ``name``, or the only one."""
        if name:
            return self.operations.get(name)
        return next(iter(self.operations.values())) if len(self.operations) == 1 else None


@dataclass(frozen=True, slots=True)
class Push:
    """One ``inventorySetQuantities`` and nothing else, in the plainest form.

    Most documents of a fleet are pushes: they are answered from the same state without walking the tree.
    """

    input_name: str
    key_name: str
    payload: Mapping[str, tuple[str, ...]]
    """The requested fields of each field of the payload."""

    def read(self, variables: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
        """Return the input and the key, or None where the values need a closer look."""
        request, key = variables.get(self.input_name), variables.get(self.key_name)
        if not isinstance(request, dict) or not isinstance(key, str) or not _INPUT.issuperset(request):
            return None
        quantities = request.get("quantities")
        if not isinstance(quantities, list) or not all(_is_plain(entry) for entry in quantities):
            return None
        texts = (request.get("name"), request.get("reason"), request.get("referenceDocumentUri", ""))
        return (request, key) if all(isinstance(text, str) for text in texts) else None

    def write(self, payload: Node) -> dict[str, Any]:
        """Return ``data`` with the requested fields of ``payload``."""
        return {_HOT: {name: _pick(payload[name], fields) for name, fields in self.payload.items()}}


@lru_cache(maxsize=512)
def read_document(text: str) -> Document:
    """Return ``text`` parsed and validated; raise ``DocumentRefused``."""
    try:
        tree = parse(text)
    except GraphQLError as wrong:
        raise DocumentRefused([_say(wrong, "PARSE_ERROR")]) from None
    wrongs = validate(load_schema(), tree)
    if wrongs:
        raise DocumentRefused([_say(wrong, "undefinedField") for wrong in wrongs])
    operations = {
        part.name.value if part.name else "": part
        for part in tree.definitions
        if isinstance(part, OperationDefinitionNode)
    }
    fragments = {
        part.name.value: part for part in tree.definitions if isinstance(part, FragmentDefinitionNode)
    }
    push = _find_push(next(iter(operations.values()))) if len(operations) == 1 else None
    return Document(tree, operations, fragments, push)


def _find_push(operation: OperationDefinitionNode) -> Push | None:
    """Return ``operation`` as a ``Push``, or None if it has any other form."""
    field: Any = operation.selection_set.selections[0]
    if len(operation.selection_set.selections) != 1 or not _is_bare(field, _HOT):
        return None
    given = [
        *(field.arguments or ()),
        *(one for part in field.directives or () for one in part.arguments or ()),
    ]
    payload = {part.name.value: _leaves(part) for part in field.selection_set.selections if _is_bare(part)}
    is_plain = (
        [one.name.value for one in given] == ["input", "key"]
        and all(isinstance(one.value, VariableNode) for one in given)
        and len(payload) == len(field.selection_set.selections)
        and all(payload.values())
    )
    return Push(given[0].value.name.value, given[1].value.name.value, payload) if is_plain else None


def _leaves(field: Any) -> tuple[str, ...]:
    """Return the names of the fields of ``field``, or nothing where they are more than names."""
    parts = field.selection_set.selections if field.selection_set else ()
    plain = [part for part in parts if _is_bare(part) and not part.selection_set]
    return tuple(part.name.value for part in plain) if len(plain) == len(parts) else ()


def _is_bare(node: Any, name: str = "") -> bool:
    """Tell whether ``node`` is a field (``name``) under its own name."""
    if not isinstance(node, FieldNode) or node.alias or node.name.value.startswith("__"):
        return False
    return name in ("", node.name.value)


def _is_plain(entry: Any) -> bool:
    if not isinstance(entry, dict) or not _QUANTITY.issuperset(entry):
        return False
    item, location = entry.get("inventoryItemId"), entry.get("locationId")
    quantity, before = entry.get("quantity"), entry.get("changeFromQuantity")
    return (
        isinstance(item, str)
        and isinstance(location, str)
        and type(quantity) is int
        and (before is None or type(before) is int)
        # GraphQL's Int has 32 bits; what is beyond is refused by the schema's own words.
        and -(2**31) <= quantity < 2**31
    )


def _pick(value: Any, fields: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_pick(entry, fields) for entry in value]
    return value if value is None else {name: value.get(name) for name in fields}


def _say(wrong: GraphQLError, code: str) -> Node:
    said: Node = {"message": wrong.message, "extensions": {"code": code}}
    if wrong.locations:
        said["locations"] = [{"line": at.line, "column": at.column} for at in wrong.locations]
    return said
