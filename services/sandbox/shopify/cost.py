"""Cost of a GraphQL query at Shopify in points, before and after it runs, and the bucket of points. Pure.

Rules: https://shopify.dev/docs/api/usage/limits. A scalar costs 0, an object 1, a mutation 10, an interface
the most expensive of its fragments, a connection 2 plus its size times a node. Shopify charges less for large
connections (https://community.shopify.dev/t/23101), by a rule that it does not publish: it accepts every
query that the sandbox accepts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import graphql

from services.sandbox.shopify.schema import load_schema

MOST_POINTS = 1000
"""The limit of a single query."""


def count_points(
    tree: graphql.DocumentNode,
    operation: graphql.OperationDefinitionNode,
    variables: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
) -> int:
    """Return the highest possible cost of ``operation``, or its actual cost if it returned ``data``."""
    if operation.operation == graphql.OperationType.MUTATION:
        return 10 * len(operation.selection_set.selections)
    fragments = {
        part.name.value: part for part in tree.definitions if isinstance(part, graphql.FragmentDefinitionNode)
    }
    counter = _Counter(fragments, variables)
    return max(1, counter.selections(operation.selection_set, load_schema().query_type, data))


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts points. ``data`` of its methods is the answer, None before the query runs."""

    fragments: Mapping[str, graphql.FragmentDefinitionNode]
    variables: Mapping[str, Any]

    def selections(self, selections: graphql.SelectionSetNode | None, parent: Any, data: Any) -> int:
        total, largest = 0, 0
        for node in selections.selections if selections else ():
            if isinstance(node, graphql.FieldNode):
                total += self._field(node, parent, data)
                continue
            fragment: Any = (
                self.fragments[node.name.value] if isinstance(node, graphql.FragmentSpreadNode) else node
            )
            condition = fragment.type_condition
            kind = load_schema().get_type(condition.name.value) if condition else parent
            points = self.selections(fragment.selection_set, kind, data)
            if graphql.is_object_type(parent):
                total += points
            else:
                largest = max(largest, points)
        return total + largest

    def _field(self, node: graphql.FieldNode, parent: Any, data: Any) -> int:
        name = node.name.value
        kind: Any = None if name.startswith("__") else graphql.get_named_type(parent.fields[name].type)
        if kind is None or graphql.is_leaf_type(kind):
            return 0
        found = _value_of(node, data)
        if found is None and data is not None:
            return 1
        if not kind.name.endswith("Connection"):
            size = self._size(node)
            return (1 if size is None else _length(found, size)) * self._object(node, kind, found)
        points = 2
        for part in node.selection_set.selections if node.selection_set else ():
            if isinstance(part, graphql.FieldNode) and part.name.value == "nodes":
                nodes = _value_of(part, found)
                entry = self._object(part, graphql.get_named_type(kind.fields["nodes"].type), nodes)
                points += _length(nodes, self._size(node) or 1) * entry
        return points

    def _object(self, node: graphql.FieldNode, kind: Any, data: Any) -> int:
        """Return the points of one object of a field; of a list: of the most expensive object."""
        each = [entry for entry in data if entry] if isinstance(data, list) else [data]
        return 1 + max((self.selections(node.selection_set, kind, entry) for entry in each), default=0)

    def _size(self, node: graphql.FieldNode) -> int | None:
        """Return the requested size of a list, from ``first`` or ``ids``; None for any other field."""
        for argument in node.arguments or ():
            if argument.name.value in ("first", "ids"):
                given = graphql.value_from_ast_untyped(argument.value, dict(self.variables))
                if isinstance(given, list):
                    return len(given)
                return given if isinstance(given, int) else 1
        return None


def _value_of(node: graphql.FieldNode, data: Any) -> Any:
    return data.get(node.alias.value if node.alias else node.name.value) if isinstance(data, dict) else None


def _length(data: Any, requested: int) -> int:
    return len(data) if isinstance(data, list) else requested


@dataclass(slots=True)
class Bucket:
    """Points left, restored at ``restore_per_second`` up to ``maximum``. Defaults: the Standard plan's."""

    clock: Callable[[], float]
    maximum: float = 2000.0
    restore_per_second: float = 100.0
    available: float = 2000.0
    at: float = 0.0

    def take(self, points: float) -> bool:
        now = self.clock()
        self.available = min(self.maximum, self.available + (now - self.at) * self.restore_per_second)
        self.at = now
        if self.available < points:
            return False
        self.available -= points
        return True

    def give_back(self, points: float) -> None:
        """Return points to the bucket that a call reserved and did not use."""
        self.available = min(self.maximum, self.available + points)

    def set(self, request: dict[str, Any]) -> None:
        """Set the given values. A negative ``available`` throttles every call until it has recovered."""
        self.maximum = float(request.get("maximum", self.maximum))
        self.restore_per_second = float(request.get("restore_per_second", self.restore_per_second))
        self.available = float(request.get("available", self.maximum))
        self.at = self.clock()

    def describe(self, requested: int, actual: int | None) -> dict[str, Any]:
        """Return the ``extensions`` of an answer."""
        status = {
            "maximumAvailable": self.maximum,
            "currentlyAvailable": max(0, int(self.available)),
            "restoreRate": self.restore_per_second,
        }
        cost = {"requestedQueryCost": requested, "actualQueryCost": actual, "throttleStatus": status}
        return {"cost": cost}
