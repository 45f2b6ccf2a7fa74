"""Breaks beyond the comparison of rows: duplicates, fees, amounts of orders, unreadable objects."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection

from services.core.errors import Misconfigured
from services.core.pg_arrays import arrays
from services.payments.comparison import IS_STAGED, PAID_CHARGES, DayComparison, insert_staged_sql, side_json
from services.payments.stripe_lists import UnreadableObject

# A charge is identified by its order, else by its payment intent. Both are hashed with the amount, because
# nearly every hash is unique; the texts of rows with the same hash are compared later. The earlier charge may
# be up to two days older.
_REF = "coalesce(nullif(order_ref, ''), parent_id)"
_PAID = "kind = 'charge' and status = 'paid' and refunded_cents = 0"
PAYMENT_HASH = f"case when {_PAID} then hashtextextended({_REF}, amount_cents) end"
"""Null for a row that is not a paid charge without refunds. The seed is the amount."""

_BEFORE = f"""shop_id = %(shop_id)s and {_PAID} and occurred_at < %(begins)s
     and occurred_at >= %(begins)s::timestamptz - interval '2 days'"""

_REPEATED_HASHES = f"""
create temporary table repeated_hashes on commit drop as
select payment_hash from (
  select payment_hash from stripe_side
  union all
  select {PAYMENT_HASH} from transactions where {_BEFORE}
) hashes
 where payment_hash is not null group by payment_hash having count(*) > 1
"""  # noqa: S608

# Sorting a million numbers in memory is a fifth faster than hashing them: 8 MB for each 250,000.
_SORT_SETTINGS = "set local enable_hashagg = off; set local work_mem = '32MB'"
_RESTORE_SETTINGS = "set local enable_hashagg = on; set local work_mem = '{}'"

_CANDIDATES = f"""
create temporary table candidates on commit drop as
select {_REF} as ref, order_ref <> '' as is_order, provider_id, amount_cents, currency,
       to_timestamp(created) as at, true as is_today
  from repeated_hashes join stripe_side using (payment_hash)
union all
select {_REF}, order_ref <> '', provider_id, amount_cents, currency, occurred_at, false
  from repeated_hashes h join transactions on h.payment_hash = {PAYMENT_HASH}
 where {_BEFORE}
"""  # noqa: S608

_KNOWN_ORDERS = """
create temporary table known_orders on commit drop as
select distinct c.ref from candidates c
 where c.is_order and exists (select 1 from orders o where o.shop_id = %(shop_id)s and o.order_gid = c.ref)
"""

_TOTAL_PAID = f"""
create temporary table total_paid on commit drop as
select ref, sum(cents)::bigint as cents from (
  select order_ref as ref, amount_cents as cents from stripe_side join known_orders on ref = order_ref
   where {_PAID}
  union all
  select order_ref, amount_cents from transactions join known_orders on ref = order_ref where {_BEFORE}
) paid group by ref
"""  # noqa: S608

# An order that was paid in equal parts is no break if its total covers them all.
_COVERED = """
delete from candidates c using total_paid p, orders o
 where c.is_order and p.ref = c.ref and o.shop_id = %(shop_id)s and o.order_gid = c.ref
   and o.currency = c.currency and o.total_cents >= p.cents
"""

_DUPLICATES = f"""
with ranked as (
  select *, first_value(provider_id) over same as twin, first_value(at) over same as twin_at,
         row_number() over same as place
    from candidates where ref <> ''
  window same as (partition by is_order, ref, amount_cents, currency order by at, provider_id)
)
{insert_staged_sql()} 'duplicate', d.provider_id, 'charge',
       case when o.provider_id is not null then {side_json("o.amount_cents", "o.currency", "o.status")} end,
       {side_json("d.amount_cents", "d.currency", "'paid'")},
       jsonb_build_object('twin', d.twin, 'twin_at', d.twin_at, 'theirs_at', d.at,
                          case when d.is_order then 'order_ref' else 'parent_id' end, d.ref)
  from ranked d
  left join transactions o on o.shop_id = %(shop_id)s and o.provider_id = d.provider_id
 where d.place > 1 and d.is_today
