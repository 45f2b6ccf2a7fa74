"""A day's open breaks: exactly those that were found last, and every change of them in the audit.

What the comparison found lies in ``reconciliation_staging``; here it becomes the day's state, in
sets. A closed
day's rows stay as they are: what differs is appended to ``break_corrections``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Row

from services.audit.chain import Mutation
from services.ledger.describe import format_money
from services.payments.break_mail import OpenBreak
from services.payments.break_queries import STANDING, list_day_breaks
from services.payments.day import Day
from services.payments.period_lock import is_closed

TOLD_AT_MOST = 200
"""Changes that one entry of the audit tells one by one; the others it counts."""

MAILED_AT_MOST = 20_000
"""Breaks of one day beyond which a mail's attachment would be larger than mail servers take."""

_TELL = f"""
select id, kind, provider_id, ours, theirs,
       (select jsonb_object_agg(kind, n)
          from (select kind, count(*) as n from changed group by kind) k) as counts
  from changed order by id limit {TOLD_AT_MOST}
"""  # noqa: S608

_CLOSE = f"""
with changed as (
  update reconciliation_breaks b set closed_at = %(now)s
   where b.shop_id = %(shop_id)s and b.day = %(day)s and b.closed_at is null
     and not exists (select 1 from reconciliation_staging f where f.shop_id = b.shop_id and f.day = b.day
                        and f.token = %(token)s and f.kind = b.kind and f.provider_id = b.provider_id)
  returning b.id, b.kind, b.provider_id, b.ours, b.theirs)
{_TELL}
"""  # noqa: S608

# A break that is found as it was found before is no change.
_OPEN = f"""
with changed as (
  insert into reconciliation_breaks as b (shop_id, day, kind, provider_id, subject, ours, theirs, evidence,
      cause,
                                          cause_event_id, found_at)
  select shop_id, day, kind, provider_id, subject, ours, theirs, evidence, cause, cause_event_id, %(now)s
    from reconciliation_staging f where f.shop_id = %(shop_id)s and f.day = %(day)s and f.token = %(token)s
   order by kind, provider_id
  on conflict (shop_id, day, kind, provider_id) do update set
     subject = excluded.subject, ours = excluded.ours, theirs = excluded.theirs, evidence = excluded.evidence,
     cause = excluded.cause, cause_event_id = excluded.cause_event_id, closed_at = null,
     found_at = case when b.closed_at is null then b.found_at else excluded.found_at end
   where (b.ours, b.theirs, b.cause, b.cause_event_id, b.evidence, b.closed_at) is distinct from
         (excluded.ours, excluded.theirs, excluded.cause, excluded.cause_event_id, excluded.evidence, null)
  returning b.id, b.kind, b.provider_id, b.ours, b.theirs)
{_TELL}
"""  # noqa: S608

_CORRECT_FOUND = f"""
with {STANDING}, changed as (
  insert into break_corrections (shop_id, day, kind, provider_id, subject, change, ours, theirs, evidence,
      cause,
                                 cause_event_id, at)
  select f.shop_id, f.day, f.kind, f.provider_id, f.subject, 'found', f.ours, f.theirs, f.evidence, f.cause,
         f.cause_event_id, %(now)s
    from reconciliation_staging f left join standing s on s.kind = f.kind and s.provider_id = f.provider_id
   where f.shop_id = %(shop_id)s and f.day = %(day)s and f.token = %(token)s
     and (s.is_open is not true or (s.ours, s.theirs) is distinct from (f.ours, f.theirs))
   order by f.kind, f.provider_id
  returning id, kind, provider_id, ours, theirs)
{_TELL}
"""  # noqa: S608

_CORRECT_CLOSED = f"""
with {STANDING}, changed as (
  insert into break_corrections (shop_id, day, kind, provider_id, subject, change, ours, theirs, evidence,
      cause,
                                 cause_event_id, at)
  select %(shop_id)s, %(day)s, s.kind, s.provider_id, s.subject, 'closed', s.ours, s.theirs, s.evidence,
      s.cause,
         s.cause_event_id, %(now)s
    from standing s
   where s.is_open
     and not exists (select 1 from reconciliation_staging f where f.shop_id = %(shop_id)s and f.day = %(day)s
                        and f.token = %(token)s and f.kind = s.kind and f.provider_id = s.provider_id)
   order by s.kind, s.provider_id
  returning id, kind, provider_id, ours, theirs)
{_TELL}
"""  # noqa: S608

_FORGET = (
    "delete from reconciliation_staging where shop_id = %(shop_id)s and day = %(day)s and token = %(token)s"
)


def record_breaks(tx: Connection, day: Day, token: str, now: datetime) -> list[Mutation]:
    """The open breaks of ``day`` are exactly those found under ``token``; return what that changed, in words.

    The caller holds ``lock_books``. What was found is taken from ``reconciliation_staging``, which
    forgets it.
    """
    values = {"shop_id": day.shop_id, "day": day.day, "token": token, "now": now}
    closed_day = is_closed(tx, day.shop_id, day.day)
    table = "break_corrections" if closed_day else "reconciliation_breaks"
    ways = (
        {"closed": _CORRECT_CLOSED, "found": _CORRECT_FOUND}
        if closed_day
        else {"closed": _CLOSE, "found": _OPEN}
    )
    told: list[Mutation] = []
    for what, statement in ways.items():
        told += _say_all(tx.exec_driver_sql(statement, values).all(), what, day.day, table)
    tx.exec_driver_sql(_FORGET, values)
    return told


def find_open_breaks(tx: Connection, shop_id: int, day: date) -> list[OpenBreak]:
    """Return the day's open breaks as a mail tells them, the first ``MAILED_AT_MOST``."""
    found = list_day_breaks(tx, shop_id, day, limit=MAILED_AT_MOST)
    return [OpenBreak(b.kind, b.provider_id, b.ours, b.theirs, b.subject, b.cause) for b in found]


def _say_all(rows: Sequence[Row[Any]], what: str, day: date, table: str) -> list[Mutation]:
    said = [_say(row, what, day, table) for row in rows]
    more = Counter(rows[0].counts if rows else {}) - Counter(row.kind for row in rows)
    if left := more.total():
        counts = {"day": day, **dict(sorted(more.items()))}
        words = f"and {left} more breaks {what} on {day.isoformat()}"
        is_open = what == "found"
        said.append(
            Mutation(table, f"{left} rows", words, None if is_open else counts, counts if is_open else None)
        )
    return said


def _say(row: Any, what: str, day: date, table: str) -> Mutation:
    """Return ``break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe``."""
    row_id, kind, provider_id, ours, theirs, _ = row
    at_stripe = "an unreadable object" if kind == "unreadable" and theirs is None else _say_side(theirs)
    sides = f"{_say_side(ours)} here, {at_stripe} at Stripe"
    subject = "break" if table == "reconciliation_breaks" else "correction of a closed day: break"
    summary = f"{subject} {what} on {day.isoformat()}: {provider_id} ({kind}), {sides}"
    state = {"day": day, "kind": kind, "provider_id": provider_id, "ours": ours, "theirs": theirs}
    is_open = what == "found" or table == "break_corrections"
    return Mutation(table, str(row_id), summary, None if is_open else state, state if is_open else None)


def _say_side(side: Mapping[str, Any] | None) -> str:
    if side is None:
        return "nothing"
    fee = f" with a fee of {format_money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{format_money(side['amount_cents'], side['currency'])} {side['status']}{fee}"
