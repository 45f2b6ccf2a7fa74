"""The person of a privacy request, and what a source of personal data can do."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSubject:
    """Everything that identifies a customer of a shop, or with ``whole_shop`` all customers of the shop.

    ``emails`` are in lower case and normal form C, ``phones`` are digits only; ``payment_refs`` are the
    payment provider's ids of the payments of the orders. A ``repr`` has no name or address, because it may
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
        """The numbers of the orders at Shopify."""
        return frozenset(gid.rpartition("/")[2] for gid in self.order_gids)


PersonalDataRows = Iterator[Mapping[str, Any]]


def find_nothing(_tx: Connection, _subject: DataSubject) -> PersonalDataRows:
    """Yield nothing, for a source without personal data of customers, such as the shop's keys."""
    return iter(())


def redact_nothing(_tx: Connection, _subject: DataSubject, _now: datetime) -> Mapping[str, int]:
    """Change nothing, for a source whose rows are kept by law and have only the customer's number."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalDataSource:
    """Tables with personal data. ``name`` is for the customer who reads the export.

    ``find`` yields what is stored about the subject, row by row: readable field names, aware times.
    ``redact`` removes the subject and returns how many rows of each table changed. For a whole shop it may
    redact only a part: it is called again, in a new transaction, until it changes nothing.
    ``knows_subject``: the rows identify the subject and are redacted last, so that a retry after a crash can
    still find the subject in all other places.
    """

    name: str
    tables: tuple[str, ...]
    find: Callable[[Connection, DataSubject], PersonalDataRows] = find_nothing
    redact: Callable[[Connection, DataSubject, datetime], Mapping[str, int]] = redact_nothing
    knows_subject: bool = False
