"""What we take of a customer: how to call and reach him, nothing else. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_instant, find_text

_TELLING = frozenset({"first_name", "last_name", "email", "phone"})


class Customer(NamedTuple):
    """A customer as one event told him. Only ``customers`` holds this; never the audit, never a log."""

    updated_at: datetime
    name: str
    email: str
    phone: str

    @property
    def version(self) -> tuple[Any, ...]:
        """What makes one state newer; the texts only decide between states of one and the same second."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"Customer(updated_at={self.updated_at.isoformat()})"


def is_told(source: Mapping[str, Any]) -> bool:
    """Return whether ``source`` describes a customer; an id alone says nothing of what he is called."""
    return not _TELLING.isdisjoint(source)


def read_customer(source: Mapping[str, Any], event_time: datetime) -> Customer:
    """Return the customer that ``source`` describes; ``event_time`` where it does not say when it changed."""
    first, last = find_text(source, "first_name"), find_text(source, "last_name")
    return Customer(
        updated_at=find_instant(source, "updated_at") or event_time,
        name=f"{first} {last}".strip(),
        email=find_text(source, "email"),
        phone=find_text(source, "phone"),
    )
