"""Audit summaries of stock: which change took a level from which figure to which. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.audit.chain import Mutation
from services.ledger.describe import Change, Owner, split_change
from services.ledger.work import WorkItem
from services.shopify.stock.levels import ItemKey, Level, LevelChange, Movement, SkuKey

LevelStep = tuple[Level, Change]
"""A level and one change of its figure."""


def describe_level(level: Level, step: Change | LevelChange, why: str) -> Mutation:
    """Return a level's change: ``stock of SKU-1 at location 7 12 -> 9 by order #1001``."""
    summary = f"{level.label} {step.before} -> {step.after} by {why}"
    return level_mutation(level, summary, {"available": step.before}, {"available": step.after})


def describe_disconnection(level: Level, before: datetime | None, after: datetime | None) -> Mutation:
    """Return that a level is not stocked any more, or is stocked again where ``after`` is None."""
    summary = f"{level.label}: {'stocked again' if after is None else 'not stocked any more'}"
    return level_mutation(level, summary, {"disconnected_at": before}, {"disconnected_at": after})


def describe_sku_change(level: Level, old_sku: str, figure: Change) -> Mutation:
    """Return that a level got another SKU, and with it another figure where the SKUs' movements differ."""
    before: dict[str, Any] = {"sku": old_sku}
    after: dict[str, Any] = {"sku": level.sku}
    summary = f"{level._replace(sku='').label}: sku {old_sku or 'unknown'} -> {level.sku or 'unknown'}"
    if figure.before != figure.after:
        before["available"], after["available"] = figure
        summary += f", {figure.before} -> {figure.after}"
    return level_mutation(level, summary, before, after)


def describe_recounts(
    mutations: dict[int, list[Mutation]],
    changes: Iterable[LevelChange],
    of_item: Mapping[ItemKey, WorkItem],
    of_sku: Mapping[SkuKey, WorkItem],
) -> None:
    """Add ``changes`` to ``mutations``: to the work item of the level's item, else to that of its SKU."""
    for change in changes:
        item = of_item.get(change.level.key.item) or of_sku[change.level.sku_key]
        row = describe_level(change.level, change, "a new count of its item")
        mutations.setdefault(item.id, []).append(row)


def plan_level_steps(
    changes: Collection[LevelChange], moves: Sequence[tuple[Owner, Movement]]
) -> dict[Owner, list[LevelStep]]:
    """Return the steps of ``changes`` that each owner's movements made, in the order of ``moves``.

    Each step of a level begins where the one before ends. A recounted level has one step, of the last owner
    whose movement is among its sources.
    """
    owners = {(m[1].shop_id, m[1].source): (place, *m) for place, m in enumerate(moves)}
    steps: dict[Owner, list[LevelStep]] = {}
    for change in changes:
        level, whole = change.level, Change(change.before, change.after)
        path = sorted(owners[level.shop_id, source] for source in change.sources.split())
        # The pieces of one movement are not the change of a recount: the last owner has all of it.
        moved = [(owner, move.delta) for _, owner, move in (path[-1:] if change.is_recount else path)]
        for owner, step in split_change(whole, moved).items():
            steps.setdefault(owner, []).append((level, step))
    return steps


def describe_observation(
    level: Level, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> Mutation:
    """Return what Shopify's figure changed in a level; ``before`` is None where the level is new.

    Both hold ``available``, ``observed_available``, ``observed_at``, ``shopify_available`` and ``sku``.
    """
    count = after["observed_available"]
    if before is None:
        return level_mutation(level, f"{level.label} recorded: {count}", None, dict(after))
    changed = {name: value for name, value in after.items() if before[name] != value}
    parts = [f"Shopify counted {count} (was {before['observed_available']})"]
    if "sku" in changed:
        parts.append(f"sku {before['sku'] or 'unknown'} -> {after['sku'] or 'unknown'}")
    if "available" in changed:
        parts.append(f"{before['available']} -> {after['available']}")
    old = {name: before[name] for name in changed}
    return level_mutation(level, f"{level.label}: {', '.join(parts)}", old, changed)


def describe_push(
    level: Level, result: str, available: int, change_from: int | None, known: int | None
) -> Sequence[Mutation]:
    """Return the result of a push: Shopify holds ``available``. Empty where nothing changed.

    ``known`` is what the row held before. A push that set the figure is always shown, as it changed the shop.
    """
    if result == "pushed":
        was = "" if change_from is None else f" (was {change_from})"
        summary = f"pushed to Shopify: {level.label} is {available}{was}"
    elif known == available:
        return ()
    elif result == "in_sync":
        summary = f"Shopify holds {available} already: {level.label}"
    else:
        summary = f"Shopify holds {available}, not {change_from}: {level.label} is left to a later push"
    if known == available:
        return [level_mutation(level, summary, None, None)]
    return [level_mutation(level, summary, {"shopify_available": known}, {"shopify_available": available})]


def level_mutation(
    level: Level, summary: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Mutation:
    """Return a change of the row of ``level``."""
    return Mutation("inventory_levels", level.key.row_id, summary, before, after)
