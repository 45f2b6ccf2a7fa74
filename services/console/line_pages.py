"""Pages of lines with a filter by state, a search field and page numbers, read from the query."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import request

PER_PAGE = 100


class StateFilter(NamedTuple):
    """A link that filters by one state, with the number of lines in it; ``state`` is empty for all."""

    state: str
    size: int
    is_current: bool


class LinePage(NamedTuple):
    """The lines of one page, and the numbers of the page, of all pages and of all lines."""

    lines: Sequence[Any]
    number: int
    last: int
    total: int


def read_states(known: Sequence[str]) -> list[str]:
    """Return the states of ``?state=``, without unknown ones; an empty list is all."""
    given = {name for value in request.args.getlist("state") for name in value.split(",")}
    return [state for state in known if state in given]


def list_filters(counts: dict[str, int], wanted: Sequence[str]) -> list[StateFilter]:
    """Return a filter for all lines, and one for each state."""
    every = StateFilter("", sum(counts.values()), not wanted)
    return [every, *(StateFilter(state, count, state in wanted) for state, count in counts.items())]


def make_page(lines: Iterable[Any]) -> LinePage:
    """Return the page ``?page=`` of ``lines``; a number past the end is the last page."""
    every = list(lines)
    last = max(1, -(-len(every) // PER_PAGE))
    given = request.args.get("page", "1")
    number = min(max(1, int(given)), last) if given.isascii() and given.isdigit() and len(given) < 7 else 1
    return LinePage(every[(number - 1) * PER_PAGE : number * PER_PAGE], number, last, len(every))


def change_query(**values: str | int) -> str:
    """Return this page's address with ``values`` in its query; an empty one is left out."""
    kept = {name: value for name, value in request.args.items() if name not in {*values, "page"}}
    query = urlencode({name: value for name, value in (kept | values).items() if value != ""})
    return f"{request.path}?{query}" if query else request.path
