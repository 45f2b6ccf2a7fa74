"""Merge several events of one entity; the result is the same in every order. Pure.

A state is the newest data and the earliest deletion. Merging is commutative, associative and idempotent, so
late, repeated and shuffled events end in the same state.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from services.ledger.work import WorkItem

UNKNOWN_ID = "unknown_id"
"""The result of an event that deletes an object that is not recorded here."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""``updated_at`` of a row of which only the deletion is known: older than all data."""

EntityKey = tuple[int, int]
"""(shop, Shopify's id of the entity)."""


class EntityData(Protocol):
    """The data of an entity in one event. Data with the same ``version`` is the same."""

    @property
    def version(self) -> tuple[Any, ...]:
        """What makes data newer than other data."""
        ...

    def _asdict(self) -> dict[str, Any]:
        """Return the values by the names of the table's columns, as a named tuple does."""
        ...


D = TypeVar("D", bound=EntityData)


class EntityState(NamedTuple, Generic[D]):
    """An entity's newest data, None where only its deletion is known, and when it was deleted."""

    data: D | None
    deleted_at: datetime | None = None


class EntityUpdate(NamedTuple, Generic[D]):
    """One event of the entity ``key``: its data, or the time of its deletion."""

    key: EntityKey
    data: D | None = None
    deleted_at: datetime | None = None


ItemUpdate = tuple[WorkItem, EntityUpdate[D]]
"""An update, and the work item whose event it is."""

MergeStates = Callable[[EntityState[D], EntityState[D]], EntityState[D]]


def merge_states(one: EntityState[D], other: EntityState[D]) -> EntityState[D]:
    """Return the newer data of the two and the earlier deletion; where nothing is newer, ``one`` itself."""
    data = one.data
    if other.data is not None and (data is None or other.data.version > data.version):
        data = other.data
    merged = EntityState(data, find_earliest(one.deleted_at, other.deleted_at))
    return one if merged == one else merged


def find_earliest(*times: datetime | None) -> datetime | None:
    """Return the earliest of the given times."""
    return min((at for at in times if at is not None), default=None)


def has_same_version(update: EntityData, current: EntityData) -> bool:
    """Return whether ``current`` is the data of ``update``."""
    return update.version == current.version


def rank_values(*values: str) -> Mapping[str | int, int]:
    """Return the place of each value, counted from 1: of two values of one time the later one wins."""
    return {value: place for place, value in enumerate(values, start=1)}


def apply_updates(
    before: Mapping[EntityKey, EntityState[D]],
    updates: Iterable[ItemUpdate[D]],
    merge: MergeStates[D] = merge_states,
) -> tuple[dict[EntityKey, EntityState[D]], dict[EntityKey, WorkItem]]:
    """Return the states after ``updates``, and for each state that changed the item that changed it last."""
    after, changed = dict(before), dict[EntityKey, WorkItem]()
    for item, update in updates:
        known, state = after.get(update.key), EntityState(update.data, update.deleted_at)
        merged = state if known is None else merge(known, state)
        if merged != known:
            after[update.key], changed[update.key] = merged, item
    return after, changed


def split_unknown_deletions(
    recorded: Collection[EntityKey], updates: Iterable[ItemUpdate[D]]
) -> tuple[list[ItemUpdate[D]], list[ItemUpdate[D]]]:
    """Return the ``updates`` to apply, and the deletions of an id that is not recorded.

    An id is recorded where it is in ``recorded`` or an update before the deletion describes it. A deletion
    of another id changes nothing: its payload is little more than an id, so it may be that of another type
    of object, and it must not block an object that is created later.
    """
    known, accepted, unknown = set(recorded), list[ItemUpdate[D]](), list[ItemUpdate[D]]()
    for item, update in updates:
        if update.data is None and update.key not in known:
            unknown.append((item, update))
        else:
            known.add(update.key)
            accepted.append((item, update))
    return accepted, unknown
