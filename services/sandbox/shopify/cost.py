"""What a GraphQL query costs at Shopify, before and after it ran, in points. Pure.

Rules: https://shopify.dev/docs/api/usage/limits. A scalar is free, an object 1, a mutation 10, an interface
the dearest of its fragments, a connection is sized by ``first`` or ``last``. Here as in Shopify's own
account of it (2 for the connection, and its size times a node) sizes multiply. The service itself charges
less for large connections by now (https://community.shopify.dev/t/23101), by a rule that it does not
publish: what the sandbox lets through, Shopify does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_leaf_type,
    is_object_type,
)

MUTATION_POINTS = 10
CONNECTION_POINTS = 2
MOST_POINTS = 1000
"""More than a single query may ask for, whatever the bucket holds."""

Fragments = Mapping[str, FragmentDefinitionNode]


@dataclass(frozen=True, slots=True)
class Tariff:
    """How calls are charged."""

    schema: GraphQLSchema

    def requested(
        self, operation: OperationDefinitionNode, fragments: Fragments, variables: Mapping[str, Any]
    ) -> int:
        """Return the most that ``operation`` can cost."""
        return self._operation(operation, _Reading(fragments, variables, None))

    def actual(
        self,
        operation: OperationDefinitionNode,
        fragments: Fragments,
        variables: Mapping[str, Any],
        data: Mapping[str, Any],
    ) -> int:
        """Return what ``operation`` cost that answered with ``data``."""
        return self._operation(operation, _Reading(fragments, variables, data))

    def _operation(self, operation: OperationDefinitionNode, reading: "_Reading") -> int:
        root = self.schema.get_root_type(operation.operation)
        if operation.operation == OperationType.MUTATION:
            return MUTATION_POINTS * len(operation.selection_set.selections)
        return max(1, self._selections(operation.selection_set, root, reading))

    def _selections(self, selections: SelectionSetNode | None, parent: Any, reading: "_Reading") -> int:
        total, dearest = 0, 0
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                total += self._field(node, parent, reading)
                continue
            fragment: Any = (
                reading.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            )
            condition = fragment.type_condition
            kind = self.schema.get_type(condition.name.value) if condition else parent
            points = self._selections(fragment.selection_set, kind, reading)
            if is_object_type(parent):
                total += points
            else:
                dearest = max(dearest, points)
        return total + dearest

    def _field(self, node: FieldNode, parent: Any, reading: "_Reading") -> int:
        name = node.name.value
        if name.startswith("__"):
            return 0
        kind = get_named_type(parent.fields[name].type)
        if is_leaf_type(kind):
            return 0
        inside = reading.into(node.alias.value if node.alias else name)
        if inside.data is None and reading.data is not None:
            return 1
        if kind.name.endswith("Connection"):
            return CONNECTION_POINTS + inside.count(node) * self._page(node, kind, inside)
        per_object = 1 + self._dearest(node.selection_set, kind, inside)
        size = inside.size(node)
        return per_object if size is None else size * per_object

    def _page(self, node: FieldNode, kind: Any, reading: "_Reading") -> int:
        """Return what one node of a connection costs."""
        points = 0
        for part in node.selection_set.selections if node.selection_set else ():
            if not isinstance(part, FieldNode) or part.name.value == "pageInfo":
                continue
            inside = reading.into(part.alias.value if part.alias else part.name.value)
            its_kind = get_named_type(kind.fields[part.name.value].type)
            if part.name.value == "edges":
                points += self._page(part, its_kind, inside.flat("node"))
            elif not is_leaf_type(its_kind):
                points += 1 + self._dearest(part.selection_set, its_kind, inside)
        return points

    def _dearest(self, selections: SelectionSetNode | None, kind: Any, reading: "_Reading") -> int:
        if isinstance(reading.data, list):
            each = [
                self._selections(selections, kind, reading.over(entry)) for entry in reading.data if entry
            ]
            return max(each, default=0)
        return self._selections(selections, kind, reading)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where in the answer the query is being read; ``data`` is None before there is an answer."""

    fragments: Fragments
    variables: Mapping[str, Any]
    data: Any

    def over(self, data: Any) -> "_Reading":
        return _Reading(self.fragments, self.variables, data)

    def into(self, key: str) -> "_Reading":
        return self.over(self.data.get(key) if isinstance(self.data, dict) else None)

    def flat(self, key: str) -> "_Reading":
        """Return the answer's edges as their nodes, under the name that a page reads."""
        if not isinstance(self.data, list):
            return self
        return self.over({key: [edge[key] for edge in self.data if key in edge]})

    def count(self, node: FieldNode) -> int:
        """Return how many nodes a connection has, or may have."""
        if isinstance(self.data, dict):
            lists = [part for part in self.data.values() if isinstance(part, list)]
            return len(lists[0]) if lists else 0
        return self._argument(node, "first") or self._argument(node, "last") or 1

    def size(self, node: FieldNode) -> int | None:
        """Return how many objects a list that is requested by number or by ids has; None for any other."""
        if isinstance(self.data, list):
            return (
                len(self.data)
                if {"first", "ids"} & {one.name.value for one in node.arguments or ()}
                else None
            )
        return self._argument(node, "first") or self._argument(node, "ids")

    def _argument(self, node: FieldNode, name: str) -> int | None:
        for argument in node.arguments or ():
            if argument.name.value == name:
                value = argument.value
                if isinstance(value, VariableNode):
                    given = self.variables.get(value.name.value)
                    return len(given) if isinstance(given, Sequence) else given
                if isinstance(value, ListValueNode):
                    return len(value.values)
                return int(value.value) if isinstance(value, IntValueNode) else None
        return None
