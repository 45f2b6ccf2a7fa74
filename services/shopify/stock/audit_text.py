"""What the audit says of stock: whose movement took a level from which figure to which. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.audit.chain import Mutation
from services.ledger.describe import Change, Owner, split_change
from services.shopify.stock.levels import Level, LevelChange, Movement

LevelStep = tuple[Level, Change]
"""A level, and the step that its figure took."""


def level_row_id(level: Level) -> str:
    """Return a level's ``row_id`` in the audit: ``item:location``."""
    return f"{level.inventory_item_id}:{level.location_id}"


def level_label(sku: str, inventory_item_id: int, location_id: int) -> str:
    """Return how people call a level: ``stock of SKU-1 at location 655441491``."""
    return f"stock of {sku or f'item {inventory_item_id}'} at location {location_id}"


def describe_level(level: Level, step: Change, why: str) -> Mutation:
    """Return that a level's figure took ``step``: ``stock of SKU-1 at location 7 12 -> 9 by order #1001``."""
    label = level_label(level.sku, level.inventory_item_id, level.location_id)
    return Mutation(
        "inventory_levels",
        level_row_id(level),
        f"{label} {step.before} -> {step.after} by {why}",
        {"available": step.before},
        {"available": step.after},
    )


def describe_level_change(shift: LevelChange, why: str) -> Mutation:
    """Return that a level was counted anew."""
    return describe_level(shift.level, Change(shift.before, shift.after), why)


def describe_disconnection(level: Level, before: datetime | None, after: datetime | None) -> Mutation:
    """Return that a level left the shelf, or came back where ``after`` is None."""
    label = level_label(level.sku, level.inventory_item_id, level.location_id)
    said = "on the shelf again" if after is None else "off the shelf"
    return Mutation(
        "inventory_levels",
        level_row_id(level),
        f"{label}: {said}",
        {"disconnected_at": before},
        {"disconnected_at": after},
    )


def describe_sku_change(level: Level, old_sku: str, figure: Change) -> Mutation:
    """Return that a level took another sku, and its figure with it where the skus' movements differ."""
    label = level_label("", level.inventory_item_id, level.location_id)
    before: dict[str, Any] = {"sku": old_sku}
    after: dict[str, Any] = {"sku": level.sku}
    summary = f"{label}: sku {old_sku or 'unknown'} -> {level.sku or 'unknown'}"
    if figure.before != figure.after:
        before["available"], after["available"] = figure
        summary += f", {figure.before} -> {figure.after}"
    return Mutation("inventory_levels", level_row_id(level), summary, before, after)


def plan_level_steps(
    shifts: Collection[LevelChange], moves: Sequence[tuple[Owner, Movement]]
) -> dict[Owner, list[LevelStep]]:
    """Return the steps that each owner's movements made of ``shifts``, in the order of ``moves``.

    The steps of one level join up: where one ends the next begins. A level that was counted anew is one
    step, of the last owner who had a hand in it.
    """
    hands = {(m[1].shop_id, m[1].source): (place, *m) for place, m in enumerate(moves)}
    steps: dict[Owner, list[LevelStep]] = {}
    for shift in shifts:
        level, before, after, sources, is_recount, _ = shift
        if " " not in sources:
            steps.setdefault(hands[level.shop_id, sources][1], []).append((level, Change(before, after)))
            continue
        path = sorted(hands[level.shop_id, source] for source in sources.split())
        # Where it was counted anew, a movement's pieces are not what it changed by: the last one has all.
        moved = [(owner, move.delta) for _, owner, move in (path[-1:] if is_recount else path)]
        for owner, step in split_change(Change(before, after), moved).items():
            steps.setdefault(owner, []).append((level, step))
    return steps


def describe_observation(
    label: str, row_id: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> Mutation:
    """Return what Shopify's count of a level changed; ``before`` None where the level is new.

    Both hold ``available``, ``observed_available``, ``observed_at``, ``shopify_available`` and ``sku``.
    """
    count = after["observed_available"]
    if before is None:
        return Mutation("inventory_levels", row_id, f"{label} recorded: {count}", None, after)
    changed = {name: value for name, value in after.items() if before[name] != value}
    said = [f"Shopify counted {count} (was {before['observed_available']})"]
    if "sku" in changed:
        said.append(f"sku {before['sku'] or 'unknown'} -> {after['sku'] or 'unknown'}")
    if "available" in changed:
        said.append(f"{before['available']} -> {after['available']}")
    return Mutation(
        "inventory_levels",
        row_id,
        f"{label}: {', '.join(said)}",
        {name: before[name] for name in changed},
        changed,
    )


def describe_push(
    level: Level, verdict: str, there: int, change_from: int | None, known: int | None
) -> Sequence[Mutation]:
    """Return what a push's answer came to: Shopify holds ``there``; nothing where nothing changed.

    ``known`` is what the row held before it learned that. A push that went through is told even where
    the row knew better by then: it changed the shop.
    """
    label = level_label(level.sku, level.inventory_item_id, level.location_id)
    if verdict == "pushed":
        was = "" if change_from is None else f" (was {change_from})"
        summary = f"Shopify told: {label} is {there}{was}"
    elif known == there:
        return ()
    elif verdict == "in_sync":
        summary = f"Shopify holds {there} already: {label}"
    else:
        summary = f"Shopify holds {there}, not {change_from}: {label} is left to a later push"
    row = Mutation("inventory_levels", level_row_id(level), summary)
    if known == there:
        return [row]
    return [row._replace(before={"shopify_available": known}, after={"shopify_available": there})]
