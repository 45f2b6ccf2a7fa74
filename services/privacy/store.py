"""Privacy requests as rows: what was asked, by when it is due, what came of it. Nothing personal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from services.alerts.incidents import resolve_incident
from services.audit.append import Mutation, append_audit
from services.core.pg_arrays import text_array
from services.ledger.accept import record_work
from services.ledger.filters import WorkFilter
from services.ledger.requeue import discard, requeue
from services.ledger.work import NewWork, WorkItem
from services.privacy.holders import Subject
from services.privacy.payload import TIME_TO_ANSWER, Asked
from services.privacy.redaction import normal_email, normal_phone
from services.privacy.unconfirmed import RULE
from services.shopify.shop_identity import Identity, check_named, find_dead_erasures, find_identities

_RECORD = """
insert into privacy_requests as r (shop_id, kind, customer_id, event_id, received_at, due_at)
values (%(shop_id)s, %(kind)s, %(customer_id)s, %(event_id)s, %(received_at)s, %(due_at)s)
on conflict (shop_id, event_id) do update set kind = excluded.kind
returning id, status, received_at, due_at
"""

_CONFIRM = """
update privacy_requests set confirmed_at = %(now)s, confirmed_by = %(by)s
 where id = %(id)s and kind = 'shop_redact' and status = 'open'
returning shop_id, event_id
"""

_REJECT = """
update privacy_requests set status = 'rejected', done_at = %(now)s
 where id = %(id)s and kind = 'shop_redact' and status = 'open'
returning shop_id, event_id
"""

# A shop with a token may be installed: Shopify is asked, and a past uninstall proves nothing.
_IS_CONFIRMED = """
select exists (select from privacy_requests r where r.id = %(id)s and r.confirmed_at is not null)
    or exists (select from storefronts t where t.shop_id = %(shop_id)s and t.uninstalled_at is not null
                  and not exists (select from shop_secrets k
                                   where k.shop_id = t.shop_id and k.name = 'shopify-token'))
"""

_IS_UNDER_WAY = """
select exists (select from work_queue where event_id = %(event_id)s and topic = 'privacy_redact'
                  and status in ('pending', 'error'))
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
       r.result, coalesce(w.status, '') as work_status, w.id as work_id
  from privacy_requests r
  left join lateral (select id, status from work_queue where event_id = r.event_id order by id desc limit 1) w
            on true
 where %(shop_id)s::int is null or r.shop_id = %(shop_id)s
 union all
select null, w.shop_id, case w.topic when 'privacy_export' then 'export' else 'redact' end, null, w.event_id,
       'open', w.created_at, w.created_at + %(time_to_answer)s::interval, null, '{}'::jsonb, w.status, w.id
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
    work_id: int | None


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


def check_shop(tx: Connection, item: WorkItem, asked: Asked) -> None:
    """Raise ``WrongBody`` unless the request names the shop that received it."""
    known = find_identities(tx, [item.shop_id]).get(item.shop_id, Identity())
    check_named(asked.shop_domain, asked.shop_id, known)


def is_confirmed(tx: Connection, shop_id: int, request_id: int) -> bool:
    """Tell whether a shop's erasure is confirmed: by a person, or by an uninstall that Shopify confirmed."""
    values = {"shop_id": shop_id, "id": request_id}
    return bool(tx.exec_driver_sql(_IS_CONFIRMED, values).scalar())


def record_decision(
    tx: Connection, request_id: int, *, erase: bool, by: str, reason: str, now: datetime, request: str
) -> int | None:
    """A person decides whether a shop is erased; return its id, None where no such request is open.

    ``erase``: its work is pending again, or planned where it was discarded. Else the request is
    ``rejected``, its work is discarded and its incident is resolved. Other requests of the shop stay as they
    are. ``request`` is the id under which the audit has it.
    """
    values = {"id": request_id, "by": by, "now": now}
    row = tx.exec_driver_sql(_CONFIRM if erase else _REJECT, values).first()
    if row is None:
        return None
    shop_id, event_id = int(row[0]), int(row[1])
    wanted = WorkFilter(ids=tuple(find_dead_erasures(tx, shop_id, event_id)), statuses=("dead",))
    decided = "confirmed" if erase else "rejected"
    if wanted.ids and erase:
        requeue(tx, wanted, now=now, by=by, reason=reason, request_id=request)
    elif wanted.ids:
        discard(tx, wanted, now=now, by=by, reason=reason, request_id=request)
    elif erase and not tx.exec_driver_sql(_IS_UNDER_WAY, {"event_id": event_id}).scalar():
        new = NewWork(shop_id=shop_id, topic="privacy_redact", event_id=event_id, request_id=request)
        record_work(tx, [new], now)
    if not erase:
        resolve_incident(tx, shop_id, RULE, str(request_id), now, f"Rejected by {by}: {reason}")
    summary = f"erasure of the shop {decided}: {reason}"
    append_audit(
        tx,
        shop_id=shop_id,
        staff_label=by,
        action=f"privacy.{'confirm' if erase else 'reject'}",
        request_id=request,
        now=now,
        mutations=[Mutation("privacy_requests", str(request_id), summary, None, {"decision": decided})],
    )
    return shop_id


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
