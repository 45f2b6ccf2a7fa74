"""Connections: lists that are searched, sorted and paged as at Shopify. Pure.

A cursor contains the last node's id and its value of the sort key, not a position: a node that changes during
paging moves to its new position and can appear twice, as at Shopify.

Searches (https://shopify.dev/docs/api/usage/search-syntax) are comparisons of ``updated_at``, and for orders
``status:open``, joined by AND. Shopify ignores an unknown filter and lists everything; the sandbox refuses
it.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt
from typing import Any

import orjson

from services.sandbox.shopify.values import Node, utc_text

LARGEST_PAGE = 250
_TIMES: Mapping[str, str] = {"UPDATED_AT": "updatedAt", "PROCESSED_AT": "processedAt"}
_TERM = re.compile(
    r"""\s*(?:AND\s+)?(?:status:(open)|updated_at:\s*(>=|<=|>|<)?\s*('[^']*'|"[^"]*"|[^\s'"()]+))(?=\s|$)"""
)
_COMPARE: Mapping[str | None, Callable[[str, str], bool]] = {None: eq, ">=": ge, "<=": le, ">": gt, "<": lt}

Key = tuple[Any, int]


def page_of(nodes: Sequence[Any], args: Mapping[str, Any], *, is_bulk: bool = False) -> Node:
    """Return the connection for first, after, query and sortKey; ``ValueError`` names a wrong argument.

    In a bulk operation the page has all nodes.
    """
    size = len(nodes) if is_bulk else args.get("first")
    if size is None:
        raise ValueError("you must provide one of first or last")
    if not is_bulk and not 1 <= size <= LARGEST_PAGE:
        raise ValueError(f"first={size} should be from 1 to {LARGEST_PAGE}")
    tests = _read_search(args.get("query") or "")
    found = [node for node in nodes if all(test(node) for test in tests)]
    keyed = [(_key_of(args.get("sortKey"), node, place), node) for place, node in enumerate(found)]
    keyed.sort(key=lambda pair: pair[0])
    if args.get("after"):
        cursor = _read_cursor(args["after"])
        keyed = [pair for pair in keyed if pair[0] > cursor]
    page = keyed[:size]
    return {
        "nodes": [node for _, node in page],
        "edges": [{"node": node} for _, node in page],
        "pageInfo": {
            "hasNextPage": len(keyed) > size,
            "endCursor": _write_cursor(page[-1][0]) if page else None,
        },
    }


def _key_of(sort_key: str | None, node: Any, place: int) -> Key:
    """Return the sort key of ``node``; parts of an object have none and stay at their ``place``."""
    if sort_key is None:
        return 0, place
    # The id of a level consists of its location's and, after the question mark, its item's.
    number, _, item = node.get("id").rpartition("/")[2].partition("?inventory_item_id=")
    combined = int(number) << 64 | int(item) if item else int(number)
    return (_time_of(node, _TIMES[sort_key]) if sort_key in _TIMES else 0), combined


def _time_of(node: Any, field: str) -> str:
    """Return the time by which lists find and sort ``node``; a change of its parts counts."""
    return str(node.get(f"_{field}") or node.get(field))


def _read_search(text: str) -> list[Callable[[Any], bool]]:
    """Return tests of a node, all of which must hold."""
    tests: list[Callable[[Any], bool]] = []
    rest = text.strip()
    while rest:
        found = _TERM.match(rest)
        if found is None:
            wanted = "should be comparisons of updated_at or status:open, joined by AND"
            raise ValueError(f"search {text!r}: {rest!r} {wanted}")
        if found[1]:
            tests.append(lambda node: bool(node.get("_isOpen")))
        else:
            tests.append(_comparison(_COMPARE[found[2]], _read_time(found[3].strip("'\""))))
        rest = rest[found.end() :]
    return tests


def _comparison(compare: Callable[[str, str], bool], at: str) -> Callable[[Any], bool]:
    return lambda node: compare(_time_of(node, "updatedAt"), at)


def _read_time(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"search time {value!r} should be such as 2026-11-20T00:00:00Z") from None
    return utc_text(at if at.tzinfo else at.replace(tzinfo=UTC))


def _write_cursor(key: Key) -> str:
    return base64.b64encode(orjson.dumps({"last_id": str(key[1]), "last_value": key[0]})).decode()


def _read_cursor(text: str) -> Key:
    try:
        read = orjson.loads(base64.b64decode(text, validate=True))
        return read["last_value"], int(read["last_id"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{text!r} is no cursor of this list") from None
