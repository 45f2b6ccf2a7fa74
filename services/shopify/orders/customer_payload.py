"""Parse the customer in a payload: name, email, phone and nothing else. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_instant, find_text

_DESCRIBING = frozenset({"first_name", "last_name", "email", "phone"})


class Customer(NamedTuple):
    """A customer. Only the table ``customers`` has this; never the audit, never a log."""

    updated_at: datetime
    name: str
    email: str
    phone: str

    @property
    def version(self) -> tuple[Any, ...]:
        """The time; the texts decide between two states of the same second."""
        return tuple(self)

    def __repr__(self) -> str:
        return f"Customer(updated_at={self.updated_at.isoformat()})"


def describes_customer(source: Mapping[str, Any]) -> bool:
    """Return whether ``source`` describes a customer; one with an id alone does not."""
    return not _DESCRIBING.isdisjoint(source)


def read_customer(source: Mapping[str, Any], event_time: datetime) -> Customer:
    """Return the customer in ``source``; ``event_time`` replaces an absent ``updated_at``."""
    first, last = find_text(source, "first_name"), find_text(source, "last_name")
    return Customer(
        updated_at=find_instant(source, "updated_at") or event_time,
        name=f"{first} {last}".strip(),
        email=find_text(source, "email"),
        phone=find_text(source, "phone"),
    )
