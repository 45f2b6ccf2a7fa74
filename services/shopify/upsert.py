"""Things that Shopify tells of whole, one row each: newest state wins, a deletion stays."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.core.fields import read_set
from services.core.locks import Lock, lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.describe import audit_entry
from services.ledger.work import HandlerResult, Outcome, WorkItem
from services.shopify.merge import (
    EPOCH,
    EntityKey,
    EntityState,
    EntityUpdate,
    ParsedUpdate,
    S,
    apply_updates,
    ignore_unknown_deletions,
    merge_states,
    settle_updates,
)

_ARRAYS: Mapping[str, Callable[[Any], str]] = {
    "bigint": int_array,
    "boolean": int_array,  # PostgreSQL reads True and False as Python writes them
    "text": text_array,
    "timestamptz": instant_array,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitySpec(Generic[S]):
    """A kind of thing and its table.

    An event that cannot be read is refused under ``code``. ``find`` takes arrays ``shop_id`` and ``id`` and
    returns shop, id, the time of deletion and then what ``make`` takes, ``updated_at`` first. ``write``
    takes arrays ``shop_id``, ``id``, ``deleted_at``, ``event_id`` and each of ``columns`` (a field of the
    state, and its type); ``blank`` is the state of one known by its deletion only. ``shown`` are the fields
    that the audit tells: nothing personal. ``ended`` is the column of the deletion, and the words for it
    and for its being undone.
    """

    table: str
    noun: str
    code: str
    find: str
    make: Callable[..., S]
    write: str
    columns: Mapping[str, str]
    blank: S
    shown: Sequence[str]
    lock: Callable[[int], str]
    also_known: str = ""
    """Takes the arrays too; returns shop and id of those that other tables know. They may be deleted."""
    lock_kind: Lock = Lock.OBJECTS
    ended: tuple[str, str, str] = ("deleted_at", "deleted at Shopify", "there again")


class UpsertResult(NamedTuple, Generic[S]):
    """What a set came to: an outcome per item, rows before and after, who changed them, and what to say."""

    outcomes: list[Outcome]
    known: Mapping[EntityKey, EntityState[S]]
    rows: Mapping[EntityKey, EntityState[S]]
    changed: Mapping[EntityKey, WorkItem]
    said: dict[int, list[Mutation]]

    def effects(self, items: Sequence[WorkItem], new_work: Sequence[Any] = ()) -> HandlerResult:
        """Return the set's effects."""
        told = {item.id: item for item in items}
        audit = [audit_entry(told[work_id], mutations) for work_id, mutations in self.said.items()]
        return HandlerResult(self.outcomes, new_work, audit)


def upsert_entities(
    tx: Connection,
    items: Sequence[WorkItem],
    kind: EntitySpec[S],
    read: Callable[[WorkItem], ParsedUpdate[S]],
) -> HandlerResult:
    """Everything that ``items`` tell of is the newest that was told of it.

    ``read`` may raise ``Unreadable``.
    """
    return upsert_updates(tx, items, read_set(items, read, kind.code), kind).effects(items)


def upsert_updates(
    tx: Connection,
    items: Sequence[WorkItem],
    read: Sequence[ParsedUpdate[S]],
    kind: EntitySpec[S],
    join: Callable[[EntityState[S], EntityState[S]], EntityState[S]] = merge_states,
) -> UpsertResult[S]:
    """As ``upsert_entities``, for events that are read already; whatever came before what.

    A deletion of an id that is not recorded changes nothing; the audit notes it.
    """
    keys = {entry.key for entry in read if isinstance(entry, EntityUpdate)}
    lock_objects(tx, {(shop_id, kind.lock(number)) for shop_id, number in keys}, kind.lock_kind)
    known = find_states(tx, keys, kind)
    passed = ignore_unknown_deletions(known.keys() | find_also_known(tx, keys - known.keys(), kind), read)
    told = [
        (item, entry) for item, entry in zip(items, passed, strict=True) if isinstance(entry, EntityUpdate)
    ]
    rows, changed = apply_updates(known, told, join)
    write_states(tx, rows, changed, kind)
    said: dict[int, list[Mutation]] = {}
    for item, before, after in zip(items, read, passed, strict=True):
        if isinstance(before, EntityUpdate) and not isinstance(after, EntityUpdate):
            said.setdefault(item.id, []).append(
                describe_unknown_deletion(kind.table, kind.noun, before.key[1])
            )
    for key, item in changed.items():
        said.setdefault(item.id, []).append(describe_change(kind, key, known.get(key), rows[key]))
    return UpsertResult(settle_updates(passed, rows), known, rows, changed, said)


