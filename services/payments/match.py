"""Compares a day of ``transactions`` with Stripe's rows inside PostgreSQL: one full outer join of any size.

Stripe's rows stream into a temporary table by COPY. Only counts and sums come into this process.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_copy import COPY_FORMAT, copy_in
from services.payments.comparison import IS_STAGED, Comparison, insert_staged, side_json
from services.payments.match_rules import TWIN, stage_duplicates, stage_order_amounts
from services.payments.stripe_lists import StripeRow

WORK_MEM = "4MB"
"""A hash may use twice as much. A larger one goes through files in parts that stay in the processor's cache:
for a million rows that is faster than one hash that does not."""


# A hash join is the right one at this size; JIT would take longer than the statements.
_PLANNED = f"set local work_mem = '{WORK_MEM}'; set local enable_mergejoin = off; set local jit = off"

# ``twin`` is one number for a charge's order and amount, computed while the next rows arrive. The columns
# that every pass reads stand first: PostgreSQL walks a row from its start.
_CREATE = f"""
create temporary table stripe_side (
  twin bigint generated always as ({TWIN}) stored, amount_cents bigint, created bigint, refunded_cents bigint,
  kind text, currency text, status text, provider_id text, fee_cents bigint, parent_id text, order_ref text
) on commit drop
"""

_COPY = f"copy stripe_side ({', '.join(StripeRow._fields)}) from stdin with (freeze, {COPY_FORMAT})"

# A payment that failed, waits or is only a warning moved no money, and may be on one side only.
_MOVED = """case {0}.kind when 'charge' then {0}.status = 'paid' when 'refund' then {0}.status = 'succeeded'
                 when 'payout' then {0}.status in ('paid', 'in_transit')
                 else {0}.status not like 'warning%%' and {0}.status <> 'prevented' end"""

# The join carries only what is compared; the wide columns are fetched for the few rows that differ.
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

# Our row is looked up by its id alone: a row that the two sides date differently is no break.
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
  left join lateral (select * from stripe_side where ctid = u.stripe_ctid limit 1) t on true
"""  # noqa: S608

_FEE = "case when b.kind = 'fee' then {}_fee end"

_BREAKS = f"""
{insert_staged()} b.kind, d.provider_id, d.subject,
       case when is_here then
            {side_json("our_amount", "our_currency", "our_status", _FEE.format("our"))} end,
       case when is_there then
            {side_json("their_amount", "their_currency", "their_status", _FEE.format("their"))} end,
       jsonb_strip_nulls(jsonb_build_object('parent_id', nullif(parent_id, ''), 'order_ref',
           nullif(order_ref, ''), 'ours_at', our_at, 'theirs_at', their_at))
  from differing d
 cross join lateral (values
       ('missing_here', not is_here and is_their_money), ('missing_there', not is_there and is_our_money),
       ('amount', our_amount <> their_amount), ('currency', our_currency <> their_currency),
       ('status', our_status <> their_status), ('fee', our_fee <> their_fee)) as b(kind, holds)
 where b.holds
on conflict do nothing
"""

# Rows that do not differ are the same on both sides, so Stripe's sums are ours but for the few that differ.
# Ours are summed because parallel workers cannot read a temporary table.
_SUMS = f"""
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
select 'ours' as side, kind, currency, n as rows, cents::bigint as cents from our_sum
union all
select 'theirs', kind, currency, sum(n)::bigint, sum(cents)::bigint
  from (select * from our_sum union all select * from moved) both_sides
 group by kind, currency having sum(n) <> 0
"""  # noqa: S608

# A run that died left its rows; no live run has a token that old.
_DELETE_STALE = """
delete from reconciliation_staging
 where shop_id = %(shop_id)s and found_at < %(now)s::timestamptz - interval '6 hours'
"""

_COUNT = f"select f.kind, count(*) as n from reconciliation_staging f where {IS_STAGED} group by 1 order by 1"  # noqa: S608


def match_day(tx: Connection, comparison: Comparison, blocks: Iterable[bytes]) -> Sequence[Row[Any]]:
    """Stage every break between the two sides; return the sums of each side.

    They have ``side`` (``ours``, ``theirs``), ``kind``, ``currency``, ``rows``, and ``cents`` of those that
    moved money. ``blocks`` is the text of ``render_rows``. Needs the right to create temporary tables. The
    caller commits; no other transaction waits for the locks that this one holds.
    """
    values = comparison._asdict()
    tx.exec_driver_sql(_DELETE_STALE, values)
    tx.exec_driver_sql(_PLANNED)
    tx.exec_driver_sql(_CREATE)
    copy_in(tx, _COPY, blocks)
    for statement in (_UNEQUAL, _DIFFERING, _BREAKS):
        tx.exec_driver_sql(statement, values)
    stage_duplicates(tx, values, WORK_MEM)
    stage_order_amounts(tx, values)
    return tx.exec_driver_sql(_SUMS, values).all()


def count_staged(tx: Connection, comparison: Comparison) -> dict[str, int]:
    """Return how many breaks are staged, by kind."""
    return {row.kind: row.n for row in tx.exec_driver_sql(_COUNT, comparison._asdict())}
