"""Privacy requests as rows: what was asked, by when it is due, what came of it. Nothing personal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.core.arrays import text_array
from services.ledger.work import WorkItem
from services.shops.personal import Subject
from services.shops.redaction import normal_email, normal_phone
from services.storefront.privacy.body import TIME_TO_ANSWER, Asked

_RECORD = """
insert into privacy_requests as r (shop_id, kind, customer_id, event_id, received_at, due_at)
values (%(shop_id)s, %(kind)s, %(customer_id)s, %(event_id)s, %(received_at)s, %(due_at)s)
on conflict (shop_id, event_id) do update set kind = excluded.kind
returning id, status, received_at, due_at
"""

_DONE = """
update privacy_requests set status = 'done', done_at = %(now)s, result = %(result)s::jsonb where id = %(id)s
"""

_FIND_CUSTOMER = """
select name, email, phone from customers where shop_id = %(shop_id)s and customer_id = %(customer_id)s
"""

_FIND_ORDERS = """
select order_gid from orders where shop_id = %(shop_id)s and customer_id = %(customer_id)s
"""

_FIND_PAYMENTS = """
select distinct payment_ref from order_transactions
 where shop_id = %(shop_id)s and order_gid = any(%(gids)s::text[]) and payment_ref <> ''
"""

_FIND_EXPORTS = """
select id from privacy_requests
 where shop_id = %(shop_id)s and kind = 'export'
   and (%(whole_shop)s or customer_id = %(customer_id)s)
 order by id
"""

_IS_DONE_REPLAY = """
select exists (select from inbound_events e join privacy_requests r
                   on r.shop_id = e.shop_id and r.event_id = e.replay_of and r.status = 'done'
                where e.id = %(event_id)s)
"""

# A request that no worker has taken up is only work so far; it is due all the same.
_FIND = """
select r.id, r.shop_id, r.kind, r.customer_id, r.event_id, r.status, r.received_at, r.due_at, r.done_at,
       r.result, coalesce(w.status, '') as work_status
  from privacy_requests r
  left join lateral (select status from work_queue where event_id = r.event_id order by id desc limit 1) w
            on true
 where %(shop_id)s::int is null or r.shop_id = %(shop_id)s
 union all
select null, w.shop_id, case w.topic when 'privacy_export' then 'export' else 'redact' end, null, w.event_id,
       'open', w.created_at, w.created_at + %(time_to_answer)s::interval, null, '{}'::jsonb, w.status
  from work_queue w
 where w.topic = any(%(topics)s::text[]) and w.status in ('pending', 'error', 'dead')
   and (%(shop_id)s::int is null or w.shop_id = %(shop_id)s)
   and not exists (select from privacy_requests r where r.shop_id = w.shop_id and r.event_id = w.event_id)
 order by done_at nulls first, due_at, event_id
 limit %(limit)s
"""


class Request(NamedTuple):
    """A request's row, as a worker has it in hand."""

    id: int
    status: str
    received_at: datetime
    due_at: datetime


class RequestLine(NamedTuple):
    """A request as people see it. ``id`` is None while no worker has taken it up."""

    id: int | None
    shop_id: int
    kind: str
    customer_id: int | None
    event_id: int | None
    status: str
    received_at: datetime
    due_at: datetime
    done_at: datetime | None
    result: dict[str, Any]
    work_status: str


def record_request(tx: Connection, item: WorkItem, asked: Asked, now: datetime) -> Request:
    """The request of ``item``'s event has its row, the same one at every try; return it."""
    received_at = item.received_at or now
    values = {
        "shop_id": item.shop_id,
        "kind": asked.kind,
        "customer_id": asked.customer_id,
        "event_id": item.event_id,
        "received_at": received_at,
        "due_at": received_at + TIME_TO_ANSWER,
    }
    return Request(*tx.exec_driver_sql(_RECORD, values).one())


def record_request_done(tx: Connection, request_id: int, result: Mapping[str, Any], now: datetime) -> None:
    """The request is done with ``result``: counts and where an export lies."""
    values = {"id": request_id, "result": orjson.dumps(dict(result)).decode(), "now": now}
    tx.exec_driver_sql(_DONE, values)


def is_done_replay(tx: Connection, item: WorkItem) -> bool:
    """Whether ``item`` repeats a request that was done: a shop that came back keeps its keys."""
    return bool(tx.exec_driver_sql(_IS_DONE_REPLAY, {"event_id": item.event_id}).scalar())


def find_subject(tx: Connection, shop_id: int, asked: Asked) -> Subject:
    """Return whom ``asked`` is about, by what the request says and by what the shop's own rows add."""
    if asked.customer_id is None:
        return Subject(shop_id=shop_id, whole_shop=True)
    values = {"shop_id": shop_id, "customer_id": asked.customer_id}
    name, email, phone = tx.exec_driver_sql(_FIND_CUSTOMER, values).first() or ("", "", "")
    orders = asked.order_gids | frozenset(tx.exec_driver_sql(_FIND_ORDERS, values).scalars())
    payments = tx.exec_driver_sql(_FIND_PAYMENTS, {"shop_id": shop_id, "gids": text_array(sorted(orders))})
    return Subject(
        shop_id=shop_id,
        customer_id=asked.customer_id,
        emails=asked.emails | {found for found in [normal_email(email)] if found},
        phones=asked.phones | {found for found in [normal_phone(phone)] if found},
        # A single word is no name to go by: it would hide every "May" in a shop's mails.
        names=frozenset({name.strip()} if " " in name.strip() else ()),
        order_gids=orders,
        payment_refs=frozenset(payments.scalars()),
    )


def find_exports(tx: Connection, subject: Subject) -> list[str]:
    """Return the keys in the archive store of what was exported of the subject, or may just be, in order."""
    values = {
        "shop_id": subject.shop_id,
        "customer_id": subject.customer_id,
        "whole_shop": subject.whole_shop,
    }
    return [export_key(subject.shop_id, one) for one in tx.exec_driver_sql(_FIND_EXPORTS, values).scalars()]


def export_key(shop_id: int, request_id: int) -> str:
    """Return where in the archive store a request's export lies."""
    return f"privacy/shop-{shop_id}/request-{request_id}.json"


def find_requests(tx: Connection, shop_id: int | None, limit: int) -> list[RequestLine]:
    """Return requests, the open ones first, the most urgent before all; None: of every shop."""
    values = {
        "shop_id": shop_id,
        "limit": limit,
        "time_to_answer": TIME_TO_ANSWER,
        "topics": text_array(["privacy_export", "privacy_redact"]),
    }
    return [RequestLine(*row) for row in tx.exec_driver_sql(_FIND, values)]
