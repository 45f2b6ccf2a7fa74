"""Specification of one kind of entity: its table, how its states merge, and what the audit shows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

from sqlalchemy import Connection, Table

from services.core.locks import Lock
from services.shopify.merge import D, EntityKey, MergeStates, has_same_version, merge_states


class Deletion(NamedTuple):
    """The column with the time of an entity's deletion, and the audit's texts for it."""

    column: str = "deleted_at"
    deleted: str = "deleted at Shopify"
    restored: str = "restored at Shopify"


_DELETION = Deletion()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EntitySpec(Generic[D]):
    """One kind of entity whose webhooks carry the full state.

    ``name`` makes the error code of an event that cannot be read (``shopify.unreadable_NAME``), the name of
    the lock and the audit's noun. ``make`` builds the data from the table's columns by name: all but the
    primary key, ``event_id`` and the column of the deletion. ``audited`` are the columns that the audit
    shows, none of them personal. ``blank`` is the data of a row of which only the deletion is known.
    """

    name: str
    table: Table
    make: Callable[..., D]
    audited: Sequence[str]
    blank: D | None = None
    merge: MergeStates[D] = merge_states
    is_current: Callable[[D, D], bool] = has_same_version
    """Whether the second data still has something of the first."""
    deletion: Deletion = _DELETION
    lock: Callable[[int], str] | None = None
    """The name of an entity's lock where it is another than ``NAME:NUMBER``."""
    lock_kind: Lock = Lock.OBJECTS
    row_key: Callable[[EntityKey], tuple[Any, ...]] = tuple
    """The primary key of an entity's row."""
    find_elsewhere: Callable[[Connection, Collection[EntityKey]], set[EntityKey]] = lambda _tx, _keys: set()
    """Finds the keys that other tables have: a deletion of those counts too."""

    @property
    def unreadable(self) -> str:
        """The error code of an event that cannot be read."""
        return f"shopify.unreadable_{self.name}"

    @property
    def noun(self) -> str:
        """What the audit calls the entity."""
        return self.name.replace("_", " ")

    @property
    def data_columns(self) -> list[str]:
        """The columns of which ``make`` builds the data."""
        others = {"event_id", self.deletion.column, *self.table.primary_key.columns.keys()}
        return [column.name for column in self.table.columns if column.name not in others]

    def lock_of(self, key: EntityKey) -> tuple[int, str]:
        """Return what a transaction has to lock before it reads or writes the entity."""
        shop_id, number = key
        return shop_id, self.lock(number) if self.lock else f"{self.name}:{number}"
