"""Rows of ``privacy_requests``: request, due date and result. No personal data."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.audit.append import AuditEntry, Mutation, append_all
from services.core.db import Page, fetch_page
from services.core.pg_arrays import text_array
from services.core.times import format_time
from services.ledger.accept import record_work
from services.ledger.filters import WorkFilter
from services.ledger.requeue import discard, requeue
from services.ledger.work import NewWork, WorkItem
from services.privacy.body_redaction import normalize_email, normalize_phone
from services.privacy.payload import TIME_TO_ANSWER, PrivacyRequest
from services.privacy.subject import DataSubject
from services.shopify.shop_profile import (
    ShopIdentity,
    check_shop_identity,
    find_identities,
    list_dead_erasures,
)

UNCONFIRMED_ERASURE_RULE = "shop_redact_not_confirmed"
"""Rule of the incident of each request to erase a shop that is not confirmed."""

URGENT_AFTER = timedelta(days=20)
"""From receipt; ten days before Shopify's deadline."""

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

_FIND_UNCONFIRMED = """
select r.id, r.shop_id, s.slug, r.received_at, r.due_at
  from privacy_requests r join shops s on s.id = r.shop_id
 where r.kind = 'shop_redact' and r.status = 'open' and r.confirmed_at is null
 order by r.id
"""

# A shop with a token may be installed again, so a past uninstall is no confirmation.
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

# A request that no worker has handled yet has only work and no row; it is due too.
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


def record_request(tx: Connection, item: WorkItem, requested: PrivacyRequest, now: datetime) -> Row[Any]:
    """Insert the row of ``item``'s request, once; return its ``id, status, received_at, due_at``."""
    received_at = item.received_at or now
    values = {
        "shop_id": item.shop_id,
        "kind": requested.kind,
        "customer_id": requested.customer_id,
        "event_id": item.event_id,
        "received_at": received_at,
        "due_at": received_at + TIME_TO_ANSWER,
    }
    return tx.exec_driver_sql(_RECORD, values).one()


def check_shop(tx: Connection, item: WorkItem, requested: PrivacyRequest) -> None:
    """Raise ``WrongBody`` unless the request is for the shop that received it."""
    known = find_identities(tx, [item.shop_id]).get(item.shop_id, ShopIdentity())
    check_shop_identity(requested.shop_domain, requested.shop_id, known)


def is_confirmed(tx: Connection, shop_id: int, request_id: int) -> bool:
    """Return whether a shop's erasure is confirmed: by a person, or by a confirmed uninstall."""
    values = {"shop_id": shop_id, "id": request_id}
    return bool(tx.exec_driver_sql(_IS_CONFIRMED, values).scalar())


def record_decision(
    tx: Connection, request_id: int, *, erase: bool, by: str, reason: str, now: datetime, request: str
) -> int | None:
    """Record a person's decision on a shop's erasure; return the shop's id, or None without such a request.

    With ``erase`` its work is pending again, or planned again if it was discarded. Else the request is
    ``rejected``, its work is discarded and its incident is resolved. ``request`` is the request id of the
    audit event.
    """
    values = {"id": request_id, "by": by, "now": now}
    row = tx.exec_driver_sql(_CONFIRM if erase else _REJECT, values).first()
    if row is None:
        return None
    shop_id, event_id = int(row.shop_id), int(row.event_id)
    wanted = WorkFilter(ids=tuple(list_dead_erasures(tx, shop_id, event_id)), statuses=("dead",))
    decided = "confirmed" if erase else "rejected"
    if wanted.ids and erase:
        requeue(tx, wanted, now=now, by=by, reason=reason, request_id=request)
    elif wanted.ids:
        discard(tx, wanted, now=now, by=by, reason=reason, request_id=request)
    elif erase and not tx.exec_driver_sql(_IS_UNDER_WAY, {"event_id": event_id}).scalar():
        new = NewWork(shop_id=shop_id, topic="privacy_redact", event_id=event_id, request_id=request)
        record_work(tx, [new], now)
    if not erase:
        resolve_incident(
            tx, shop_id, UNCONFIRMED_ERASURE_RULE, str(request_id), now, f"Rejected by {by}: {reason}"
        )
    summary = f"erasure of the shop {decided}: {reason}"
    mutation = Mutation("privacy_requests", str(request_id), summary, None, {"decision": decided})
    action = f"privacy.{'confirm' if erase else 'reject'}"
    append_all(tx, [AuditEntry(shop_id, by, action, request, [mutation])], now)
    return shop_id


