"""Stripe's side of a day as rows, and rows as the text that COPY reads."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol

from services.core.fields import Unreadable, as_object
from services.core.pg_copy import csv_rows
from services.payments.day import Day
from services.payments.payload import read_object
from services.payments.unreadable import UnreadableObject, describe_unreadable
from services.providers.stripe_api import list_objects

ROWS_A_BLOCK = 2_000
"""So many rows are in memory at a time: 300 KB of text."""


class StripeRow(NamedTuple):
    """One charge, refund, dispute or payout as Stripe lists it; ``created`` is in seconds since 1970.

    ``status`` is the word that the books use (a charge that succeeded is ``paid``), ``currency`` upper case,
    amounts minor units. ``fee_cents`` is what Stripe took, None where the listing does not say.
    """

    kind: str
    provider_id: str
    amount_cents: int
    currency: str
    status: str
    created: int
    parent_id: str | None = None
    order_ref: str = ""
    refunded_cents: int = 0
    fee_cents: int | None = None


class ListStripeRows(Protocol):
    """Yields what Stripe has of a shop's day."""

    def __call__(self, key: str, base_url: str, day: Day) -> Iterator[StripeRow | UnreadableObject]:
        """Raise a ``WorkError`` where Stripe does not answer, also between two rows."""
        ...


_LISTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("charges", {"expand": ["data.balance_transaction"]}),
    ("refunds", {}),
    ("disputes", {}),
    ("payouts", {}),
)


def list_stripe_rows(key: str, base_url: str, day: Day) -> Iterator[StripeRow | UnreadableObject]:
    """Yield every charge (with its fee), refund, dispute and payout that Stripe made in ``day``,
        page by page.

    They are read as webhooks are, so that the two books can differ only where the facts do. An object that
    lacks what we need is yielded as such, and the list goes on.
    """
    for kind, filters in _LISTS:
        found = list_objects(key, base_url, kind, created_gte=day.begins, created_lt=day.ends, **filters)
        for place, source in enumerate(found):
            try:
                yield parse_stripe_row(source, day)
            except Unreadable as fault:
                yield describe_unreadable(source, kind.removesuffix("s"), place, str(fault))


def parse_stripe_row(source: object, day: Day) -> StripeRow:
    """Return an object of Stripe's as a row; ``Unreadable`` names the field that it lacks."""
    source = as_object(source, "entry")
    told = read_object(source, shop_id=day.shop_id, version_at=day.ends)
    if told is None:
        raise Unreadable("object", source.get("object"), "a charge, refund, dispute or payout")
    return StripeRow(
        told.kind,
        told.provider_id,
        told.amount_cents,
        told.currency,
        told.status,
        int(told.occurred_at.timestamp()),
        told.parent_id,
        told.order_ref,
        told.refunded_cents,
        told.fee_cents if _is_one_currency(source) else None,
    )


def _is_one_currency(source: Mapping[str, Any]) -> bool:
    """Return whether the balance is kept in the payment's currency: else the fees cannot be compared."""
    entry = source.get("balance_transaction")
    return isinstance(entry, dict) and entry.get("currency") == source.get("currency")


def render_rows(rows: Iterable[StripeRow]) -> Iterator[bytes]:
    """Yield ``rows`` as blocks that COPY reads with ``COPY_FORMAT``, in the order of ``StripeRow``."""
    walk = iter(rows)
    while block := list(map(tuple, islice(walk, ROWS_A_BLOCK))):
        yield csv_rows(block)
