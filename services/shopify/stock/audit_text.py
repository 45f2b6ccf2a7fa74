"""Audit summaries of stock: the cause of each change of a level, and its figures. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.audit.chain import Mutation
from services.ledger.audit_text import FigureChange, Owner, split_change
from services.ledger.work import WorkItem
from services.shopify.stock.levels import ItemKey, Level, LevelChange, Movement, SkuKey

LevelStep = tuple[Level, FigureChange]
"""A level and one change of its figure."""


def describe_level(level: Level, step: FigureChange | LevelChange, why: str) -> Mutation:
    """Return the mutation of a level: ``stock of SKU-1 at location 7 12 -> 9 by order #1001``."""
    summary = f"{level.label} {step.before} -> {step.after} by {why}"
    return level_mutation(level, summary, {"available": step.before}, {"available": step.after})


def describe_disconnection(level: Level, before: datetime | None, after: datetime | None) -> Mutation:
    """Return the mutation of a level that is no longer stocked; stocked again if ``after`` is None."""
    summary = f"{level.label}: {'stocked again' if after is None else 'no longer stocked'}"
    return level_mutation(level, summary, {"disconnected_at": before}, {"disconnected_at": after})


def describe_sku_change(level: Level, old_sku: str, figure: FigureChange) -> Mutation:
    """Return the mutation of a level with another SKU, and another figure if the SKUs' movements differ."""
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
    """Add ``changes`` to the mutations of the work item of the level's item, or else of its SKU."""
    for change in changes:
        item = of_item.get(change.level.key.item) or of_sku[change.level.sku_key]
        row = describe_level(change.level, change, "a recount of its item")
        mutations.setdefault(item.id, []).append(row)


def plan_level_steps(
    changes: Collection[LevelChange], moves: Sequence[tuple[Owner, Movement]]
) -> dict[Owner, list[LevelStep]]:
    """Return the steps of ``changes`` that each owner's movements made, in the order of ``moves``.

    Each step of a level starts at the figure of the step before. A recounted level has one step, of the last
    owner whose movement is among its sources.
    """
    owners = {(m[1].shop_id, m[1].source): (place, *m) for place, m in enumerate(moves)}
    steps: dict[Owner, list[LevelStep]] = {}
    for change in changes:
        level, whole = change.level, FigureChange(change.before, change.after)
        path = sorted(owners[level.shop_id, source] for source in change.sources.split())
        # A recount's change is not the pieces of one movement: the last owner gets all of it.
        moved = [(owner, move.delta) for _, owner, move in (path[-1:] if change.is_recount else path)]
        for owner, step in split_change(whole, moved).items():
            steps.setdefault(owner, []).append((level, step))
    return steps


def describe_observation(
    level: Level, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> Mutation:
    """Return the mutation of a level by Shopify's figure; ``before`` is None if the level is new.

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
    """Return the mutations of a push after which Shopify holds ``available``; empty if nothing changed.

    ``known`` is the figure in the row before. A push that set the figure always has a mutation.
    """
    if result == "pushed":
        was = "" if change_from is None else f" (was {change_from})"
        summary = f"pushed to Shopify: {level.label} is {available}{was}"
    elif known == available:
        return ()
    elif result == "in_sync":
        summary = f"Shopify holds {available} already: {level.label}"
    else:
        summary = f"Shopify holds {available}, not {change_from}: a later push sets {level.label}"
    if known == available:
        return [level_mutation(level, summary, None, None)]
    return [level_mutation(level, summary, {"shopify_available": known}, {"shopify_available": available})]


def level_mutation(
    level: Level, summary: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Mutation:
    return Mutation("inventory_levels", level.key.row_id, summary, before, after)
