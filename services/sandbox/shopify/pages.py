"""Connections: a list filtered, sorted and cut into pages as Shopify cuts them. Pure.

A cursor contains the last node's id and its value of the sort key, not a position: a node that changes during
paging moves to its new position and appears again or later, as at Shopify.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from services.sandbox.shopify.search import read_search, sort_time
from services.sandbox.shopify.values import HasFields, Node

LARGEST_PAGE = 250
_TIMES = MappingProxyType(
    {"UPDATED_AT": "updatedAt", "CREATED_AT": "createdAt", "PROCESSED_AT": "processedAt"}
)
_WORDS = MappingProxyType({"NAME": "name", "TITLE": "title", "SKU": "sku"})

Key = tuple[Any, int]


class PageInvalid(ValueError):
    """The requested page is not valid. The message names the argument."""


def page_of(nodes: Sequence[HasFields], args: Mapping[str, Any]) -> Node:
    """Return the connection object for the arguments ``args``: first or last, after, before, query,
    sortKey and reverse."""
    size = read_size(args)
    if args.get("query"):
        is_found = read_search(args["query"])
        nodes = [node for node in nodes if is_found(node)]
    key_of = _read_key(args.get("sortKey"))
    if key_of is None:
        # Parts of an object have no sort key: they stay in its order, and their place is the key.
        keyed: list[tuple[Key, HasFields]] = [((0, place), node) for place, node in enumerate(nodes)]
    else:
        keyed = sorted(((key_of(node), node) for node in nodes), key=lambda pair: pair[0])
    if args.get("reverse"):
        keyed.reverse()
    keyed = _between(keyed, args)
    is_backwards = args.get("first") is None
    page = keyed[-size:] if is_backwards else keyed[:size]
    has_more = len(keyed) > size
    cursors = [_write_cursor(key) for key, _ in page]
    return {
        "nodes": [node for _, node in page],
        "edges": [{"cursor": cursor, "node": node} for cursor, (_, node) in zip(cursors, page, strict=True)],
        "pageInfo": {
            "hasNextPage": bool(args.get("before")) if is_backwards else has_more,
            "hasPreviousPage": has_more if is_backwards else bool(args.get("after")),
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def read_size(args: Mapping[str, Any]) -> int:
    """Return how many nodes a page has; raise ``PageInvalid`` where Shopify refuses."""
    first, last = args.get("first"), args.get("last")
    if (first is None) == (last is None):
        raise PageInvalid("you must provide one of first or last")
    size = int(last if first is None else first)  # type: ignore[arg-type] # one of them is a number
    if not 1 <= size <= LARGEST_PAGE:
        raise PageInvalid(f"{'last' if first is None else 'first'}={size} should be from 1 to {LARGEST_PAGE}")
    return size


def _read_key(sort_key: str | None) -> Callable[[HasFields], Key] | None:
    if sort_key in (None, "POSITION"):
        return None
    if sort_key in _TIMES:
        field = _TIMES[sort_key]
        return lambda node: (sort_time(node, field), _number_of(node))
    if sort_key in _WORDS:
        field = _WORDS[sort_key]
        return lambda node: (str(node.get(field) or ""), _number_of(node))
    if sort_key in ("ID", "RELEVANCE"):
        return lambda node: (0, _number_of(node))
    raise PageInvalid(f"sortKey={sort_key}: the sandbox cannot sort by it")


def _between(keyed: list[tuple[Key, HasFields]], args: Mapping[str, Any]) -> list[tuple[Key, HasFields]]:
    is_reverse = bool(args.get("reverse"))
    for name in ("after", "before"):
        if args.get(name):
            mark = _read_cursor(args[name])
            wants_larger = (name == "after") != is_reverse
            keyed = [pair for pair in keyed if (pair[0] > mark if wants_larger else pair[0] < mark)]
    return keyed


def _number_of(node: HasFields) -> int:
    # A level's id is its location's, and its item's behind the question mark: both make it.
    number, _, item = node.get("id").rpartition("/")[2].partition("?inventory_item_id=")
    return int(number) << 64 | int(item) if item else int(number)


def _write_cursor(key: Key) -> str:
    return base64.b64encode(orjson.dumps({"last_id": str(key[1]), "last_value": key[0]})).decode()


def _read_cursor(text: str) -> Key:
    try:
        read = orjson.loads(base64.b64decode(text, validate=True))
        return read["last_value"], int(read["last_id"])
    except (ValueError, KeyError, TypeError):
        raise PageInvalid(f"{text!r} is no cursor of this list") from None
