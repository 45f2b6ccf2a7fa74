"""All sources of personal data. Of Shopify's rows, only customers have more than a number.

A test fails if a column of any table could have personal data and has no source.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.privacy.archived_data import ARCHIVED_EVENTS
from services.privacy.floor_data import FLOOR_ORDERS
from services.privacy.mail_data import MAIL_SUPPRESSIONS, MAILS
from services.privacy.merchant_data import MERCHANTS
from services.privacy.outreach_data import OUTREACH
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource
from services.privacy.text_data import EVENTS, INTERACTIONS, WORK
from services.shops.secrets import retire_secrets

_FIND_CUSTOMER = """
select customer_id as number, name, email, phone, updated_at, deleted_at, redacted_at from customers
 where shop_id = %(shop_id)s and customer_id = %(customer_id)s
"""

# An unknown customer gets a redacted row: a late event must not store a name.
_REDACT_CUSTOMER = """
insert into customers as c (shop_id, customer_id, updated_at, redacted_at)
values (%(shop_id)s, %(customer_id)s, %(now)s, %(now)s)
on conflict (shop_id, customer_id) do update set name = '', email = '', phone = '', redacted_at = %(now)s
   where c.redacted_at is null or (c.name, c.email, c.phone) <> ('', '', '')
returning xmax <> 0
"""

_REDACT_ALL = """
update customers set name = '', email = '', phone = '', redacted_at = %(now)s
 where shop_id = %(shop_id)s and (redacted_at is null or (name, email, phone) <> ('', '', ''))
"""

_FIND_ORDERS = """
select o.name as "order", o.order_gid as id, o.placed_at, o.updated_at, o.cancelled_at, o.financial_status,
       o.fulfillment_status, o.total_cents, o.refunded_cents, o.currency, o.province,
       (select coalesce(jsonb_agg(jsonb_build_object('sku', l.sku, 'title', l.title, 'quantity', l.quantity,
                                                     'refunded_quantity', l.refunded_quantity,
                                                     'price_cents', l.price_cents) order by l.line_id), '[]')
          from order_lines l where l.shop_id = o.shop_id and l.order_gid = o.order_gid) as lines,
       (select coalesce(jsonb_agg(jsonb_build_object('id', r.refund_id, 'at', r.refunded_at,
                                                     'amount_cents', r.amount_cents, 'currency', r.currency)
                                  order by r.refund_id), '[]')
          from order_refunds r where r.shop_id = o.shop_id and r.order_gid = o.order_gid) as refunds,
       (select coalesce(jsonb_agg(jsonb_build_object('kind', t.kind, 'status', t.status, 'at', t.processed_at,
                                                     'amount_cents', t.amount_cents, 'currency', t.currency,
                                                     'gateway', t.gateway, 'payment', t.payment_ref)
                                  order by t.order_transaction_id), '[]')
          from order_transactions t where t.shop_id = o.shop_id and t.order_gid = o.order_gid) as payments,
       (select coalesce(jsonb_agg(jsonb_build_object('status', f.status, 'at', f.fulfilled_at,
                                                     'pieces', f.quantity) order by f.fulfillment_id), '[]')
          from fulfillments f where f.shop_id = o.shop_id and f.order_gid = o.order_gid) as shipments
  from orders o
 where o.shop_id = %(shop_id)s
   and (o.customer_id = %(customer_id)s::bigint or o.order_gid = any(%(gids)s::text[]))
 order by o.placed_at, o.order_gid
"""

_FIND_LOGISTICS = """
with o as (
  select order_gid from orders where shop_id = %(shop_id)s and customer_id = %(customer_id)s::bigint
   union select unnest(%(gids)s::text[])
), t as (
  select 'return' as what, order_gid, to_jsonb(r) as row from order_returns r where shop_id = %(shop_id)s
   union all
  select 'parcel seen', order_gid, to_jsonb(r) from fulfillment_events r where shop_id = %(shop_id)s
   union all
  select 'dispute', order_gid, to_jsonb(r) from shopify_disputes r where shop_id = %(shop_id)s
   union all
  select 'money paid or returned', order_gid, to_jsonb(r) from tender_transactions r
   where shop_id = %(shop_id)s
   union all
  select 'notices', order_gid, to_jsonb(r) from order_notices r where shop_id = %(shop_id)s
)
select t.what, t.order_gid as id, t.row - '{shop_id,order_gid,field_versions,event_id}'::text[] as data
  from t join o using (order_gid) order by t.order_gid, t.what, t.row::text
"""


def _find(statement: str, tx: Connection, subject: DataSubject) -> PersonalDataRows:
    values = {
        "shop_id": subject.shop_id,
        "customer_id": subject.customer_id,
        "gids": sorted(subject.order_gids),
    }
    yield from map(dict, tx.exec_driver_sql(statement, values).mappings())


def redact_customer(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Keep only the customer's number; no later event restores the name."""
    values = {"shop_id": subject.shop_id, "customer_id": subject.customer_id, "now": now}
    if subject.whole_shop:
        return {"customers": tx.exec_driver_sql(_REDACT_ALL, values).rowcount}
    if subject.customer_id is None:
        return {"customers": 0}
    return {"customers": int(tx.exec_driver_sql(_REDACT_CUSTOMER, values).scalar() or 0)}


def redact_secrets(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Retire all secrets of a whole shop, those before the last rotation included; a customer has none."""
    if not subject.whole_shop:
        return {}
    return {"shop_secrets": len(retire_secrets(tx, subject.shop_id, None, now))}


ORDERS = PersonalDataSource(
    name="orders",
    tables=(
        "orders",
        "order_lines",
        "order_refunds",
        "order_refund_lines",
        "order_transactions",
        "fulfillments",
    ),
    find=partial(_find, _FIND_ORDERS),
)
LOGISTICS = PersonalDataSource(
    name="returns, parcels, disputes and payments of the orders",
    tables=(
        "fulfillment_events",
        "order_notices",
        "order_returns",
        "shopify_disputes",
        "tender_transactions",
    ),
    find=partial(_find, _FIND_LOGISTICS),
)
DATA_SOURCES = (
    INTERACTIONS,
    MAILS,
    MAIL_SUPPRESSIONS,
    OUTREACH,
    MERCHANTS,
    ORDERS,
    FLOOR_ORDERS,
    PersonalDataSource(name="privacy requests", tables=("privacy_requests",)),
    PersonalDataSource(
        name="the shop's keys to other services", tables=("shop_secrets",), redact=redact_secrets
    ),
    LOGISTICS,
    WORK,
    PersonalDataSource(
        name="the shop's customer list",
        tables=("customers",),
        find=partial(_find, _FIND_CUSTOMER),
        redact=redact_customer,
        knows_subject=True,
    ),
    EVENTS,
    ARCHIVED_EVENTS,
)
"""In the order of redaction: sources that identify the subject (``knows_subject``) are last.

Events are before archived events: an event that is being archived has its keys when its redaction ends.
"""


def list_data_sources() -> tuple[PersonalDataSource, ...]:
    """Return ``DATA_SOURCES``; raise ``RuntimeError`` if it is empty, because nothing would be redacted."""
    if not DATA_SOURCES:
        raise RuntimeError("there is no source of personal data: nothing can be exported or redacted")
    return DATA_SOURCES
