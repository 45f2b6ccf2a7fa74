"""What every effect's audit shares: who is said to have done it, and how money is said. Pure.

No text of a customer's ever goes into it: a chain cannot forget, and privacy law may ask for just that.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

from services.audit.chain import Entry, Mutation
from services.core.money import MoneyInvalid, format_minor
from services.ledger.work import WorkItem
from services.providers.registry import find_provider

Owner = TypeVar("Owner", bound=Hashable)


class Change(NamedTuple):
    """A figure went from ``before`` to ``after``."""

    before: int
    after: int


def audit_entry(item: WorkItem, mutations: Sequence[Mutation]) -> Entry:
    """Return the entry that ``item``'s event made ``mutations``; an item without an event says its topic."""
    return Entry(
        item.shop_id,
        _say_who(item.event_provider, item.origin) if item.event_provider else item.topic,
        item.event_topic or item.topic,
        item.request_id,
        mutations,
        item.id,
    )


@lru_cache(maxsize=64)
def _say_who(provider: str, origin: str) -> str:
    """Return ``shopify webhook``, ``stripe replay``, ``quo backfill``."""
    found = find_provider(provider)
    return f"{found.label if found and found.label else provider} {origin}"


def format_money(minor: int, currency: str) -> str:
    """Return an amount as a person reads it: ``45.00 CAD``; of an unknown currency its minor units."""
    try:
        return format_minor(minor, currency)
    except MoneyInvalid:
        return f"{minor} minor units of {currency or 'no currency'}"


def format_money_change(before: int, after: int, currency: str) -> str:
    """Return two amounts of one currency: ``45.00 -> 40.00 CAD``."""
    return f"{format_money(before, currency).removesuffix(f' {currency}')} -> {format_money(after, currency)}"


def split_change(way: Change, moves: Sequence[tuple[Owner, int]]) -> dict[Owner, Change]:
    """Return each owner's step of ``way``: the first begins where it begins, the last ends where it ends.

    ``moves`` are (owner, by how much), in order. Where they do not lead to the end, nobody's share is
    known: then the last owner has the whole way.
    """
    if way.before == way.after:
        return {}
    steps: dict[Owner, Change] = {}
    figure = way.before
    for owner, delta in moves:
        begun = steps[owner].before if owner in steps else figure
        figure += delta
        steps[owner] = Change(begun, figure)
    if figure != way.after or any(a.after != b.before for a, b in pairwise(steps.values())):
        return {moves[-1][0]: way} if moves else {}
    return {owner: step for owner, step in steps.items() if step.before != step.after}
