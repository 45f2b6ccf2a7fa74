"""Objects of Stripe's lists that cannot be read: each is a break, and the day goes on without it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import orjson
from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import Unreadable, find_text
from services.core.pg_arrays import text_array
from services.payments.day import Day
from services.payments.stripe_amounts import read_amount

T = TypeVar("T")

_CURRENCY = re.compile(r"[A-Z]{3}")
MOST = 5_000
"""Unreadable objects of one day; beyond it Stripe's lists have another shape and no comparison holds."""


class UnreadableObject(NamedTuple):
    """An object that lacks what we need. ``why`` names the field; ``theirs`` is what is readable of it."""

    provider_id: str
    subject: str
    why: str
    theirs: Mapping[str, Any] | None


def describe_unreadable(source: object, subject: str, place: int, why: str) -> UnreadableObject:
    """Return ``source``, entry ``place`` of the list of ``subject``, with ``why`` it cannot be read.

    An object without an id is named by its place: ``refund[3]``.
    """
    fields = source if isinstance(source, Mapping) else {}
    provider_id = find_text(fields, "id")[:255] or f"{subject}[{place}]"
    return UnreadableObject(provider_id, subject, why[:500], _find_side(fields))


def _find_side(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the object's amount, currency and status; None where the amount or currency is unreadable."""
    currency = find_text(fields, "currency").upper()
    if not _CURRENCY.fullmatch(currency):
        return None
    try:
        amount = read_amount(fields, "amount", currency, is_signed=True)
    except Unreadable:
        return None
    status = find_text(fields, "status")[:40] or "unreadable"
    return {"amount_cents": amount, "currency": currency, "status": status}


def keep_readable(rows: Iterable[T | UnreadableObject], unreadable: list[UnreadableObject]) -> Iterator[T]:
    """Yield the rows that could be read; the other ones are in ``unreadable`` afterwards, at most ``MOST``.

    Raises ``Refused`` beyond that number.
    """
    for row in rows:
        if not isinstance(row, UnreadableObject):
            yield row
            continue
        unreadable.append(row)
        if len(unreadable) > MOST:
            last = f"{row.provider_id}: {row.why}"
            why = f"more than {MOST} objects of the day cannot be read, the last one {last}"
            raise Refused("stripe.unreadable_object", why)


# Where our books have the object, Stripe has it too: it is not missing there.
_NOT_MISSING = """
delete from reconciliation_staging where shop_id = %(shop_id)s and day = %(day)s and token = %(token)s
   and kind = 'missing_there' and provider_id = any(%(provider_id)s::text[])
"""

_RECORD = """
insert into reconciliation_staging
       (shop_id, day, token, kind, provider_id, subject, ours, theirs, evidence, cause,
                          found_at)
select %(shop_id)s, %(day)s, %(token)s, 'unreadable', v.provider_id, v.subject,
       case when t.provider_id is not null then jsonb_build_object('amount_cents', t.amount_cents,
            'currency', t.currency, 'status', t.status) end,
       v.theirs::jsonb, jsonb_build_object('why', v.why), 'unreadable_object', %(now)s
  from unnest(%(provider_id)s::text[], %(subject)s::text[], %(theirs)s::text[], %(why)s::text[])
       as v(provider_id, subject, theirs, why)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
on conflict do nothing
"""


def record_unreadable(
    tx: Connection, day: Day, token: str, objects: Sequence[UnreadableObject], now: datetime
) -> None:
    """Each of ``objects`` is a break of kind ``unreadable`` under ``token``."""
    if not objects:
        return
    values = {
        **day._asdict(),
        "token": token,
        "now": now,
        "provider_id": text_array([one.provider_id for one in objects]),
        "subject": text_array([one.subject for one in objects]),
        "theirs": text_array([orjson.dumps(one.theirs).decode() if one.theirs else None for one in objects]),
        "why": text_array([one.why for one in objects]),
    }
    tx.exec_driver_sql(_NOT_MISSING, values)
    tx.exec_driver_sql(_RECORD, values)
