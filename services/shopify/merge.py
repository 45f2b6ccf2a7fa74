"""What several events tell of one thing comes to the same in whatever order they come. Pure.

A row is the newest state that was told and the earliest deletion. Joining two rows is commutative,
associative, and the same again changes nothing: so late, twice and shuffled events end alike.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from services.core.errors import Refused
from services.ledger.work import Done, Outcome, WorkItem

UNKNOWN_ID = "unknown_id"
"""The result of a deletion of an object that is not recorded here."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""``updated_at`` of a row that is known by its deletion only: every state that is told is newer."""

EntityKey = tuple[int, int]
"""(shop, Shopify's id of the thing)."""


class VersionedState(Protocol):
    """What one event says of a thing. Two states with the same ``version`` are the same."""

    @property
    def version(self) -> tuple[Any, ...]:
        """What makes one state newer than another."""
        ...


S = TypeVar("S", bound=VersionedState)


class EntityState(NamedTuple, Generic[S]):
    """A thing's newest state, None where none was told yet, and when it was deleted."""

    state: S | None
    deleted_at: datetime | None = None


class EntityUpdate(NamedTuple, Generic[S]):
    """What one event tells of ``key``."""

    key: EntityKey
    row: EntityState[S]


ParsedUpdate = EntityUpdate[S] | Done | Refused
"""An event, read: what it tells, or the outcome where it tells nothing to write."""


class MergedStates(NamedTuple, Generic[S]):
    """The rows as they are now, and by which item each of those that changed did."""

    rows: dict[EntityKey, EntityState[S]]
    changed: dict[EntityKey, WorkItem]


def merge_states(one: EntityState[S], other: EntityState[S]) -> EntityState[S]:
    """Return the newer state of the two and the earlier deletion; where nothing is newer, ``one`` itself."""
    state = one.state
    if other.state is not None and (state is None or other.state.version > state.version):
        state = other.state
    deleted_at = min((at for at in (one.deleted_at, other.deleted_at) if at is not None), default=None)
    return one if (state, deleted_at) == (one.state, one.deleted_at) else EntityState(state, deleted_at)


def apply_updates(
    known: Mapping[EntityKey, EntityState[S]],
    told: Iterable[tuple[WorkItem, ParsedUpdate[S]]],
    join: Callable[[EntityState[S], EntityState[S]], EntityState[S]] = merge_states,
) -> MergedStates[S]:
    """Return what ``known`` becomes by what is ``told``."""
    rows, changed = dict(known), dict[EntityKey, WorkItem]()
    for item, entry in told:
        if isinstance(entry, EntityUpdate):
            before = rows.get(entry.key)
            after = entry.row if before is None else join(before, entry.row)
            if after != before:
                rows[entry.key], changed[entry.key] = after, item
    return MergedStates(rows, changed)


def ignore_unknown_deletions(
    known: Collection[EntityKey], read: Sequence[ParsedUpdate[S]]
) -> list[ParsedUpdate[S]]:
    """Return ``read`` with ``Done("unknown_id")`` for each deletion of an id that is not recorded.

    An id is recorded where it is in ``known`` or where an entry before the deletion describes it. Such a
    deletion changes nothing: the body of a deletion is little more than an id, so it may be that of another
    type of object, and it must not stand in the way of an object that is created later.
    """
    recorded = set(known)
    passed: list[ParsedUpdate[S]] = []
    for entry in read:
        if isinstance(entry, EntityUpdate) and entry.row.state is None and entry.key not in recorded:
            passed.append(Done(UNKNOWN_ID))
            continue
        if isinstance(entry, EntityUpdate):
            recorded.add(entry.key)
        passed.append(entry)
    return passed


def settle_updates(
    read: Sequence[ParsedUpdate[S]], rows: Mapping[EntityKey, EntityState[S]]
) -> list[Outcome]:
    """Return each event's outcome: ``stale`` where nothing of what it told is in its row now."""
    return [_settle(entry, rows[entry.key]) if isinstance(entry, EntityUpdate) else entry for entry in read]


def _settle(told: EntityUpdate[S], now: EntityState[S]) -> Done:
    state, deleted_at = told.row
    if state is not None and now.state is not None and state.version == now.state.version:
        return Done()
    return Done() if deleted_at is not None and deleted_at == now.deleted_at else Done("stale")
