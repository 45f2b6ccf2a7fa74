"""Both books of a day held against each other inside PostgreSQL: one full outer join, whatever their size.

Stripe's side streams into a temporary table by COPY; the breaks are rows of
``reconciliation_staging``, where the
transaction that ends the run takes them from. Nothing but counts comes into this process.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.pg_copy import COPY_FORMAT, copy_in
from services.payments.day import Day
from services.payments.match_rules import TWIN, find_duplicates, find_order_amounts
from services.payments.stripe_rows import StripeRow

WORK_MEM = "4MB"
"""A hash may have twice as much. What is larger goes through files, in parts that stay in the processor's
cache: for a million rows that is faster than one hash that does not."""


class SideSum(NamedTuple):
    """What one side of the day comes to: every row counts, and the cents of those that moved money."""

    side: str
    kind: str
    currency: str
    rows: int
    cents: int


# A join of this size is one by hash; compiling the statements would take longer than they do.
_PLANNED = f"set local work_mem = '{WORK_MEM}'; set local enable_mergejoin = off; set local jit = off"

# ``twin`` is one number for a charge's order and amount, made while the next rows are still on their way.
# What every pass reads stands first: a row is walked from its start.
_THEIRS = f"""
create temporary table theirs (
  twin bigint generated always as ({TWIN}) stored, amount_cents bigint, created bigint, refunded_cents bigint,
  kind text, currency text, status text, provider_id text, fee_cents bigint, parent_id text, order_ref text
) on commit drop
"""

_COPY = f"copy theirs ({', '.join(StripeRow._fields)}) from stdin with (freeze, {COPY_FORMAT})"

# What failed, waits or was only warned of moved no money, and may be in one book only.
_MOVED = """case {0}.kind when 'charge' then {0}.status = 'paid' when 'refund' then {0}.status = 'succeeded'
                 when 'payout' then {0}.status in ('paid', 'in_transit')
                 else {0}.status not like 'warning%%' and {0}.status <> 'prevented' end"""

# The join carries what is compared and nothing else; the wide columns are fetched for the few that differ.
_UNEQUAL = """
create temporary table unequal on commit drop as
select coalesce(t.provider_id, o.provider_id) as provider_id, t.ctid as their_place,
       o.provider_id is not null as is_in_day
  from (select provider_id, amount_cents, currency, status, fee_cents from transactions
         where shop_id = %(shop_id)s and occurred_at >= %(begins)s and occurred_at < %(ends)s
           and kind <> 'payment_intent') o
  full join theirs t on t.provider_id = o.provider_id
 where o.provider_id is null or t.provider_id is null or o.amount_cents <> t.amount_cents
    or o.status <> t.status or o.currency <> t.currency or o.fee_cents <> t.fee_cents
"""

# Ours is looked for by its id alone: a row that the two date differently is no break.
_DIFFERING = f"""
create temporary table differing on commit drop as
select u.provider_id, u.is_in_day, coalesce(t.kind, o.kind) as subject, o.provider_id is not null as is_here,
       t.provider_id is not null as is_there, o.kind as our_kind, o.amount_cents as our_amount,
       o.currency as our_currency, o.status as our_status, o.fee_cents as our_fee, o.occurred_at as our_at,
       t.kind as their_kind, t.amount_cents as their_amount, t.currency as their_currency,
       t.status as their_status, t.fee_cents as their_fee, to_timestamp(t.created) as their_at,
       coalesce(nullif(t.parent_id, ''), o.parent_id, '') as parent_id,
       coalesce(nullif(t.order_ref, ''), o.order_ref, '') as order_ref,
       {_MOVED.format("o")} as is_our_money, {_MOVED.format("t")} as is_their_money
  from unequal u
  left join lateral (
    select * from transactions where shop_id = %(shop_id)s and provider_id = u.provider_id limit 1) o
        on true
  left join lateral (select * from theirs where ctid = u.their_place limit 1) t on true
"""  # noqa: S608

_BREAKS = """
insert into reconciliation_staging
       (shop_id, day, token, kind, provider_id, subject, ours, theirs, evidence, found_at)
