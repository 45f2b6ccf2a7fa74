"""The breaks of a day: their causes, their current state, and the record of what a comparison staged.

The rows of a closed day do not change: differences found later are appended to ``break_corrections``, and the
newest correction of a break decides whether it is open. All readers use the queries of this module, which
include the corrections.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.chain import Mutation
from services.core.counts import format_count
from services.core.db import Page, fetch_page
from services.core.locks import lock_objects
from services.ledger.audit_text import format_money
from services.payments.comparison import IS_STAGED, DayComparison

MAX_AUDITED = 200
"""Changes that one audit entry lists one by one; the others are counted."""


class PaymentBreak(NamedTuple):
    """One difference of a day between our record and Stripe's; a side without the payment is None."""

    kind: str
    subject: str
    provider_id: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None
    found_at: datetime
    closed_at: datetime | None = None
    is_open: bool = True
    cause: str = ""
    cause_event_id: str = ""
    evidence: Mapping[str, Any] = MappingProxyType({})
    is_correction: bool = False


class CauseText(NamedTuple):
    """``reason`` explains the break; ``todo`` is the next step for a person and begins with a verb."""

    reason: str
    todo: str


_REPAIR_OBJECT = "run `fleet payments repair`: it fetches the object itself"

CAUSES = {
    "lost_webhook": CauseText(
        "Stripe has an event about it that was not received here",
        "run `fleet payments repair`: it fetches the event",
    ),
    "dead_work": CauseText(
        "its event was received, but its work is dead",
        "run `fleet work show ID`, correct the cause of its error, then `fleet payments repair`",
    ),
    "discarded_work": CauseText(
        "its event was received, but a person discarded its work",
        "read the reason in the audit; `celery -A tasks requeue` starts the work again",
    ),
    "in_queue": CauseText(
        "its event was received and waits for a worker", "wait, then run the reconciliation again"
    ),
    "paused": CauseText(
        "its event was received and waits because of a pause",
        "end the pause when possible: `celery -A tasks backlog` shows it, `celery -A tasks resume` ends it",
    ),
    "not_ours": CauseText(
        "our event about it came from test mode or from another account",
        "check which account the webhook secret belongs to",
    ),
    "too_old_for_events": CauseText("Stripe keeps events for 30 days only", _REPAIR_OBJECT),
    "never_at_stripe": CauseText(
        "Stripe has no such object under this key",
        "compare the accounts of the shop's stripe-key and of its webhook secret",
    ),
    "paid_twice": CauseText(
        "the customer seems to have paid twice", "check both charges and refund one if necessary"
    ),
    "fee_differs": CauseText(
        "Stripe's fee differs from the recorded or the agreed fee",
        "compare it with the shop's contract with Stripe",
    ),
    "order_differs": CauseText(
        "Shopify has another paid amount for the order", "compare the order's payments with the charge"
    ),
    "unreadable_object": CauseText(
        "Stripe's object lacks a field that we need; the evidence names it",
        "compare the object with Stripe by hand; the rest of the day is compared",
    ),
    "unknown": CauseText("no check found a reason", _REPAIR_OBJECT),
}
"""By the slug that is stored with each break."""

# The current state of each break of the (shop, day).
_CURRENT = """
latest as (
  select distinct on (kind, provider_id) * from break_corrections
   where shop_id = %(shop_id)s and day = %(day)s order by kind, provider_id, id desc
), current_breaks as (
  select coalesce(c.kind, b.kind) as kind, coalesce(c.provider_id, b.provider_id) as provider_id,
         coalesce(c.subject, b.subject) as subject,
         case when c.id is null then b.ours else c.ours end as ours,
         case when c.id is null then b.theirs else c.theirs end as theirs,
         coalesce(b.found_at, c.at) as found_at,
         case when c.id is null then b.closed_at when c.change = 'closed' then c.at end as closed_at,
         case when c.id is null then b.closed_at is null else c.change = 'found' end as is_open,
         coalesce(c.cause, b.cause) as cause, coalesce(c.cause_event_id, b.cause_event_id) as cause_event_id,
         coalesce(c.evidence, b.evidence) as evidence, c.id is not null as is_correction
    from (select * from reconciliation_breaks where shop_id = %(shop_id)s and day = %(day)s) b
    full join latest c on c.kind = b.kind and c.provider_id = b.provider_id
)
"""

