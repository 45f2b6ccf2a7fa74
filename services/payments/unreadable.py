"""Objects of Stripe's lists that cannot be read: each is a break, and the others are compared."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from services.core.errors import Refused
from services.core.fields import Unreadable, as_object, find_text
from services.payments.payload import read_amount

T = TypeVar("T")

_CURRENCY = re.compile(r"[A-Z]{3}")
MAX_UNREADABLE = 5_000
"""Unreadable objects of one day. If there are more, the format of Stripe's lists has changed."""


class UnreadableObject(NamedTuple):
    """An object that lacks a field. ``why`` names the field; ``side`` is the part that can be read."""

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
    """Yield what ``parse`` makes of each object of the list of ``subject``; ``unreadable`` gets the others.

    One without an id is named by its place: ``refund[3]``. Raises ``Refused`` if there are more than
    ``MAX_UNREADABLE``.
    """
    for place, source in enumerate(sources):
        try:
            parsed = parse(as_object(source, "entry"))
        except Unreadable as fault:
            fields = source if isinstance(source, Mapping) else {}
            provider_id = find_text(fields, "id")[:255] or f"{subject}[{place}]"
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