select %(shop_id)s, %(day)s, %(token)s, b.kind, d.provider_id, d.subject,
       case when is_here and b.kind = 'fee' then jsonb_build_object('amount_cents', our_amount, 'currency',
            our_currency, 'status', our_status, 'fee_cents', our_fee)
            when is_here then jsonb_build_object('amount_cents', our_amount, 'currency', our_currency,
            'status', our_status) end,
       case when is_there and b.kind = 'fee' then jsonb_build_object('amount_cents', their_amount, 'currency',
            their_currency, 'status', their_status, 'fee_cents', their_fee)
            when is_there then jsonb_build_object('amount_cents', their_amount, 'currency', their_currency,
            'status', their_status) end,
       jsonb_strip_nulls(jsonb_build_object('parent_id', nullif(parent_id, ''), 'order_ref',
           nullif(order_ref, ''), 'ours_at', our_at, 'theirs_at', their_at)), %(now)s
  from differing d
 cross join lateral (values
       ('missing_here', not is_here and is_their_money), ('missing_there', not is_there and is_our_money),
       ('amount', our_amount <> their_amount), ('currency', our_currency <> their_currency),
       ('status', our_status <> their_status), ('fee', our_fee <> their_fee)) as b(kind, holds)
 where b.holds
on conflict do nothing
"""

# Whatever does not differ is the same on both sides, so theirs is ours but for those few. Ours is summed, as
# a temporary table is closed to parallel workers.
_SUM = f"""
with grouped as (
  select kind, currency, status, count(*) as n, sum(amount_cents) as cents
    from transactions
   where shop_id = %(shop_id)s and occurred_at >= %(begins)s and occurred_at < %(ends)s
     and kind <> 'payment_intent'
   group by kind, currency, status
), our_sum as (
  select kind, currency, sum(n)::bigint as n,
         coalesce(sum(cents) filter (where {_MOVED.format("g")}), 0) as cents
    from grouped g group by kind, currency
), moved as (
  select their_kind as kind, their_currency as currency, 1 as n,
         case when is_their_money then their_amount else 0 end as cents from differing where is_there
  union all
  select our_kind, our_currency, -1, case when is_our_money then -our_amount else 0 end
    from differing where is_in_day
)
select 'ours', kind, currency, n, cents::bigint from our_sum
union all
select 'theirs', kind, currency, sum(n)::bigint, sum(cents)::bigint
  from (select * from our_sum union all select * from moved) both_sides
 group by kind, currency having sum(n) <> 0
"""  # noqa: S608

# A run that died left its finds; nobody else's token is that old.
_FORGET_STALE = """
delete from reconciliation_staging where shop_id = %(shop_id)s and found_at < %(now)s::timestamptz
- interval '6 hours'
"""

_COUNT = """
select kind, count(*) from reconciliation_staging
 where shop_id = %(shop_id)s and day = %(day)s and token = %(token)s group by kind order by kind
"""


def match_day(
    tx: Connection, day: Day, theirs: Iterable[bytes], *, token: str, now: datetime
) -> tuple[SideSum, ...]:
    """Every break between the two is a row of ``reconciliation_staging`` under ``token``; return
    each side's sums.

    ``theirs`` is the text of ``render_rows``. Needs the right to make temporary tables. The caller commits;
    nobody waits for what this holds.
    """
    scope = {**day._asdict(), "token": token, "now": now}
    tx.exec_driver_sql(_FORGET_STALE, scope)
    tx.exec_driver_sql(_PLANNED)
    tx.exec_driver_sql(_THEIRS)
    copy_in(tx, _COPY, theirs)
    tx.exec_driver_sql(_UNEQUAL, scope)
    tx.exec_driver_sql(_DIFFERING, scope)
    tx.exec_driver_sql(_BREAKS, scope)
    find_duplicates(tx, scope, WORK_MEM)
    find_order_amounts(tx, scope)
    return tuple(SideSum(*row) for row in tx.exec_driver_sql(_SUM, scope))


def count_found(tx: Connection, day: Day, token: str) -> dict[str, int]:
    """Return how many breaks were found under ``token``, by kind."""
    found = tx.exec_driver_sql(_COUNT, {**day._asdict(), "token": token})
    return {row[0]: row[1] for row in found}
