"""Compares a day of ``transactions`` with Stripe's rows inside PostgreSQL: one full outer join of any size.

Stripe's rows stream into a temporary table by COPY. Only counts and sums come into this process.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_copy import COPY_FORMAT, copy_in
from services.payments.comparison import IS_STAGED, DayComparison, insert_staged_sql, side_json
from services.payments.match_rules import PAYMENT_HASH, stage_duplicates, stage_order_amounts
from services.payments.stripe_lists import StripeRow

WORK_MEM = "4MB"
"""A hash may use twice as much. A larger one is split into files whose parts fit into the processor's cache:
for a million rows this is faster than one large hash."""

# A hash join is the fastest at this size; JIT would take longer than the statements.
_PLANNER_SETTINGS = (
    f"set local work_mem = '{WORK_MEM}'; set local enable_mergejoin = off; set local jit = off"
)

# ``payment_hash`` is one number for a charge's order and amount, computed while rows arrive. The columns that
# every statement reads come first, because PostgreSQL reads a row from its start.
_CREATE = f"""
create temporary table stripe_side (
  payment_hash bigint generated always as ({PAYMENT_HASH}) stored, amount_cents bigint, created bigint,
  refunded_cents bigint, kind text, currency text, status text, provider_id text, fee_cents bigint,
  parent_id text, order_ref text
) on commit drop
"""

_COPY = f"copy stripe_side ({', '.join(StripeRow._fields)}) from stdin with (freeze, {COPY_FORMAT})"

# A payment that failed, waits or is only a warning moved no money. It may be on one side only.
_MOVED = """case {0}.kind when 'charge' then {0}.status = 'paid' when 'refund' then {0}.status = 'succeeded'
                 when 'payout' then {0}.status in ('paid', 'in_transit')
                 else {0}.status not like 'warning%%' and {0}.status <> 'prevented' end"""

# The join has only the compared columns; the others are fetched for the few rows that differ.
_UNEQUAL = """
create temporary table unequal on commit drop as
select coalesce(t.provider_id, o.provider_id) as provider_id, t.ctid as stripe_ctid,
       o.provider_id is not null as is_in_day
  from (select provider_id, amount_cents, currency, status, fee_cents from transactions
         where shop_id = %(shop_id)s and occurred_at >= %(begins)s and occurred_at < %(ends)s
           and kind <> 'payment_intent') o
  full join stripe_side t on t.provider_id = o.provider_id
 where o.provider_id is null or t.provider_id is null or o.amount_cents <> t.amount_cents
    or o.status <> t.status or o.currency <> t.currency or o.fee_cents <> t.fee_cents
"""

# The recorded row is found by id alone: another date at Stripe is no break.
_DIFFERING = f"""
create temporary table differing on commit drop as
select u.provider_id, u.is_in_day, coalesce(t.kind, o.kind) as subject,
       o.provider_id is not null as is_recorded, t.provider_id is not null as is_listed,
       o.kind as recorded_kind, o.amount_cents as recorded_amount, o.currency as recorded_currency,
       o.status as recorded_status, o.fee_cents as recorded_fee, o.occurred_at as recorded_at,
       t.kind as stripe_kind, t.amount_cents as stripe_amount, t.currency as stripe_currency,
       t.status as stripe_status, t.fee_cents as stripe_fee, to_timestamp(t.created) as stripe_at,
       coalesce(nullif(t.parent_id, ''), o.parent_id, '') as parent_id,
       coalesce(nullif(t.order_ref, ''), o.order_ref, '') as order_ref,
       {_MOVED.format("o")} as is_recorded_money, {_MOVED.format("t")} as is_stripe_money
  from unequal u
  left join lateral (
    select * from transactions where shop_id = %(shop_id)s and provider_id = u.provider_id limit 1) o
        on true
  left join lateral (select * from stripe_side where ctid = u.stripe_ctid limit 1) t on true
