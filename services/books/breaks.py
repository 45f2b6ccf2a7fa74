"""A day's open breaks: exactly those that were found last, and every change of them in the audit."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.books.compare import Booked, Break
from services.core.arrays import text_array
from services.ledger.said import say_money

_CLOSE = """
update reconciliation_breaks set closed_at = %(now)s
 where shop_id = %(shop_id)s and day = %(day)s and closed_at is null
   and (kind, provider_id) not in (select * from unnest(%(kind)s::text[], %(provider_id)s::text[]))
returning id, kind, provider_id, ours, theirs
"""

# A break that is found as it was found before is no change.
_OPEN = """
insert into reconciliation_breaks as b (shop_id, day, kind, provider_id, ours, theirs, found_at)
select %(shop_id)s, %(day)s, v.kind, v.provider_id, v.ours::jsonb, v.theirs::jsonb, %(now)s
  from unnest(%(kind)s::text[], %(provider_id)s::text[], %(ours)s::text[], %(theirs)s::text[])
       as v(kind, provider_id, ours, theirs)
on conflict (shop_id, day, kind, provider_id) do update set
   ours = excluded.ours, theirs = excluded.theirs, closed_at = null,
   found_at = case when b.closed_at is null then b.found_at else excluded.found_at end
 where (b.ours, b.theirs, b.closed_at) is distinct from (excluded.ours, excluded.theirs, null)
returning id, kind, provider_id, ours, theirs
"""


def record_breaks(
    tx: Connection, shop_id: int, day: date, breaks: Sequence[Break], now: datetime
) -> list[Mutation]:
    """The open breaks of the shop's ``day`` are exactly ``breaks``; return what that changed, in words."""
    found: dict[str, Any] = {
        "shop_id": shop_id,
        "day": day,
        "now": now,
        "kind": text_array([b.kind for b in breaks]),
        "provider_id": text_array([b.provider_id for b in breaks]),
        "ours": text_array([_json(b.ours) for b in breaks]),
        "theirs": text_array([_json(b.theirs) for b in breaks]),
    }
    closed = tx.exec_driver_sql(_CLOSE, found).all()
    opened = tx.exec_driver_sql(_OPEN, found).all() if breaks else []
    return [_say(row, "closed", day) for row in closed] + [_say(row, "found", day) for row in opened]


def _say(row: Any, what: str, day: date) -> Mutation:
    """Return ``break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe``."""
    row_id, kind, provider_id, ours, theirs = row
    sides = f"{_say_side(ours)} here, {_say_side(theirs)} at Stripe"
    summary = f"break {what} on {day.isoformat()}: {provider_id} ({kind}), {sides}"
    state = {"day": day, "kind": kind, "provider_id": provider_id, "ours": ours, "theirs": theirs}
    is_open = what == "found"
    return Mutation(
        "reconciliation_breaks", str(row_id), summary, None if is_open else state, state if is_open else None
    )


def _say_side(charge: Mapping[str, Any] | None) -> str:
    if charge is None:
        return "nothing"
    return f"{say_money(charge['amount_cents'], charge['currency'])} {charge['status']}"


def _json(charge: Booked | None) -> str | None:
    return None if charge is None else orjson.dumps(charge.as_json()).decode()