on conflict do nothing
"""  # noqa: S608

_PERCENT = re.compile(r"[0-9]{1,2}(\.[0-9]{1,4})?", re.ASCII)
_FIND_PROFILE = "select settings -> 'stripe_fee' from shop_config where shop_id = %(shop_id)s"

_STATUS = "coalesce(recorded_status, 'paid')"
_EXPECTED_FEE = "case why when 'sum' then amount_cents - net_cents else expected_cents end"

# ``ours`` is the expected fee: by the sums of the entry, else by the shop's profile.
_FEES = f"""
with profile as (
  select %(percent)s::numeric as percent, %(fixed_cents)s::bigint as fixed_cents,
         %(tolerance_cents)s::bigint as tolerance_cents, currency
    from shops where id = %(shop_id)s
), entries as (
  select e.*, t.provider_id, t.kind as subject, t.status as recorded_status, f.percent,
         f.tolerance_cents, case when e.kind in ('charge', 'payment') and e.currency = f.currency
         then round(e.amount_cents * f.percent / 100)::bigint + f.fixed_cents end as expected_cents
    from balance_entries e
    left join transactions t on t.shop_id = e.shop_id and t.provider_id = e.source_id
    left join profile f on true
   where e.shop_id = %(shop_id)s and e.created_at >= %(begins)s and e.created_at < %(ends)s
), wrong as (
  select *, case when net_cents <> amount_cents - fee_cents then 'sum'
                 when abs(expected_cents - fee_cents) > tolerance_cents then 'profile' end as why
    from entries
)
{insert_staged_sql()} 'fee', case why when 'sum' then entry_id else source_id end,
       case why when 'sum' then 'balance' else coalesce(subject, 'charge') end,
       {side_json("amount_cents", "currency", _STATUS, _EXPECTED_FEE)},
       {side_json("amount_cents", "currency", _STATUS, "fee_cents")},
       jsonb_strip_nulls(jsonb_build_object('entry', entry_id, 'source', nullif(source_id, ''),
           'looked_at', why, 'net_cents', net_cents, 'expected_cents', expected_cents,
           'theirs_at', created_at))
  from wrong where why is not null
on conflict do nothing
"""  # noqa: S608

# Shopify's record of the payment contains the id of the charge or its intent, so the amounts can be compared.
_ORDER_AMOUNTS = f"""
with {PAID_CHARGES}, order_payments as (
  select m.order_transaction_id, m.order_gid, m.payment_ref, m.amount_cents, m.currency
    from refs r join order_transactions m on m.shop_id = %(shop_id)s and m.payment_ref = r.ref
   where m.payment_ref <> '' and not m.is_test and m.kind in ('sale', 'capture') and m.status = 'success'
), pairs as (
  select m.order_gid, m.order_transaction_id, c.provider_id, m.amount_cents as order_cents,
         c.amount_cents as charge_cents, c.currency
    from charges c join order_payments m on m.payment_ref = c.provider_id and m.currency = c.currency
  union
  select m.order_gid, m.order_transaction_id, c.provider_id, m.amount_cents, c.amount_cents, c.currency
    from charges c join order_payments m on m.payment_ref = c.parent_id and m.currency = c.currency
), paid as (
  select order_gid, sum(order_cents)::bigint as order_cents, sum(charge_cents)::bigint as charge_cents,
         max(currency) as currency, jsonb_agg(provider_id order by provider_id) as charges,
         jsonb_agg(order_transaction_id::text order by order_transaction_id) as order_transactions
    from pairs group by order_gid having sum(order_cents) <> sum(charge_cents)
)
{insert_staged_sql()} 'amount', p.order_gid, 'order',
       {side_json("p.order_cents", "p.currency", "coalesce(o.financial_status, 'paid')")},
       {side_json("p.charge_cents", "p.currency", "'paid'")},
       jsonb_strip_nulls(jsonb_build_object('order', o.name, 'charges', p.charges,
           'order_transactions', p.order_transactions))
  from paid p left join orders o on o.shop_id = %(shop_id)s and o.order_gid = p.order_gid
on conflict do nothing
"""  # noqa: S608

# Stripe lists the object, so it is not missing there.
_DELETE_LISTED = f"""
delete from reconciliation_staging f
 where {IS_STAGED} and f.kind = 'missing_there' and f.provider_id = any(%(provider_id)s::text[])
