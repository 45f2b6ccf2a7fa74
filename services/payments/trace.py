"""The trace of one payment: its order, its records at Shopify and Stripe, and its payout."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

MAX_CHARGES = 200

# From the given id to the charges, and from the charges to all other records.
_CHARGES = """
given as (
  select %(id)s::text as id,
         case when %(id)s ~ '^#?[0-9]+$' then 'gid://shopify/Order/' || ltrim(%(id)s, '#') end as gid
), given_orders as (
  select o.order_gid from orders o cross join given n
   where o.shop_id = %(shop_id)s
     and (o.order_gid in (n.id, n.gid) or o.name in (n.id, '#' || ltrim(n.id, '#')))
), order_payments as (
  select m.* from order_transactions m where m.shop_id = %(shop_id)s
     and (m.order_gid in (select order_gid from given_orders)
          or (m.payment_ref <> '' and m.payment_ref = %(id)s))
), charges as (
  select t.* from transactions t where t.shop_id = %(shop_id)s and t.kind = 'charge' and (
         t.provider_id = %(id)s or t.parent_id = %(id)s
      or t.provider_id in (select parent_id from transactions
                            where shop_id = %(shop_id)s and provider_id = %(id)s)
      or t.order_ref in (select order_gid from given_orders)
      or t.provider_id in (select payment_ref from order_payments)
      or t.parent_id in (select payment_ref from order_payments)
      or t.provider_id in (select source_id from balance_entries
                            where shop_id = %(shop_id)s and payout_id = %(id)s and payout_id <> ''))
   order by t.occurred_at, t.provider_id limit %(limit)s
), entries as (
  select e.* from balance_entries e where e.shop_id = %(shop_id)s
     and e.source_id in (select provider_id from charges)
), all_payments as (
  select * from order_payments
  union
  select m.* from order_transactions m where m.shop_id = %(shop_id)s and m.payment_ref <> ''
     and (m.payment_ref in (select provider_id from charges) or m.payment_ref in (select parent_id
         from charges))
)
"""

_FIND = f"""
with {_CHARGES}, steps as (
select 1 as place, 'order' as what, o.name || ' ' || o.order_gid as id, 'shopify' as source,
       o.financial_status as status, o.total_cents as amount_cents, o.currency,
       o.placed_at as at, '' as detail
  from orders o where o.shop_id = %(shop_id)s
   and o.order_gid in (select order_gid from given_orders union select order_gid from all_payments
                       union select order_ref from charges)
union all
select 2, m.kind, m.order_transaction_id::text, 'shopify', m.status, m.amount_cents, m.currency,
       m.processed_at, trim(m.gateway || ' ' || m.payment_ref) from all_payments m
union all
select 3, 'charge', c.provider_id, 'stripe', c.status, c.amount_cents, c.currency, c.occurred_at,
       trim(coalesce(c.parent_id, '') || ' ' || c.order_ref) from charges c
union all
select 4, t.kind, t.provider_id, 'stripe', t.status, t.amount_cents, t.currency, t.occurred_at, t.reason
  from transactions t where t.shop_id = %(shop_id)s and t.kind in ('refund', 'dispute')
   and (t.parent_id in (select provider_id from charges) or t.parent_id in (select parent_id from charges))
union all
select 5, 'balance entry', e.entry_id, 'stripe', e.kind, e.net_cents, e.currency, e.created_at,
       'fee ' || e.fee_cents || ' of ' || e.amount_cents || ' (' || e.source_id || ')' from entries e
union all
select 6, 'payout', t.provider_id, 'stripe', t.status, t.amount_cents, t.currency, t.occurred_at,
       coalesce('arrives ' || t.arrives_on, '')
  from transactions t where t.shop_id = %(shop_id)s and t.kind = 'payout'
   and (t.provider_id = %(id)s or t.provider_id in (select payout_id from entries))
)
select what, id, source, status, amount_cents, currency, at, detail from steps order by place, at, id
"""  # noqa: S608


_COUNT = """
select (select count(*) from orders where shop_id = %(shop_id)s) as "order of Shopify",
       (select count(*) from transactions where shop_id = %(shop_id)s) as "transaction of Stripe"
"""


def count_traceable(tx: Connection, shop_id: int) -> dict[str, int]:
    """Return how many records of each kind ``trace_payment`` searches, by their noun."""
    return dict(tx.exec_driver_sql(_COUNT, {"shop_id": shop_id}).mappings().one())


def trace_payment(tx: Connection, shop_id: int, reference: str) -> Sequence[Row[Any]]:
    """Return the records of one payment, from the order to the payout; empty if nothing matches.

    ``reference`` is an order's number (``#1001``), id or gid, or Stripe's id of a charge, payment intent,
    refund, dispute or payout; of a payout, the first 200 charges are returned. Each record has ``what`` (its
    kind), ``id``, ``source`` (its system), ``status``, ``amount_cents``, ``currency``, ``at`` and ``detail``.
    """
    return tx.exec_driver_sql(_FIND, {"shop_id": shop_id, "id": reference, "limit": MAX_CHARGES}).all()