def find_states(
    tx: Connection, keys: Collection[EntityKey], kind: EntitySpec[S]
) -> dict[EntityKey, EntityState[S]]:
    """Return those of ``keys`` that have a row."""
    if not keys:
        return {}
    values = {"shop_id": int_array(shop_id for shop_id, _ in keys), "id": int_array(id_ for _, id_ in keys)}
    return {
        (r[0], r[1]): EntityState(None if r[3] == EPOCH else kind.make(*r[3:]), r[2])
        for r in tx.exec_driver_sql(kind.find, values)
    }


def find_also_known(tx: Connection, keys: Collection[EntityKey], kind: EntitySpec[S]) -> set[EntityKey]:
    """Return those of ``keys`` that another table than the kind's own has recorded."""
    if not keys or not kind.also_known:
        return set()
    values = {"shop_id": int_array(shop_id for shop_id, _ in keys), "id": int_array(id_ for _, id_ in keys)}
    return {(shop_id, number) for shop_id, number in tx.exec_driver_sql(kind.also_known, values)}


def describe_unknown_deletion(table: str, noun: str, number: object) -> Mutation:
    """Return the audit's note of a deletion that changed nothing."""
    summary = f"{noun} {number}: a deletion was received, but it is not recorded here; nothing changed"
    return Mutation(table, str(number), summary, None, None)


def write_states(
    tx: Connection,
    rows: Mapping[EntityKey, EntityState[S]],
    changed: Mapping[EntityKey, WorkItem],
    kind: EntitySpec[S],
) -> None:
    """Those of ``rows`` that ``changed`` are written. The caller holds their locks."""
    if not changed:
        return
    states = [rows[key].state or kind.blank for key in changed]
    values = {
        "shop_id": int_array(shop_id for shop_id, _ in changed),
        "id": int_array(number for _, number in changed),
        "deleted_at": instant_array(rows[key].deleted_at for key in changed),
        "event_id": int_array(item.event_id for item in changed.values()),
    }
    for name, type_ in kind.columns.items():
        values[name] = _ARRAYS[type_]([getattr(state, name) for state in states])
    tx.exec_driver_sql(kind.write, values)


def describe_change(
    kind: EntitySpec[S], key: EntityKey, known: EntityState[S] | None, row: EntityState[S]
) -> Mutation:
    """Return what became of a row: its shown fields, and its deletion."""
    old, new = known.state if known else None, row.state
    shown = {name: getattr(new, name) for name in kind.shown} if new else {}
    was = {name: getattr(old, name) for name in kind.shown} if old else {}
    after = {name: value for name, value in shown.items() if name not in was or was[name] != value}
    before = {name: was[name] for name in after if name in was}
    said = [f"{name} {_word(was[name])} -> {_word(value)}" for name, value in after.items() if name in was]
    if new and not old:
        said.append(", ".join(["recorded", *(f"{name} {_word(v)}" for name, v in after.items() if v != "")]))
    if (known and known.deleted_at != row.deleted_at) or (not known and row.deleted_at):
        column, ended, undone = kind.ended
        said.append(ended if row.deleted_at else undone)
        before[column], after[column] = known.deleted_at if known else None, row.deleted_at
    summary = f"{kind.noun} {key[1]}: {', '.join(said) or 'told anew'}"
    return Mutation(kind.table, str(key[1]), summary, before if known else None, after)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value is None or value == "" else str(value)