"""  # noqa: S608

_STAGE_UNREADABLE = f"""
{insert_staged_sql("unreadable_object")} 'unreadable', v.provider_id, v.subject,
       case when t.provider_id is not null then {side_json("t.amount_cents", "t.currency", "t.status")} end,
       v.side::jsonb, jsonb_build_object('why', v.why)
  from unnest(%(provider_id)s::text[], %(subject)s::text[], %(side)s::text[], %(why)s::text[])
       as v(provider_id, subject, side, why)
  left join transactions t on t.shop_id = %(shop_id)s and t.provider_id = v.provider_id
on conflict do nothing
"""

_HAS_ORDER_TRANSACTIONS = (
    "select exists (select 1 from order_transactions where shop_id = %(shop_id)s and payment_ref <> '')"
)


def stage_duplicates(tx: Connection, values: Mapping[str, Any], work_mem: str) -> None:
    """Stage a ``duplicate`` for each charge that repeats another; ``work_mem`` is the setting afterwards."""
    tx.exec_driver_sql(_SORT_SETTINGS)
    tx.exec_driver_sql(_REPEATED_HASHES, values)
    tx.exec_driver_sql(_RESTORE_SETTINGS.format(work_mem))
    if not tx.exec_driver_sql("select exists (select 1 from repeated_hashes)").scalar():
        return
    # The planner has no statistics of a new table, and would scan all of it for each of a few rows.
    tx.exec_driver_sql("set local enable_nestloop = off")
    tx.exec_driver_sql(_CANDIDATES, values)
    tx.exec_driver_sql("set local enable_nestloop = on")
    tx.exec_driver_sql(_KNOWN_ORDERS, values)
    if tx.exec_driver_sql("select exists (select 1 from known_orders)").scalar():
        tx.exec_driver_sql("set local enable_nestloop = off")
        tx.exec_driver_sql(_TOTAL_PAID, values)
        tx.exec_driver_sql("set local enable_nestloop = on")
        tx.exec_driver_sql(_COVERED, values)
    tx.exec_driver_sql(_DUPLICATES, values)


def stage_unreadable(tx: Connection, comparison: DayComparison, objects: Sequence[UnreadableObject]) -> None:
    if not objects:
        return
    rows = [
        (one.provider_id, one.subject, one.why, one.side and orjson.dumps(one.side).decode())
        for one in objects
    ]
    values = {**comparison._asdict(), **arrays("provider_id subject why side", rows)}
    tx.exec_driver_sql(_DELETE_LISTED, values)
    tx.exec_driver_sql(_STAGE_UNREADABLE, values)


def stage_fees(tx: Connection, comparison: DayComparison) -> None:
    """Stage a ``fee`` for each balance entry whose sums are wrong or whose fee differs from the profile."""
    profile = tx.exec_driver_sql(_FIND_PROFILE, {"shop_id": comparison.shop_id}).scalar()
    tx.exec_driver_sql(_FEES, comparison._asdict() | parse_fee_profile(profile))


def parse_fee_profile(stored: Any) -> dict[str, Any]:
    """Return a shop's ``stripe_fee`` as the parameters of ``_FEES``; without a profile the percent is None.

    ``{"percent": "2.9", "fixed_cents": 30, "tolerance_cents": 1}``; the tolerance is 1 by default.
    """
    if stored is None:
        return {"percent": None, "fixed_cents": None, "tolerance_cents": 1}
    profile = {"tolerance_cents": 1, **stored} if isinstance(stored, dict) else {}
    cents = [profile.get("fixed_cents"), profile.get("tolerance_cents")]
    is_percent = isinstance(profile.get("percent"), str) and _PERCENT.fullmatch(profile["percent"])
    if not is_percent or not all(type(each) is int and each >= 0 for each in cents):
        raise Misconfigured(
            "stripe.fee_profile",
            f"shop_config.settings stripe_fee is {str(stored)[:200]}: it should be like "
            '{"percent": "2.9", "fixed_cents": 30, "tolerance_cents": 1}; correct it, then requeue this item',
        )
    return {"percent": profile["percent"], "fixed_cents": cents[0], "tolerance_cents": cents[1]}


def stage_order_amounts(tx: Connection, values: Mapping[str, Any]) -> None:
    """Stage an ``amount`` for each order whose payments at Shopify differ from its charges at Stripe."""
    if tx.exec_driver_sql(_HAS_ORDER_TRANSACTIONS, values).scalar():
        tx.exec_driver_sql(_ORDER_AMOUNTS, values)
