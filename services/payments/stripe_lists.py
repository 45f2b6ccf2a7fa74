"""Stripe's lists: objects that cannot be read, and a day's payments as the text that COPY reads.

An object that cannot be read is a break; the others are compared.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from services.core.errors import Refused
from services.core.fields import Unreadable, as_object, find_text
from services.core.pg_copy import csv_rows
from services.payments.comparison import SUBJECTS, DayComparison
from services.payments.payload import parse_transaction, read_amount
from services.providers.stripe_api import fetch_objects

T = TypeVar("T")

_CURRENCY = re.compile(r"[A-Z]{3}")
MAX_UNREADABLE = 5_000
"""Unreadable objects of one day. If there are more, the format of Stripe's lists has changed."""
ROWS_PER_BLOCK = 2_000
"""Rows in memory at a time: 300 KB of text."""


class UnreadableObject(NamedTuple):
    """An object that lacks a field. ``why`` has the field; ``side`` is the readable part."""

    provider_id: str
    subject: str
    why: str
    side: Mapping[str, Any] | None


def parse_readable(
    sources: Iterable[object],
    subject: str,
    parse: Callable[[dict[str, Any]], T],
    unreadable: list[UnreadableObject],
) -> Iterator[T]:
    """Yield the result of ``parse`` for each object of the list of ``subject``; add the unreadable ones.

    An object without an id is named by its position: ``refund[3]``. Raises ``Refused`` if there are more than
    ``MAX_UNREADABLE``.
    """
    for position, source in enumerate(sources):
        try:
            parsed = parse(as_object(source, "entry"))
        except Unreadable as fault:
            fields = source if isinstance(source, Mapping) else {}
            provider_id = find_text(fields, "id")[:255] or f"{subject}[{position}]"
            unreadable.append(UnreadableObject(provider_id, subject, str(fault)[:500], _find_side(fields)))
            if len(unreadable) > MAX_UNREADABLE:
                why = f"more than {MAX_UNREADABLE} objects of the day cannot be read, the last one"
                raise Refused("stripe.unreadable_object", f"{why} {provider_id}: {fault}") from fault
        else:
            yield parsed


def _find_side(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the object's amount, currency and status; None if the amount or currency is unreadable."""
    currency = find_text(fields, "currency").upper()
    if not _CURRENCY.fullmatch(currency):
        return None
    try:
        amount = read_amount(fields, "amount", currency, is_signed=True)
    except Unreadable:
        return None
    status = find_text(fields, "status")[:40] or "unreadable"
    return {"amount_cents": amount, "currency": currency, "status": status}


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``values`` in lists of ``size``; the last one may be shorter."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


class StripeRow(NamedTuple):
    """The compared fields of a ``Transaction`` in Stripe's list; ``created`` is in seconds since 1970."""

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


_PARSED_FIELDS = tuple(name for name in StripeRow._fields if name != "created")


def fetch_stripe_rows(
    key: str, base_url: str, day: DayComparison, unreadable: list[UnreadableObject]
) -> Iterator[StripeRow]:
    """Yield the objects created in the day, charges with their fees; add the unreadable ones."""
    for subject in SUBJECTS:
        filters = {"expand": ["data.balance_transaction"]} if subject == "charge" else {}
        listed = fetch_objects(
            key, base_url, f"{subject}s", created_gte=day.begins, created_lt=day.ends, **filters
        )
        yield from parse_readable(listed, subject, partial(_parse_row, day), unreadable)


def _parse_row(day: DayComparison, source: dict[str, Any]) -> StripeRow:
    parsed = parse_transaction(source, shop_id=day.shop_id, version_at=day.ends)
    if parsed is None:
        raise Unreadable("object", source.get("object"), "a charge, refund, dispute or payout")
    created = int(parsed.occurred_at.timestamp())
    return StripeRow(**{name: getattr(parsed, name) for name in _PARSED_FIELDS}, created=created)


def render_rows(rows: Iterable[StripeRow]) -> Iterator[bytes]:
    """Yield ``rows`` as blocks that COPY reads with ``COPY_FORMAT``, in the order of ``StripeRow``."""
    for block in batched(map(tuple, rows), ROWS_PER_BLOCK):
        yield csv_rows(block)
