"""Entities whose webhooks carry only the changed fields: each field has the newest value received.

An event about a fulfillment order, a transfer or a return contains only the changed fields, and no version.
So a row stores the time of each field (column ``field_versions``), and a merge of two states takes the newer
value of each field: commutative, associative and idempotent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from services.shopify.entities import EPOCH, EntitySpec, EntityState

FieldValue = str | int


class FieldVersion(NamedTuple):
    """A value of one field, and the time of the event that carried it."""

    at: datetime
    value: FieldValue


@dataclass(frozen=True, slots=True)
class FieldVersions:
    """The newest version of each field. A subclass computes the table's columns from them.

    Of two values of the same time, the one with the higher rank in ``ranks`` wins.
    """

    fields: Mapping[str, FieldVersion]
    ranks: ClassVar[Mapping[FieldValue, int]] = MappingProxyType({})

    @classmethod
    def from_event(cls, at: datetime, values: Mapping[str, FieldValue | None]) -> Self:
        """Return the fields in an event of the time ``at``; None and empty text are left out."""
        fields = {name: FieldVersion(at, value) for name, value in values.items() if value not in (None, "")}
        return cls(fields)

    @classmethod
    def from_row(cls, field_versions: Mapping[str, Sequence[Any]], **_columns: object) -> Self:
        """Return the fields of a row, from its column ``field_versions``."""
        items = field_versions.items()
        return cls({name: FieldVersion(datetime.fromisoformat(at), value) for name, (at, value) in items})

    def columns(self) -> dict[str, Any]:
        """Return the table's columns that are computed from the fields."""
        raise NotImplementedError

    def _asdict(self) -> dict[str, Any]:
        field_versions = {name: tuple(version) for name, version in self.fields.items()}
        return {"updated_at": self.updated_at, "field_versions": field_versions, **self.columns()}

    @property
    def version(self) -> tuple[Any, ...]:
        """All fields, sorted: equal fields are an equal version."""
        return tuple(sorted(self.fields.items()))

    @property
    def updated_at(self) -> datetime:
        return max((field.at for field in self.fields.values()), default=EPOCH)

    def text(self, name: str) -> str:
        return str(self.fields[name].value) if name in self.fields else ""

    def number(self, name: str) -> int | None:
        return int(self.fields[name].value) if name in self.fields else None

    def time(self, name: str) -> datetime | None:
        return datetime.fromisoformat(self.text(name)) if name in self.fields else None

    def with_prefix(self, prefix: str) -> list[FieldVersion]:
        return [field for name, field in self.fields.items() if name.startswith(prefix)]

    def total(self, prefix: str) -> int | None:
        """Return the sum of the fields whose name begins with ``prefix``; None without any."""
        found = self.with_prefix(prefix)
        return sum(int(field.value) for field in found) if found else None

    def merged(self, other: Self) -> Self:
        fields = dict(self.fields)
        for name, field in other.fields.items():
            fields[name] = max(fields.get(name, field), field, key=self._order)
        return type(self)(fields)

    def _order(self, field: FieldVersion) -> tuple[datetime, int, FieldValue]:
        return field.at, self.ranks.get(field.value, 0), field.value


F = TypeVar("F", bound=FieldVersions)


def _merge_field_versions(one: EntityState[F], other: EntityState[F]) -> EntityState[F]:
    """Return the newer version of each field of the two, and the earlier deletion."""
    data = one.data.merged(other.data) if one.data and other.data else one.data or other.data
    return EntityState(data, min(filter(None, (one.deleted_at, other.deleted_at)), default=None))


def _has_current_field(update: FieldVersions, current: FieldVersions) -> bool:
    return any(current.fields.get(name) == field for name, field in update.fields.items())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialEntitySpec(EntitySpec[F]):
    """A kind of entity whose webhooks carry only changed fields; ``make`` is ``FieldVersions.from_row``."""

    merge: Callable[[EntityState[F], EntityState[F]], EntityState[F]] = _merge_field_versions
    is_current: Callable[[F, F], bool] = _has_current_field
