"""Upsert of entities: one row each, last write wins, deletions are final."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.core.upsert import find_by_key, upsert_rows
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from services.shopify.audit_text import describe_change, describe_unknown_deletion
from services.shopify.entity_spec import EntitySpec
from services.shopify.merge import (
    EPOCH,
    UNKNOWN_ID,
    D,
    EntityKey,
    EntityState,
    EntityUpdate,
    apply_updates,
    split_unknown_deletions,
)

ParsedUpdates = Sequence[EntityUpdate[D]] | Refused
"""The updates in one event, maybe none, or why it cannot be read."""


class UpsertResult(NamedTuple, Generic[D]):
    """The result of a batch: an outcome for each item, the states before and after, and what to audit.

    ``changed`` has the item that changed an entity last; ``mutations`` are by the id of the item.
    """

    outcomes: list[Outcome]
    before: Mapping[EntityKey, EntityState[D]]
    after: Mapping[EntityKey, EntityState[D]]
    changed: Mapping[EntityKey, WorkItem]
    mutations: defaultdict[int, list[Mutation]]

    def to_handler_result(self, items: Sequence[WorkItem], new_work: Sequence[NewWork] = ()) -> HandlerResult:
        """Return the result in the ledger's form."""
        by_id = {item.id: item for item in items}
        audit = [audit_entry(by_id[work_id], mutations) for work_id, mutations in self.mutations.items()]
        return HandlerResult(self.outcomes, new_work, audit)


@dataclass(frozen=True, slots=True, eq=False)
class EntityHandler(Generic[D]):
    """Handler of events whose only effect is on the rows of one kind of entity.

    ``parse`` returns the updates in an item's event, or raises ``Unreadable``.
    """

    spec: EntitySpec[D]
    parse: Callable[[WorkItem, datetime], Sequence[EntityUpdate[D]]]

    def __call__(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
        """Bring the rows of the entities in ``items`` up to date; see ``upsert_parsed``."""
        parsed = read_set(items, lambda item: self.parse(item, now), self.spec.unreadable)
        return upsert_parsed(tx, items, parsed, self.spec).to_handler_result(items)


def upsert_parsed(
    tx: Connection, items: Sequence[WorkItem], parsed: Sequence[ParsedUpdates[D]], spec: EntitySpec[D]
) -> UpsertResult[D]:
    """Lock the entities in ``parsed``, the events of ``items``, and bring their rows up to date.

    Outcomes: ``stale`` where nothing of an event is current, ``ignored`` where it has no update, and
    ``unknown_id`` where it only deletes entities that are not recorded; the audit notes such a deletion.
    """
    updates = [
        (item, update)
        for item, event in zip(items, parsed, strict=True)
        if not isinstance(event, Refused)
        for update in event
    ]
    keys = {update.key for _, update in updates}
    lock_objects(tx, {spec.lock_of(key) for key in keys}, spec.lock_kind)
    before = find_states(tx, keys, spec)
    recorded = before.keys() | spec.find_elsewhere(tx, keys - before.keys())
    accepted, unknown = split_unknown_deletions(recorded, updates)
    after, changed = apply_updates(before, accepted, spec.merge)
    write_states(tx, after, changed, spec)

    mutations = defaultdict[int, list[Mutation]](list)
    for item, update in unknown:
        mutations[item.id].append(describe_unknown_deletion(spec.table.name, spec.noun, update.key[1]))
    for key, item in changed.items():
        mutations[item.id].append(describe_change(spec, key[1], before.get(key), after[key]))
    current = defaultdict[int, list[bool]](list)
    for item, update in accepted:
        current[item.id].append(_is_current(update, after[update.key], spec))
    outcomes = [_settle(event, current[item.id]) for item, event in zip(items, parsed, strict=True)]
    return UpsertResult(outcomes, before, after, changed, mutations)


def _settle(event: ParsedUpdates[D], current: Sequence[bool]) -> Outcome:
    if isinstance(event, Refused):
        return event
    if not event:
        return Done("ignored")
    if not current:
        return Done(UNKNOWN_ID)
    return Done() if any(current) else Done("stale")


def _is_current(update: EntityUpdate[D], state: EntityState[D], spec: EntitySpec[D]) -> bool:
    if update.deleted_at is not None and update.deleted_at == state.deleted_at:
        return True
    return bool(update.data and state.data and spec.is_current(update.data, state.data))


def find_states(
    tx: Connection, keys: Collection[EntityKey], spec: EntitySpec[D]
) -> dict[EntityKey, EntityState[D]]:
    """Return the states of those of ``keys`` that have a row."""
    by_row_key = {spec.row_key(key): key for key in keys}
    names = spec.data_columns
    return {
        by_row_key[row_key]: EntityState(
            None if row.get("updated_at") == EPOCH else spec.make(**{name: row[name] for name in names}),
            row.get(spec.deletion.column),
        )
        for row_key, row in find_by_key(tx, spec.table, by_row_key).items()
    }


def write_states(
    tx: Connection,
    states: Mapping[EntityKey, EntityState[D]],
    changed: Mapping[EntityKey, WorkItem],
    spec: EntitySpec[D],
) -> None:
    """Write those of ``states`` that an item ``changed``. The caller holds their locks."""
    if not changed:
        return
    rows = [data._asdict() if (data := states[key].data or spec.blank) else {} for key in changed]
    row_keys = zip(*map(spec.row_key, changed), strict=True)
    columns: dict[str, Sequence[Any]] = {
        **dict(zip(spec.table.primary_key.columns.keys(), row_keys, strict=True)),
        spec.deletion.column: [states[key].deleted_at for key in changed],
        "event_id": [item.event_id for item in changed.values()],
        **{name: [row[name] for row in rows] for name in spec.data_columns},
    }
    upsert_rows(tx, spec.table, {column.name: columns[column.name] for column in spec.table.columns})
