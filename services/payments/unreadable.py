"""Objects of Stripe's lists that cannot be read: each is a break, and the others are compared."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import Unreadable, find_text
from services.core.pg_arrays import text_array
from services.payments.comparison import IS_STAGED, Comparison, insert_staged, side_json
from services.payments.stripe_fields import read_amount

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


def describe_unreadable(source: object, subject: str, place: int, why: str) -> UnreadableObject:
    """Return ``source``, entry ``place`` of the list of ``subject``, with the reason ``why``.

    An object without an id is named by its place: ``refund[3]``.
    """
    fields = source if isinstance(source, Mapping) else {}
    provider_id = find_text(fields, "id")[:255] or f"{subject}[{place}]"
    return UnreadableObject(provider_id, subject, why[:500], _find_side(fields))


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


def keep_readable(rows: Iterable[T | UnreadableObject], unreadable: list[UnreadableObject]) -> Iterator[T]:
    """Yield the readable rows and append the others to ``unreadable``.

    Raises ``Refused`` if there are more than ``MAX_UNREADABLE``.
    """
    for row in rows:
        if not isinstance(row, UnreadableObject):
            yield row
            continue
        unreadable.append(row)
        if len(unreadable) > MAX_UNREADABLE:
            last = f"{row.provider_id}: {row.why}"
            why = f"more than {MAX_UNREADABLE} objects of the day cannot be read, the last one {last}"
            raise Refused("stripe.unreadable_object", why)


# An object that Stripe lists is not missing there.
_DELETE_MISSING = f"""
delete from reconciliation_staging f
 where {IS_STAGED} and f.kind = 'missing_there' and f.provider_id = any(%(provider_id)s::text[])
"""  # noqa: S608

_STAGE = f"""
{insert_staged("unreadable_object")} 'unreadable', v.provider_id, v.subject,
       case when t.provider_id is not null then {side_json("t.amount_cents", "t.currency", "t.status")} end,
       v.side::jsonb, jsonb_build_object('why', v.why)
  from unnest(%(provider_id)s::text[], %(subject)s::text[], %(side)s::text[], %(why)s::text[])
       as v(provider_id, subject, side, why)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
on conflict do nothing
"""


def stage_unreadable(tx: Connection, comparison: Comparison, objects: Sequence[UnreadableObject]) -> None:
    """Each of ``objects`` is a staged break of kind ``unreadable``."""
    if not objects:
        return
    values = {
        **comparison._asdict(),
        "provider_id": text_array([one.provider_id for one in objects]),
        "subject": text_array([one.subject for one in objects]),
        "side": text_array([orjson.dumps(one.side).decode() if one.side else None for one in objects]),
        "why": text_array([one.why for one in objects]),
    }
    tx.exec_driver_sql(_DELETE_MISSING, values)
    tx.exec_driver_sql(_STAGE, values)
