"""Audit texts that all effects share: the author, amounts of money, and shares of a change. Pure.

They never contain text from a customer: a chain keeps every entry, and privacy law may require its deletion.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

from services.audit.chain import AuditEntry, Mutation
from services.core.counts import format_count
from services.core.money import MoneyInvalid, format_minor
from services.ledger.work import WorkItem
from services.providers.registry import find_provider

Owner = TypeVar("Owner", bound=Hashable)


class FigureChange(NamedTuple):
    """A change of a figure."""

    before: int
    after: int


def audit_entry(item: WorkItem, mutations: Sequence[Mutation]) -> AuditEntry:
    """Return the audit entry of ``item`` with ``mutations``; without an event, its topic is the author."""
    return AuditEntry(
        item.shop_id,
        _format_author(item.event_provider, item.origin) if item.event_provider else item.topic,
        item.event_topic or item.topic,
        item.request_id,
        mutations,
        item.id,
    )


@lru_cache(maxsize=64)
def _format_author(provider: str, origin: str) -> str:
    """Return ``shopify webhook``, ``stripe replay``, ``quo backfill``."""
    found = find_provider(provider)
    return f"{found.label if found and found.label else provider} {origin}"


def format_money(minor: int, currency: str) -> str:
    """Return an amount such as ``45.00 CAD``; for an unknown currency its minor units."""
    try:
        return format_minor(minor, currency)
    except MoneyInvalid:
        return f"{format_count(minor, 'minor unit')} of {currency or 'no currency'}"


def format_money_change(before: int, after: int, currency: str) -> str:
    """Return two amounts of one currency: ``45.00 -> 40.00 CAD``."""
    return f"{format_money(before, currency).removesuffix(f' {currency}')} -> {format_money(after, currency)}"


def split_change(change: FigureChange, moves: Sequence[tuple[Owner, int]]) -> dict[Owner, FigureChange]:
    """Return each owner's step of ``change``, from ``moves``: pairs (owner, difference) in order.

    If the moves do not add up to ``change``, the shares are unknown, and the last owner gets all of it.
    """
    if change.before == change.after:
        return {}
    if len(moves) == 1:  # nearly always
        return {moves[0][0]: change}
    steps: dict[Owner, FigureChange] = {}
    figure = change.before
    for owner, delta in moves:
        start = steps[owner].before if owner in steps else figure
        figure += delta
        steps[owner] = FigureChange(start, figure)
    if figure != change.after or any(a.after != b.before for a, b in pairwise(steps.values())):
        return {moves[-1][0]: change} if moves else {}
    return {owner: step for owner, step in steps.items() if step.before != step.after}
