"""Entities whose webhooks carry the full state: one row each, last write wins, deletions are final.

A state is the newest data and the earliest deletion. Merging is commutative, associative and idempotent, so
events in any order, and repeated ones, result in the same state.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Table

from services.audit.chain import Mutation
from services.core.errors import Refused
from services.core.fields import parse_items
from services.core.locks import LockKind, lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem

UNKNOWN_ID = "unknown_id"
"""The outcome of an event that deletes an object without a row."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""``updated_at`` of a row without data, of which only the deletion was received: older than all data."""

EntityKey = tuple[int, int]
"""(shop, Shopify's id of the entity)."""


D = TypeVar("D", bound=Any)
"""The data in an event, a named tuple of columns or ``FieldVersions``; equal versions mean equal data."""


class EntityState(NamedTuple, Generic[D]):
    """An entity's newest data (None if only its deletion is known), and when it was deleted."""

    data: D | None
    deleted_at: datetime | None = None


class EntityUpdate(NamedTuple, Generic[D]):
    """One event of the entity ``key``: its data, or the time of its deletion."""

    key: tuple[int, Any]
    data: D | None = None
    deleted_at: datetime | None = None


ItemUpdate = tuple[WorkItem, EntityUpdate[D]]
ParsedUpdates = Sequence[EntityUpdate[D]] | Refused
"""The updates in one event (may be none), or the reason why it cannot be read."""


def merge_states(one: EntityState[D], other: EntityState[D]) -> EntityState[D]:
    """Return the newer data of the two and the earlier deletion; ``one`` itself if nothing changes."""
    data = one.data
    if other.data is not None and (data is None or other.data.version > data.version):
        data = other.data
    merged = EntityState(data, min(filter(None, (one.deleted_at, other.deleted_at)), default=None))
    return one if merged == one else merged


def rank_values(*values: str) -> Mapping[str | int, int]:
    """Return the rank of each value, from 1: of two values of the same time the higher rank wins."""
    return {value: rank for rank, value in enumerate(values, start=1)}


def apply_updates(
    before: Mapping[EntityKey, EntityState[D]],
    updates: Iterable[ItemUpdate[D]],
    merge: Callable[[EntityState[D], EntityState[D]], EntityState[D]] = merge_states,
) -> tuple[dict[EntityKey, EntityState[D]], dict[EntityKey, WorkItem]]:
    """Return the states after ``updates``, and for each changed state the item that changed it last."""
    after, changed = dict(before), dict[EntityKey, WorkItem]()
    for item, (key, data, deleted_at) in updates:
        known, state = after.get(key), EntityState(data, deleted_at)
        merged = state if known is None else merge(known, state)
        if merged != known:
            after[key], changed[key] = merged, item
    return after, changed


def split_unknown_deletions(
    recorded: Collection[tuple[int, Any]], updates: Iterable[ItemUpdate[D]]
) -> tuple[list[ItemUpdate[D]], list[ItemUpdate[D]]]:
    """Return the ``updates`` to apply, and the deletions of unknown ids.

    A deletion of an id that neither ``recorded`` nor an earlier update has changes nothing: its payload has
    hardly more than the id, so it may be of another type, and it must not block an object created later.
    """
    known, accepted, unknown = set(recorded), list[ItemUpdate[D]](), list[ItemUpdate[D]]()
    for item, update in updates:
        if update.data is None and update.key not in known:
            unknown.append((item, update))
        else:
            known.add(update.key)
            accepted.append((item, update))
    return accepted, unknown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EntitySpec(Generic[D]):
    """One kind of entity: its table, how its states merge, and what the audit shows.

    ``make`` builds the data from the columns of ``data_columns``. ``audited`` are the columns that the audit
    shows; none is personal. ``blank`` is the data of a row of which only the deletion is known.
    ``is_current`` returns whether its second argument still contains a part of the first. ``lock`` returns
    the name of an entity's lock if that is not ``NAME:NUMBER``; ``row_key`` returns the primary key of its
    row. ``find_elsewhere`` returns the keys that other tables have: their deletion counts too.
    """

    name: str
    table: Table
    make: Callable[..., D]
    audited: Sequence[str]
    blank: D | None = None
    merge: Callable[[EntityState[D], EntityState[D]], EntityState[D]] = merge_states
    is_current: Callable[[D, D], bool] = lambda update, current: update.version == current.version
    deletion_column: str = "deleted_at"
    deletion_texts: tuple[str, str] = ("deleted at Shopify", "restored at Shopify")
    lock: Callable[[int], str] | None = None
    lock_kind: LockKind = LockKind.OBJECTS
    row_key: Callable[[EntityKey], tuple[Any, ...]] = tuple
    find_elsewhere: Callable[[Connection, Collection[EntityKey]], set[EntityKey]] = lambda _tx, _keys: set()

    @property
    def unreadable(self) -> str:
        return f"shopify.unreadable_{self.name}"

    @property
    def data_columns(self) -> list[str]:
        """All columns except the key, ``event_id`` and the time of the deletion."""
        others = {"event_id", self.deletion_column, *self.table.primary_key.columns.keys()}
        return [column.name for column in self.table.columns if column.name not in others]

    def lock_of(self, key: EntityKey) -> tuple[int, str]:
        """Return the lock that a transaction needs before it reads or writes the entity."""
        shop_id, number = key
        return shop_id, self.lock(number) if self.lock else f"{self.name}:{number}"


