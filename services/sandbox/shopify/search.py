"""Shopify's search syntax, as far as lists of the sandbox know it: comparisons joined by AND. Pure.

https://shopify.dev/docs/api/usage/search-syntax. Shopify ignores a filter that it does not know and lists
everything; the sandbox refuses it, since nobody means that.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any

from services.sandbox.shopify.values import HasFields, utc_text

_TERM = re.compile(r"""\s*(?:AND\s+)?(-)?(\w+):\s*(>=|<=|>|<)?\s*('[^']*'|"[^"]*"|[^\s'"()]+)(?=\s|$)""")
_TIMES = MappingProxyType(
    {"updated_at": "updatedAt", "created_at": "createdAt", "processed_at": "processedAt"}
)
_WORDS = MappingProxyType(
    {
        "financial_status": "displayFinancialStatus",
        "fulfillment_status": "displayFulfillmentStatus",
        "name": "name",
        "sku": "sku",
        "status": "status",
        "title": "title",
        "topic": "topic",
    }
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"": eq, ">=": ge, "<=": le, ">": gt, "<": lt}
)

Test = Callable[[HasFields], bool]


class SearchInvalid(ValueError):
    """A search that the sandbox cannot answer. The message names the term."""


def read_search(text: str) -> Test:
    """Return what tells whether a node is found by ``text``; an empty one finds all."""
    tests: list[Test] = []
    place = 0
    stripped = text.strip()
    while place < len(stripped):
        found = _TERM.match(stripped, place)
        if found is None:
            raise SearchInvalid(f"search {text!r}: {stripped[place:]!r} should be field:value, joined by AND")
        tests.append(_read_term(found[1] == "-", found[2], found[3] or "", found[4].strip("'\"")))
        place = found.end()
    return lambda node: all(test(node) for test in tests)


def sort_time(node: HasFields, field: str) -> str:
    """Return the time by which lists find and sort ``node``; a change of its parts counts as its own."""
    return str(node.get(f"_{field}") or node.get(field))


def _read_term(is_negated: bool, name: str, sign: str, value: str) -> Test:
    compare = _COMPARE[sign]
    if name in _TIMES:
        field, wanted = _TIMES[name], _read_time(value)
        test: Test = lambda node: compare(sort_time(node, field), wanted)  # noqa: E731
    elif name == "id":
        number = _read_number(value)
        test = lambda node: compare(_number_of(node), number)  # noqa: E731
    elif name == "status" and value.lower() in ("any", "open", "closed", "cancelled", "not_closed"):
        test = _ORDER_STATUS[value.lower()]
    elif name in _WORDS and not sign:
        field, word = _WORDS[name], value.lower()
        test = lambda node: str(node.get(field) or "").lower() == word  # noqa: E731
    else:
        raise SearchInvalid(f"search term {name}:{sign}{value}: the sandbox cannot search by it")
    return (lambda node: not test(node)) if is_negated else test


def _read_time(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise SearchInvalid(f"search time {value!r} should be such as 2026-11-20T00:00:00Z") from None
    return utc_text(at if at.tzinfo else at.replace(tzinfo=UTC))


def _read_number(value: str) -> int:
    number = value.rpartition("/")[2]
    if not number.isdecimal():
        raise SearchInvalid(f"search id {value!r} should be a number")
    return int(number)


def _number_of(node: HasFields) -> int:
    return int(node.get("id").partition("?")[0].rpartition("/")[2])


_ORDER_STATUS: Mapping[str, Test] = MappingProxyType(
    {
        "any": lambda node: True,  # noqa: ARG005
        "open": lambda node: node.get("closedAt") is None and node.get("cancelledAt") is None,
        "not_closed": lambda node: node.get("closedAt") is None,
        "closed": lambda node: node.get("closedAt") is not None,
        "cancelled": lambda node: node.get("cancelledAt") is not None,
    }
)