def record_unconfirmed_erasures(tx: Connection, now: datetime) -> None:
    """Record an incident for each open and unconfirmed request to erase a shop: P2, from day 20 on P1."""
    incidents = []
    for row in tx.exec_driver_sql(_FIND_UNCONFIRMED):
        severity = "P1" if now - row.received_at >= URGENT_AFTER else "P2"
        summary = (
            f"{row.slug}: shop/redact was received at {format_time(row.received_at)} and is not "
            f"confirmed: the last day to erase the shop is {row.due_at:%Y-%m-%d}. "
            f"`fleet privacy confirm {row.id} --reason TEXT` erases it; "
            f"`fleet privacy reject {row.id} --reason TEXT` keeps it, if the shop did not leave."
        )
        incidents.append(Incident(row.shop_id, UNCONFIRMED_ERASURE_RULE, str(row.id), severity, summary))
    record_incidents(tx, incidents, now)


def record_request_done(tx: Connection, request_id: int, result: Mapping[str, Any], now: datetime) -> None:
    """Mark the request as done, with ``result``: counts, and the key of an export."""
    values = {"id": request_id, "result": orjson.dumps(dict(result)).decode(), "now": now}
    tx.exec_driver_sql(_DONE, values)


def is_done_replay(tx: Connection, item: WorkItem) -> bool:
    """Whether ``item`` replays a finished request, so that a shop installed again keeps its keys."""
    return bool(tx.exec_driver_sql(_IS_DONE_REPLAY, {"event_id": item.event_id}).scalar())


def find_subject(tx: Connection, shop_id: int, requested: PrivacyRequest) -> DataSubject:
    """Return the person of the request, from its payload and the shop's rows."""
    if requested.customer_id is None:
        return DataSubject(shop_id=shop_id, whole_shop=True)
    values = {"shop_id": shop_id, "customer_id": requested.customer_id}
    name, email, phone = tx.exec_driver_sql(_FIND_CUSTOMER, values).first() or ("", "", "")
    orders = requested.order_gids | frozenset(tx.exec_driver_sql(_FIND_ORDERS, values).scalars())
    payments = tx.exec_driver_sql(_FIND_PAYMENTS, {"shop_id": shop_id, "gids": text_array(sorted(orders))})
    return DataSubject(
        shop_id=shop_id,
        customer_id=requested.customer_id,
        emails=requested.emails | {found for found in [normalize_email(email)] if found},
        phones=requested.phones | {found for found in [normalize_phone(phone)] if found},
        # A single word is not searched as a name: it would hide each "May" in a shop's mails.
        names=frozenset({name.strip()} if " " in name.strip() else ()),
        order_gids=orders,
        payment_refs=frozenset(payments.scalars()),
    )


def list_exports(tx: Connection, subject: DataSubject) -> list[str]:
    """Return the keys of the subject's exports in the archive store, those of running exports included."""
    values = {
        "shop_id": subject.shop_id,
        "customer_id": subject.customer_id,
        "whole_shop": subject.whole_shop,
    }
    return [export_key(subject.shop_id, one) for one in tx.exec_driver_sql(_FIND_EXPORTS, values).scalars()]


def export_key(shop_id: int, request_id: int) -> str:
    """Return the key of a request's export in the archive store."""
    return f"privacy/shop-{shop_id}/request-{request_id}.json"


def list_requests(tx: Connection, shop_id: int | None, limit: int) -> Page[Row[Any]]:
    """Return requests, open ones first, by due date; of every shop if ``shop_id`` is None.

    ``id`` is None until a worker has handled the request.
    """
    values = {
        "shop_id": shop_id,
        "time_to_answer": TIME_TO_ANSWER,
        "topics": text_array(["privacy_export", "privacy_redact"]),
    }
    return fetch_page(tx, _FIND, limit, values)
