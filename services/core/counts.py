"""A number with its noun, as people read it: ``1 order``, ``2 orders``. Pure."""

import re


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Return ``count`` with thousands separators and its noun: ``1 event``, ``1,200 entries``.

    The regular plural of ``noun`` is used, of ``item of work`` that of its first part; ``plural`` replaces it
    where a noun has another one, or where a verb follows: ``format_count(n, "row is", "rows are")``.
    """
    return f"{count:,} {noun if count == 1 else plural or _form_plural(noun)}"


def _form_plural(noun: str) -> str:
    first, of, rest = noun.partition(" of ")
    if re.search("[^aeiou]y$", first):
        first = f"{first[:-1]}ie"
    elif re.search("(s|x|z|ch|sh)$", first):
        first += "e"
    return f"{first}s{of}{rest}"
