"""Who a privacy request is about, and every place that may hold something of that person.

Open, as the kinds of mail are: each room that keeps personal data registers a holder beside its tables. A
test reads the columns of all tables and fails where one could hold a person and nobody answers for it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.errors import ShopfleetError


class HolderTwice(ShopfleetError):
    """Two holders have one name: one of them would go unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A customer of a shop by all we know them by, or (``whole_shop``) everybody a shop knew.

    ``emails`` are folded to lower case, ``phones`` are digits only; ``payment_refs`` are the payment
    provider's ids of what paid for the orders. What a person is called never shows in a ``repr``: it would
    end in a log.
    """

    shop_id: int
    customer_id: int | None = None
    emails: frozenset[str] = field(default=frozenset(), repr=False)
    phones: frozenset[str] = field(default=frozenset(), repr=False)
    names: frozenset[str] = field(default=frozenset(), repr=False)
    order_gids: frozenset[str] = frozenset()
    payment_refs: frozenset[str] = frozenset()
    whole_shop: bool = False

    @property
    def order_ids(self) -> frozenset[str]:
        """The orders by their numbers at Shopify."""
        return frozenset(gid.rpartition("/")[2] for gid in self.order_gids)


Find = Callable[[Connection, Subject], Iterator[Mapping[str, Any]]]
"""Yields what is kept of the subject, a row at a time: names as people read them, times aware."""

Redact = Callable[[Connection, Subject, datetime], Mapping[str, int]]
"""Nothing of the subject is left in the holder's tables. Returns how many rows of each table changed.

Of a whole shop it may do a piece of bounded size: it is asked again, in a new transaction, until it has
nothing to change.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One place with personal data. ``name`` is for the customer who reads the export.

    ``knows_subject``: its rows say who the subject is. Those are redacted last, so that a try after a crash
    still knows whom to look for in all other places.
    """

    name: str
    tables: tuple[str, ...]
    find: Find
    redact: Redact
    knows_subject: bool = False


_HOLDERS: dict[str, Holder] = {}


def register_holder(holder: Holder) -> Holder:
    """``holder`` is asked at every privacy request from now on; a second one of its name is refused."""
    if _HOLDERS.setdefault(holder.name, holder) != holder:
        raise HolderTwice(f"a holder of {holder.name!r} is registered already")
    return holder


def find_holders() -> list[Holder]:
    """Return every registered holder, in the order in which they are redacted."""
    return sorted(_HOLDERS.values(), key=lambda holder: (holder.knows_subject, holder.name))


def find_nothing(_tx: Connection, _subject: Subject) -> Iterator[Mapping[str, Any]]:
    """Yield nothing: what the holder keeps is no personal data of a customer, such as a shop's keys."""
    return iter(())


def redact_nothing(_tx: Connection, _subject: Subject, _now: datetime) -> Mapping[str, int]:
    """Change nothing: what the holder keeps stays by law, and knows a customer by number only."""
    return {}