_LIST = f"""
with {_CURRENT}
select {", ".join(PaymentBreak._fields)} from current_breaks where is_open or not %(only_open)s
 order by not is_open, kind, provider_id limit %(limit)s
"""  # noqa: S608

_COUNT = f"with {_CURRENT} select kind, count(*) as n from current_breaks where is_open group by 1 order by 1"  # noqa: S608

_CHANGED = f"""
select id, kind, provider_id, ours, theirs,
       (select jsonb_object_agg(kind, n)
          from (select kind, count(*) as n from changed group by kind) k) as counts
  from changed order by id limit {MAX_AUDITED}
"""  # noqa: S608

_CLOSE = f"""
with changed as (
  update reconciliation_breaks b set closed_at = %(now)s
   where b.shop_id = %(shop_id)s and b.day = %(day)s and b.closed_at is null
     and not exists (select 1 from reconciliation_staging f
                      where {IS_STAGED} and f.kind = b.kind and f.provider_id = b.provider_id)
  returning b.id, b.kind, b.provider_id, b.ours, b.theirs)
{_CHANGED}
"""  # noqa: S608

# A break that is found again unchanged is not written.
_OPEN = f"""
with changed as (
  insert into reconciliation_breaks as b (shop_id, day, kind, provider_id, subject, ours, theirs, evidence,
                                          cause, cause_event_id, found_at)
  select shop_id, day, kind, provider_id, subject, ours, theirs, evidence, cause, cause_event_id, %(now)s
    from reconciliation_staging f where {IS_STAGED}
   order by kind, provider_id
  on conflict (shop_id, day, kind, provider_id) do update set
     subject = excluded.subject, ours = excluded.ours, theirs = excluded.theirs, evidence = excluded.evidence,
     cause = excluded.cause, cause_event_id = excluded.cause_event_id, closed_at = null,
     found_at = case when b.closed_at is null then b.found_at else excluded.found_at end
   where (b.ours, b.theirs, b.cause, b.cause_event_id, b.evidence, b.closed_at) is distinct from
         (excluded.ours, excluded.theirs, excluded.cause, excluded.cause_event_id, excluded.evidence, null)
  returning b.id, b.kind, b.provider_id, b.ours, b.theirs)
{_CHANGED}
"""  # noqa: S608

_CORRECT = f"""
with {_CURRENT}, changed as (
  insert into break_corrections (shop_id, day, kind, provider_id, subject, change, ours, theirs, evidence,
                                 cause, cause_event_id, at)
  select %(shop_id)s, %(day)s, f.kind, f.provider_id, f.subject, %(change)s, f.ours, f.theirs, f.evidence,
         f.cause, f.cause_event_id, %(now)s
    from {{}}
   order by f.kind, f.provider_id
  returning id, kind, provider_id, ours, theirs)
{_CHANGED}
"""  # noqa: S608

_CORRECT_FOUND = _CORRECT.format(
    f"""reconciliation_staging f
    left join current_breaks s on s.kind = f.kind and s.provider_id = f.provider_id
   where {IS_STAGED} and (s.is_open is not true or (s.ours, s.theirs) is distinct from (f.ours, f.theirs))"""
)

_CORRECT_CLOSED = _CORRECT.format(
    f"""current_breaks f
   where f.is_open and not exists (
     select 1 from reconciliation_staging s where {IS_STAGED.replace("f.", "s.")} and s.kind = f.kind
        and s.provider_id = f.provider_id)"""  # noqa: S608
)

_DELETE_STAGED = f"delete from reconciliation_staging f where {IS_STAGED}"  # noqa: S608

_IS_CLOSED = """
select exists (select 1 from closed_periods
                where shop_id = %(shop_id)s and begins_on <= %(day)s and %(day)s < ends_before)
"""