"""  # noqa: S608

_FEE = "case when b.kind = 'fee' then {}_fee end"

_BREAKS = f"""
{insert_staged_sql()} b.kind, d.provider_id, d.subject,
       case when is_recorded then
          {side_json("recorded_amount", "recorded_currency", "recorded_status", _FEE.format("recorded"))} end,
       case when is_listed then
          {side_json("stripe_amount", "stripe_currency", "stripe_status", _FEE.format("stripe"))} end,
       jsonb_strip_nulls(jsonb_build_object('parent_id', nullif(parent_id, ''), 'order_ref',
           nullif(order_ref, ''), 'ours_at', recorded_at, 'theirs_at', stripe_at))
  from differing d
 cross join lateral (values
       ('missing_here', not is_recorded and is_stripe_money),
       ('missing_there', not is_listed and is_recorded_money),
       ('amount', recorded_amount <> stripe_amount), ('currency', recorded_currency <> stripe_currency),
       ('status', recorded_status <> stripe_status), ('fee', recorded_fee <> stripe_fee)) as b(kind, is_break)
 where b.is_break
on conflict do nothing
"""

# Stripe's sums are the recorded sums, corrected by the few rows that differ. The recorded rows are summed,
# because parallel workers cannot read a temporary table.
_SUMS = f"""
with grouped as (
  select kind, currency, status, count(*) as n, sum(amount_cents) as cents
    from transactions
   where shop_id = %(shop_id)s and occurred_at >= %(begins)s and occurred_at < %(ends)s
     and kind <> 'payment_intent'
   group by kind, currency, status
), recorded_sum as (
  select kind, currency, sum(n)::bigint as n,
         coalesce(sum(cents) filter (where {_MOVED.format("g")}), 0) as cents
    from grouped g group by kind, currency
), moved as (
  select stripe_kind as kind, stripe_currency as currency, 1 as n,
         case when is_stripe_money then stripe_amount else 0 end as cents from differing where is_listed
  union all
  select recorded_kind, recorded_currency, -1, case when is_recorded_money then -recorded_amount else 0 end
    from differing where is_in_day
)
select 'ours' as side, kind, currency, n as rows, cents::bigint as cents from recorded_sum
union all
select 'theirs', kind, currency, sum(n)::bigint, sum(cents)::bigint
  from (select * from recorded_sum union all select * from moved) both_sides
 group by kind, currency having sum(n) <> 0
"""  # noqa: S608

# Rows of crashed runs: no running comparison is that old.
_DELETE_STALE = """
delete from reconciliation_staging
 where shop_id = %(shop_id)s and found_at < %(now)s::timestamptz - interval '6 hours'
"""

_COUNT = f"select f.kind, count(*) as n from reconciliation_staging f where {IS_STAGED} group by 1 order by 1"  # noqa: S608


def stage_breaks(tx: Connection, comparison: DayComparison, blocks: Iterable[bytes]) -> Sequence[Row[Any]]:
    """Stage every break between the two sides; return the sums of each side.

    They have ``side`` (``ours``, ``theirs``), ``kind``, ``currency``, ``rows``, and ``cents`` of those that
    moved money. ``blocks`` is the text of ``render_rows``. Needs the right to create temporary tables. The
    caller commits; no other transaction waits for the locks that this one holds.
    """
    values = comparison._asdict()
    tx.exec_driver_sql(_DELETE_STALE, values)
    tx.exec_driver_sql(_PLANNER_SETTINGS)
    tx.exec_driver_sql(_CREATE)
    copy_in(tx, _COPY, blocks)
    for statement in (_UNEQUAL, _DIFFERING, _BREAKS):
        tx.exec_driver_sql(statement, values)
    stage_duplicates(tx, values, WORK_MEM)
    stage_order_amounts(tx, values)
    return tx.exec_driver_sql(_SUMS, values).all()


def count_staged(tx: Connection, comparison: DayComparison) -> dict[str, int]:
    return {row.kind: row.n for row in tx.exec_driver_sql(_COUNT, comparison._asdict())}
