"""GraphQL objects of one shop of the sandbox, read from the bodies of its webhooks.

A field has the value of the webhook's field of the same name, written as the field's type requires:
``createdAt`` is ``created_at`` in UTC, ``totalPriceSet`` is ``total_price_set`` or ``total_price`` as a
MoneyBag. ``fields.FIELDS`` lists the others. A field without a value that must have one is
empty, zero or ``LONG_AGO``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from graphql import (
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)

from services.sandbox.shopify.fields import FIELDS
from services.sandbox.shopify.records import Body
from services.sandbox.shopify.values import Node, bag, enum, gid, instant

if TYPE_CHECKING:
    from services.sandbox.shopify.graph import Graph

LONG_AGO = "2020-01-01T00:00:00Z"
"""When an object was made or changed whose webhook has no time."""

_EMPTY: Mapping[str, Any] = MappingProxyType({"Boolean": False, "DateTime": LONG_AGO, "Int": 0, "String": ""})
_TRUE_BY_DEFAULT = frozenset(("active", "confirmed", "requires_shipping", "taxable", "tracked"))
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class WebhookNode:
    """A GraphQL object of the type ``kind``. ``currency`` is that of amounts whose body names none."""

    kind: str
    body: Body
    graph: "Graph"
    currency: str = ""

    @property
    def __typename(self) -> str:
        """What graphql-core reads to tell the type behind an interface."""
        return self.kind

    def get(self, name: str, **args: Any) -> Any:
        """Return the field ``name`` for the arguments ``args``; None where the type has no such field."""
        special = FIELDS.get(f"{self.kind}.{name}")
        if special is not None and not isinstance(special, str):
            return special(self, **args)
        if name == "id":
            return gid(self.kind, self.body["id"]) if self.body.get("id") else None
        if name == "legacyResourceId":
            return str(self.body["id"])
        field = self.graph.fields_of(self.kind).get(name)
        if field is None:
            return None
        return self._read(field.type, special or _WORD_START.sub("_", name).lower())

    def child(self, kind: str, body: Body) -> "WebhookNode":
        """Return an object inside this one, in the same currency unless ``body`` names another."""
        return WebhookNode(kind, body, self.graph, body.get("currency") or self.currency)

    def money(self, price_set: str, price: str) -> Node:
        """Return the MoneyBag of two fields of the body."""
        return bag(self.body.get(price_set), self.body.get(price), self.currency)

    def _read(self, field_type: Any, key: str) -> Any:
        named = get_named_type(field_type)
        if named.name == "MoneyBag":
            price = key.removesuffix("_set")
            is_known = self.body.get(f"{price}_set") or self.body.get(price) is not None
            return self.money(f"{price}_set", price) if is_known or is_non_null_type(field_type) else None
        value, kind = self.body.get(key), named.name.removesuffix("Connection")
        if kind != named.name or is_list_type(get_nullable_type(field_type)):
            return [entry if is_leaf_type(named) else self.child(kind, entry) for entry in value or ()]
        if value is None:
            return key in _TRUE_BY_DEFAULT or (_EMPTY.get(kind) if is_non_null_type(field_type) else None)
        if is_enum_type(named):
            return enum(value)
        if kind == "DateTime":
            return instant(value)
        return value if is_leaf_type(named) else self.child(kind, value)
