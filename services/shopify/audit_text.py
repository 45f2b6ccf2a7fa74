"""Audit summaries of entities: which of the shown columns changed, and whether the entity was deleted."""

from services.audit.chain import Mutation
from services.shopify.entity_spec import EntitySpec
from services.shopify.merge import D, EntityState


def describe_change(
    spec: EntitySpec[D], number: int, before: EntityState[D] | None, after: EntityState[D]
) -> Mutation:
    """Return the mutation from ``before`` (None: no row) to ``after`` of the entity ``number``."""
    old = before.data._asdict() if before and before.data else {}
    new = after.data._asdict() if after.data else {}
    changed = [name for name in spec.audited if name in new and (not old or old[name] != new[name])]
    was, now = {name: old[name] for name in changed if old}, {name: new[name] for name in changed}
    texts = [f"{name} {_format(value)} -> {_format(now[name])}" for name, value in was.items()]
    if new and not old:
        texts.append(
            ", ".join(
                ["recorded", *(f"{name} {_format(value)}" for name, value in now.items() if value != "")]
            )
        )
    deleted_before = before.deleted_at if before else None
    if deleted_before != after.deleted_at:
        texts.append(spec.deletion.deleted if after.deleted_at else spec.deletion.restored)
        was[spec.deletion.column], now[spec.deletion.column] = deleted_before, after.deleted_at
    summary = f"{spec.noun} {number}: {', '.join(texts) or 'received again'}"
    return Mutation(spec.table.name, str(number), summary, was if before else None, now)


def describe_unknown_deletion(table: str, noun: str, number: object) -> Mutation:
    """Return the note of a deletion that changed nothing."""
    summary = f"{noun} {number}: a deletion was received, but it is not recorded here; nothing changed"
    return Mutation(table, str(number), summary, None, None)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value is None or value == "" else str(value)