class UpsertResult(NamedTuple, Generic[D]):
    """The result of a batch: an outcome for each item, the states before and after, and the mutations.

    ``changed`` has the item that changed an entity last; ``mutations`` are by the id of the item.
    """

    outcomes: list[Outcome]
    before: Mapping[EntityKey, EntityState[D]]
    after: Mapping[EntityKey, EntityState[D]]
    changed: Mapping[EntityKey, WorkItem]
    mutations: defaultdict[int, list[Mutation]]

    def to_handler_result(self, items: Sequence[WorkItem], new_work: Sequence[NewWork] = ()) -> HandlerResult:
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
        parsed = parse_items(items, lambda item: self.parse(item, now), self.spec.unreadable)
        return upsert_parsed(tx, items, parsed, self.spec).to_handler_result(items)


def upsert_parsed(
    tx: Connection, items: Sequence[WorkItem], parsed: Sequence[ParsedUpdates[D]], spec: EntitySpec[D]
) -> UpsertResult[D]:
    """Lock the entities in ``parsed``, the events of ``items``, and update their rows.

    Outcomes: ``stale`` if no part of an event is current, ``ignored`` if it has no update, and ``unknown_id``
    if it only deletes unknown entities; the audit records such a deletion.
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
    noun = spec.name.replace("_", " ")
    for item, update in unknown:
        mutations[item.id].append(describe_unknown_deletion(spec.table.name, noun, update.key[1]))
    for key, item in changed.items():
        mutations[item.id].append(_describe_change(spec, noun, key[1], before.get(key), after[key]))
    current = defaultdict[int, list[bool]](list)
    for item, update in accepted:
        state = after[update.key]
        is_deletion = update.deleted_at is not None and update.deleted_at == state.deleted_at
        is_current = update.data and state.data and spec.is_current(update.data, state.data)
        current[item.id].append(is_deletion or bool(is_current))

    def settle(item: WorkItem, event: ParsedUpdates[D]) -> Outcome:
        if isinstance(event, Refused):
            return event
        if not event:
            return Done("ignored")
        if item.id not in current:
            return Done(UNKNOWN_ID)
        return Done() if any(current[item.id]) else Done("stale")

    return UpsertResult(list(map(settle, items, parsed)), before, after, changed, mutations)


def find_states(
    tx: Connection, keys: Collection[EntityKey], spec: EntitySpec[D]
) -> dict[EntityKey, EntityState[D]]:
    by_row_key = {spec.row_key(key): key for key in keys}
    names = spec.data_columns
    return {
        by_row_key[row_key]: EntityState(
            None if row.get("updated_at") == EPOCH else spec.make(**{name: row[name] for name in names}),
            row.get(spec.deletion_column),
        )
        for row_key, row in find_by_key(tx, spec.table, by_row_key).items()
    }


def write_states(
    tx: Connection,
    states: Mapping[EntityKey, EntityState[D]],
    changed: Mapping[EntityKey, WorkItem],
    spec: EntitySpec[D],
) -> None:
    """Write the ``states`` that are in ``changed``. The caller has locked the entities."""
    if not changed:
        return
    rows = [data._asdict() if (data := states[key].data or spec.blank) else {} for key in changed]
    row_keys = zip(*map(spec.row_key, changed), strict=True)
    columns: dict[str, Sequence[Any]] = {
        **dict(zip(spec.table.primary_key.columns.keys(), row_keys, strict=True)),
        spec.deletion_column: [states[key].deleted_at for key in changed],
        "event_id": [item.event_id for item in changed.values()],
        **{name: [row[name] for row in rows] for name in spec.data_columns},
    }
    upsert_rows(tx, spec.table, {column.name: columns[column.name] for column in spec.table.columns})


def _describe_change(
    spec: EntitySpec[D], noun: str, number: int, before: EntityState[D] | None, after: EntityState[D]
) -> Mutation:
    old = before.data._asdict() if before and before.data else {}
    new = after.data._asdict() if after.data else {}
    changed = [name for name in spec.audited if name in new and (not old or old[name] != new[name])]
    was, now = {name: old[name] for name in changed if old}, {name: new[name] for name in changed}
    texts = [f"{name} {_format(value)} -> {_format(now[name])}" for name, value in was.items()]
    if new and not old:
        shown = (f"{name} {_format(value)}" for name, value in now.items() if value != "")
        texts.append(", ".join(["recorded", *shown]))
    deleted_before = before.deleted_at if before else None
    if deleted_before != after.deleted_at:
        texts.append(spec.deletion_texts[after.deleted_at is None])
        was[spec.deletion_column], now[spec.deletion_column] = deleted_before, after.deleted_at
    summary = f"{noun} {number}: {', '.join(texts) or 'received again'}"
    return Mutation(spec.table.name, str(number), summary, was if before else None, now)


def describe_unknown_deletion(table: str, noun: str, number: object) -> Mutation:
    summary = f"{noun} {number}: a deletion was received, but it is not recorded here; nothing changed"
    return Mutation(table, str(number), summary, None, None)


def _format(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value is None or value == "" else str(value)
