"""Sums of a day's orders, charges and payouts side by side."""

from collections import Counter
from datetime import datetime

from sqlalchemy import Connection

from services.payments.comparison import PAID_CHARGES

# An order and a charge are linked if Shopify's record of the payment has the id of the charge or its intent,
# or if the charge has the id of the order. A charge is in a payout once its balance entry is. Each row's
# ``state`` is ``matched``, ``differs`` (other amounts at Shopify and Stripe), ``order_without_charge`` (paid
# at Shopify through Stripe, no charge recorded) or ``charge_without_order``.
LINKS = f"""
with {PAID_CHARGES}, order_payments as (
  select m.order_gid, m.payment_ref, sum(m.amount_cents)::bigint as amount_cents, m.currency
    from refs r join order_transactions m on m.shop_id = %(shop_id)s and m.payment_ref = r.ref
   where m.payment_ref <> '' and not m.is_test and m.kind in ('sale', 'capture') and m.status = 'success'
   group by m.order_gid, m.payment_ref, m.currency
), linked as (
  select distinct on (c.provider_id) c.*,
         coalesce(m.order_gid, i.order_gid, nullif(c.order_ref, '')) as order_gid,
         coalesce(m.amount_cents, i.amount_cents) as order_cents,
         coalesce(m.currency, i.currency) as order_currency
    from charges c
    left join order_payments m on m.payment_ref = c.provider_id
    left join order_payments i on i.payment_ref = c.parent_id
   order by c.provider_id
), entries as (
  select e.source_id, max(e.payout_id) as payout_id, sum(e.net_cents)::bigint as net_cents,
         max(e.currency) as currency
    from linked l join balance_entries e on e.shop_id = %(shop_id)s and e.source_id = l.provider_id
   group by e.source_id
), rows as (
  select case when o.order_gid is null then 'charge_without_order'
              when l.order_cents is not null and l.order_currency = l.currency
                   and l.order_cents <> l.amount_cents then 'differs'
              else 'matched' end as state,
         l.order_gid, coalesce(o.name, '') as order_name, l.provider_id, l.order_cents,
         l.amount_cents as charge_cents, l.currency, nullif(e.payout_id, '') as payout_id,
         coalesce(e.payout_id, '') = '' or p.status is distinct from 'paid' as is_in_transit,
         coalesce(e.net_cents, l.amount_cents) as transit_cents,
         coalesce(e.currency, l.currency) as transit_currency, l.occurred_at
    from linked l
    left join orders o on o.shop_id = %(shop_id)s and o.order_gid = l.order_gid
    left join entries e on e.source_id = l.provider_id
    left join transactions p on p.shop_id = %(shop_id)s and p.provider_id = e.payout_id
  union all
  select 'order_without_charge', o.order_gid, o.name, null, sum(m.amount_cents)::bigint, null, m.currency,
         null, false, null, null, o.placed_at
    from orders o
    join order_transactions m on m.shop_id = o.shop_id and m.order_gid = o.order_gid
         and m.kind in ('sale', 'capture') and m.status = 'success' and not m.is_test and not o.is_test
         and (m.gateway ilike '%%stripe%%' or m.payment_ref ~ '^(ch|py|pi)_')
   where o.shop_id = %(shop_id)s and o.placed_at >= %(begins)s and o.placed_at < %(ends)s
     and o.financial_status in ('paid', 'partially_paid', 'partially_refunded', 'refunded')
     and not exists (select 1 from transactions c
                      where c.shop_id = o.shop_id and c.kind = 'charge' and c.status = 'paid'
                        and c.provider_id = m.payment_ref)
     and not exists (select 1 from transactions c
                      where c.shop_id = o.shop_id and c.kind = 'charge' and c.status = 'paid'
                        and c.parent_id = m.payment_ref)
     and not exists (select 1 from transactions c
                      where c.shop_id = o.shop_id and c.kind = 'charge' and c.status = 'paid'
                        and c.order_ref = o.order_gid)
   group by o.order_gid, o.name, m.currency, o.placed_at
)
"""  # noqa: S608

_SUM = f"""{LINKS}
select state, count(*) as payments, count(*) filter (where is_in_transit) as in_transit, transit_currency,
       coalesce(sum(transit_cents) filter (where is_in_transit), 0)::bigint as transit_cents
  from rows group by state, transit_currency
"""  # noqa: S608

_NAMES = {
    "order_without_charge": "unmatched_orders",
    "charge_without_order": "unmatched_charges",
    "differs": "differing_orders",
}


def sum_orders_charges_payouts(
    tx: Connection, shop_id: int, begins: datetime, ends: datetime
) -> dict[str, int]:
    """Return the figures above zero of [``begins``, ``ends``).

    They are ``unmatched_orders``, ``unmatched_charges``, ``differing_orders``, ``in_transit`` (charges whose
    payout has not arrived), and per currency ``in_transit_cad_cents`` (after fees, if they are known).
    """
    figures: Counter[str] = Counter()
    for row in tx.exec_driver_sql(_SUM, {"shop_id": shop_id, "begins": begins, "ends": ends}):
        if row.state in _NAMES:
            figures[_NAMES[row.state]] += row.payments
        if row.in_transit:
            figures["in_transit"] += row.in_transit
            figures[f"in_transit_{row.transit_currency.lower()}_cents"] += row.transit_cents
    return {name: figure for name, figure in sorted(figures.items()) if figure}
