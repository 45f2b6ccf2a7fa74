"""Things that Shopify tells of in parts: each part stands as the newest event told it.

An event about a fulfilment order, a transfer or a return names only what it changed, and no version. So a
row remembers of each part when it was told (the column ``told``), and joining two rows takes the newer of
every part: commutative, associative, and the same again changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import orjson
from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import read_set
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.shopify.merge import EPOCH, UNKNOWN_ID, EntityKey, EntityState, EntityUpdate
from services.shopify.upsert import EntitySpec, UpsertResult, upsert_updates


class FieldVersion(NamedTuple):
    """What was told of one part, and when."""

    at: datetime
    value: str | int


@dataclass(frozen=True, slots=True)
class FieldVersions:
    """All that was told of a thing so far. A kind of thing adds its columns as properties."""

    parts: Mapping[str, FieldVersion]

    further: ClassVar[Mapping[str | int, int]] = MappingProxyType({})
    """How far on a value is: of two that were told of one instant, the further one stands."""

    @classmethod
    def tell(cls, at: datetime, values: Mapping[str, str | int | None]) -> Self:
        """Return what an event of ``at`` tells; a value that is None or empty is not told."""
        return cls(
            {name: FieldVersion(at, value) for name, value in values.items() if value not in (None, "")}
        )

    @classmethod
    def make(cls, _updated_at: datetime, told: Mapping[str, Sequence[Any]]) -> Self:
        """Return what a row's ``told`` holds."""
        return cls(
            {name: FieldVersion(datetime.fromisoformat(at), value) for name, (at, value) in told.items()}
        )

    @property
    def version(self) -> tuple[Any, ...]:
        """All of it: two that are alike here are the same."""
        return tuple(sorted(self.parts.items()))

    @property
    def updated_at(self) -> datetime:
        """When the newest part was told."""
        return max((part.at for part in self.parts.values()), default=EPOCH)

    @property
    def told(self) -> str:
        """The parts as JSON, as the column has them."""
        return orjson.dumps(dict(self.parts), default=tuple, option=orjson.OPT_SORT_KEYS).decode()

    def text(self, name: str) -> str:
        """Return a part that is text; empty where nobody told it."""
        return str(self.parts[name].value) if name in self.parts else ""

    def number(self, name: str) -> int | None:
        """Return a part that is a number; None where nobody told it."""
        return int(self.parts[name].value) if name in self.parts else None

    def moment(self, name: str) -> datetime | None:
        """Return a part that is a time; None where nobody told it."""
        return datetime.fromisoformat(self.text(name)) if name in self.parts else None

    def each(self, prefix: str) -> dict[str, FieldVersion]:
        """Return the parts whose name begins so."""
        return {name: part for name, part in self.parts.items() if name.startswith(prefix)}

    def total(self, prefix: str) -> int | None:
        """Return the sum of the parts whose name begins so; None where there are none."""
        found = self.each(prefix)
        return sum(int(part.value) for part in found.values()) if found else None

    def joined(self, other: Self) -> Self:
        """Return the newer of every part."""
        parts = dict(self.parts)
        for name, part in other.parts.items():
            if name not in parts or self._order(part) > self._order(parts[name]):
                parts[name] = part
        return type(self)(parts)

    def _order(self, part: FieldVersion) -> tuple[datetime, int, str | int]:
        return (part.at, self.further.get(part.value, 0), part.value)


P = TypeVar("P", bound=FieldVersions)


def merge_field_versions(one: EntityState[P], other: EntityState[P]) -> EntityState[P]:
    """Return the newer of every part of the two, and the earlier deletion."""
    state = one.state or other.state
    if one.state is not None and other.state is not None:
        state = one.state.joined(other.state)
    deleted_at = min((at for at in (one.deleted_at, other.deleted_at) if at is not None), default=None)
    return one if (state, deleted_at) == (one.state, one.deleted_at) else EntityState(state, deleted_at)


def upsert_field_updates(
    tx: Connection,
    items: Sequence[WorkItem],
    kind: EntitySpec[P],
    read: Callable[[WorkItem], Sequence[EntityUpdate[P]]],
) -> HandlerResult:
    """Every part that ``items`` tell of is the newest that was told of it; see ``record_field_updates``."""
    return record_field_updates(tx, items, kind, read).effects(items)


def record_field_updates(
    tx: Connection,
    items: Sequence[WorkItem],
    kind: EntitySpec[P],
    read: Callable[[WorkItem], Sequence[EntityUpdate[P]]],
) -> UpsertResult[P]:
    """Every part that ``items`` tell of is the newest that was told of it.

    ``read`` may raise ``Unreadable``, and may return several things of one event, or none: then the event
    is ``ignored``.
    """
    answers = read_set(items, read, kind.code)
    flat = [
        (item, told)
        for item, answer in zip(items, answers, strict=True)
        if not isinstance(answer, Refused)
        for told in answer
    ]
    ingested = upsert_updates(
        tx, [item for item, _ in flat], [told for _, told in flat], kind, merge_field_versions
    )
    outcomes: list[Outcome] = [
        answer if isinstance(answer, Refused) else _settle(answer, ingested.rows) for answer in answers
    ]
    return ingested._replace(outcomes=outcomes)


def _settle(answer: Sequence[EntityUpdate[P]], rows: Mapping[EntityKey, EntityState[P]]) -> Done:
    if not answer:
        return Done("ignored")
    recorded = [told for told in answer if told.key in rows]
    if not recorded:
        return Done(UNKNOWN_ID)
    return Done() if any(_stands(told.row, rows[told.key]) for told in recorded) else Done("stale")


def _stands(told: EntityState[P], now: EntityState[P]) -> bool:
    if told.deleted_at is not None and told.deleted_at == now.deleted_at:
        return True
    if told.state is None or now.state is None:
        return False
    return any(now.state.parts[name] == part for name, part in told.state.parts.items())