def describe_cause(slug: str) -> CauseText:
    """Return the texts of ``slug``; a break without a cause was found before causes were suggested."""
    return CAUSES.get(slug, CauseText("no cause was searched yet", "run the reconciliation again"))


def format_side(side: Mapping[str, Any] | None, missing: str = "nothing") -> str:
    """Return one side of a break: ``10.00 CAD paid, fee 0.59 CAD``; ``missing`` for None."""
    if side is None:
        return missing
    fee = f", fee {format_money(side['fee_cents'], side['currency'])}" if "fee_cents" in side else ""
    return f"{format_money(side['amount_cents'], side['currency'])} {side['status']}{fee}"


def lock_payment_periods(tx: Connection, shop_id: int) -> None:
    """Lock the shop's periods: until ``tx`` ends, no other transaction records breaks or closes a period.

    Without the lock a reconciliation could write into a period that is being closed. Never hold it during a
    call to a provider.
    """
    lock_objects(tx, [(shop_id, "books")])


def list_day_breaks(
    tx: Connection, shop_id: int, day: date, *, only_open: bool = True, limit: int | None = None
) -> Page[PaymentBreak]:
    """Return the first ``limit`` breaks of the shop's ``day``, open ones first, by kind and id."""
    rows = fetch_page(tx, _LIST, limit, {"shop_id": shop_id, "day": day, "only_open": only_open})
    page = Page(PaymentBreak(**row._mapping) for row in rows)
    page.total = rows.total
    return page


def count_day_breaks(tx: Connection, shop_id: int, day: date) -> dict[str, int]:
    return {row.kind: row.n for row in tx.exec_driver_sql(_COUNT, {"shop_id": shop_id, "day": day})}


def record_breaks(tx: Connection, comparison: DayComparison) -> list[Mutation]:
    """Make the staged breaks of ``comparison`` the day's open breaks; return the changes.

    The caller holds ``lock_payment_periods``. Deletes the staged rows.
    """
    day = comparison.day
    if tx.exec_driver_sql(_IS_CLOSED, comparison._asdict()).scalar():
        table, statements = "break_corrections", {"closed": _CORRECT_CLOSED, "found": _CORRECT_FOUND}
    else:
        table, statements = "reconciliation_breaks", {"closed": _CLOSE, "found": _OPEN}
    mutations: list[Mutation] = []
    for change, statement in statements.items():
        rows = tx.exec_driver_sql(statement, {**comparison._asdict(), "change": change}).all()
        mutations += _describe_changes(rows, change, day, table)
    tx.exec_driver_sql(_DELETE_STAGED, comparison._asdict())
    return mutations


def _describe_changes(rows: Sequence[Row[Any]], change: str, day: date, table: str) -> list[Mutation]:
    mutations = [_describe_change(row, change, day, table) for row in rows]
    more = Counter(rows[0].counts if rows else {}) - Counter(row.kind for row in rows)
    if left := more.total():
        counts = {"day": day, **dict(sorted(more.items()))}
        summary = f"and {format_count(left, 'more break')} {change} on {day.isoformat()}"
        before, after = (None, counts) if change == "found" else (counts, None)
        mutations.append(Mutation(table, format_count(left, "row"), summary, before, after))
    return mutations


def _describe_change(row: Row[Any], change: str, day: date, table: str) -> Mutation:
    """Return ``break found on 2026-11-20: ch_1 (amount), 10.00 CAD paid here, 9.00 CAD paid at Stripe``."""
    missing = "an unreadable object" if row.kind == "unreadable" else "nothing"
    sides = f"{format_side(row.ours)} here, {format_side(row.theirs, missing)} at Stripe"
    subject = "break" if table == "reconciliation_breaks" else "correction of a closed day: break"
    summary = f"{subject} {change} on {day.isoformat()}: {row.provider_id} ({row.kind}), {sides}"
    state = {name: getattr(row, name) for name in ("kind", "provider_id", "ours", "theirs")}
    state["day"] = day
    is_new = change == "found" or table == "break_corrections"
    return Mutation(table, str(row.id), summary, None if is_new else state, state if is_new else None)
