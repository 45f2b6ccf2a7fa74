"""Topic ``mail_event``: what became of a mail, from the events of SendGrid and Resend.

A body of SendGrid has many events. Each that was never received before becomes work of its own. The final
state does not depend on the order, the bodies or the repetitions in which events arrive.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.chain import AuditEntry, Mutation
from services.core.fields import parse_items
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays, text_array
from services.core.setting_urls import is_mail_address
from services.ledger.audit_text import audit_entry
from services.ledger.work import FLEET, Done, HandlerResult, NewWork, Outcome, WorkItem
from services.mail.account_events import (
    TOPIC,
    AccountEvent,
    EventKey,
    insert_events,
    plan_event_work,
    read_event,
    read_payload,
)
from services.mail.delivery_plan import REDACTED_RECIPIENT
from services.mail.outbox import KEY_PREFIX
from services.mail.suppressions import Suppression, hash_address, normalize_address, record_suppressions
from services.providers.mail_event_payload import (
    BOUNCED,
    COMPLAINED,
    DELIVERED,
    DROPPED,
    SOFT_BOUNCED,
    UNSUBSCRIBED,
    MailEvent,
    find_resend_event,
    list_sendgrid_events,
    list_unreadable,
)
from services.providers.mail_events import BATCH
from services.providers.outgoing_mail import mask_address

SOFT_BOUNCES, SOFT_WINDOW = 3, timedelta(days=7)
"""So many soft bounces of different mails in this time count as a hard one."""
_COLUMNS = {DELIVERED: "delivered_at", COMPLAINED: "complained_at"} | dict.fromkeys(
    (BOUNCED, SOFT_BOUNCED, DROPPED), "bounced_at"
)

_FIND_MAILS = """
select id, shop_id, kind, recipient, token, transport, provider_id from mail_outbox
 where id = any(%(id)s::bigint[])
 union
select id, shop_id, kind, recipient, token, transport, provider_id from mail_outbox
 where provider_id <> '' and provider_id = any(%(provider_id)s::text[])
"""

_MARK_MAILS = """
update mail_outbox m
   set delivered_at = least(m.delivered_at, v.delivered_at), bounced_at = least(m.bounced_at, v.bounced_at),
       complained_at = least(m.complained_at, v.complained_at)
  from (select id, min(delivered_at) as delivered_at, min(bounced_at) as bounced_at,
               min(complained_at) as complained_at
          from unnest(%(id)s::bigint[], %(delivered_at)s::timestamptz[], %(bounced_at)s::timestamptz[],
                      %(complained_at)s::timestamptz[])
               as u(id, delivered_at, bounced_at, complained_at) group by id order by id) v
 where m.id = v.id
"""

_LINK_EVENTS = """
update mail_events e set mail_id = v.mail_id, address_hash = v.address_hash
  from unnest(%(shop_id)s::int[], %(provider)s::text[], %(event_id)s::text[], %(mail_id)s::bigint[],
              %(address_hash)s::text[]) as v(shop_id, provider, event_id, mail_id, address_hash)
 where e.provider = v.provider and e.event_id = v.event_id and e.shop_id is not distinct from v.shop_id
"""

_FIND_SOFT = """
select address_hash, mail_id, min(at) as at from mail_events
 where address_hash <> '' and address_hash = any(%(hash)s::text[]) group by address_hash, mail_id
 order by address_hash, at
"""

WITHDRAW_TOPIC = "consent_withdraw"
"""The topic of the work that withdraws the consents of the people with an address at a shop."""


class AppliedEvents(NamedTuple):
    """The audit entries of mails, the withdrawals to make, and the events whose mail is unknown."""

    audit: Sequence[AuditEntry] = ()
    new_work: Sequence[NewWork] = ()
    unknown: Collection[EventKey] = ()


def ingest_mail_events(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Split bodies with many events, and store what the others say about their mails.

    A hard bounce or a complaint suppresses the address, also if its mail is unknown. Results: ``split``
    (with the places of elements that are no objects), the kind of the event (with ``, mail unknown``),
    ``duplicate``, ``ignored``.
    """
    outcomes: dict[int, Outcome] = {}
    new_work: list[NewWork] = []
    fresh: list[AccountEvent] = []
    singles: list[AccountEvent] = []
    batches: list[AccountEvent] = []
    for item in items:
        outcomes[item.id] = Done("ignored")
        if item.payload:
            fresh.append(read_payload(item))
        elif item.event_topic == BATCH:
            skipped = ", ".join(map(str, list_unreadable(item.body)))
            outcomes[item.id] = Done(f"split, not objects: {skipped}" if skipped else "split")
            batches += (read_event(item, event, now) for event in list_sendgrid_events(item.body))
        else:
            (found,) = parse_items([item.body], find_resend_event, "mail.unreadable_event")
            if isinstance(found, MailEvent):
                singles.append(read_event(item, found, now))
            elif found:
                outcomes[item.id] = found
    inserted = insert_events(tx, [*singles, *batches])
    for one in batches:
        if one.key in inserted:
            inserted.discard(one.key)
            new_work.append(plan_event_work(one))
    for one in singles:
        is_new = one.key in inserted
        inserted.discard(one.key)
        if is_new:
            fresh.append(one)
        else:
            outcomes[one.item.id] = Done("duplicate")
    applied = apply_events(tx, fresh, now)
    for one in fresh:
        is_unknown = one.key in applied.unknown
        outcomes[one.item.id] = Done(one.event.kind + ", mail unknown" * is_unknown)
    new_work += applied.new_work
    return HandlerResult([outcomes[item.id] for item in items], new_work, applied.audit)


def apply_events(tx: Connection, events: Sequence[AccountEvent], now: datetime) -> AppliedEvents:
    """Store the events in the outbox and suppress addresses; return what follows."""
    if not events:
        return AppliedEvents()
    mails = _match_mails(tx, events)
    soft = {
        (mail.shop_id, normalize_address(mail.recipient))
        for one, mail in zip(events, mails, strict=True)
        if mail and one.event.kind == SOFT_BOUNCED and mail.recipient != REDACTED_RECIPIENT
    }
    # Two transactions with soft bounces of one address: the second counts those of the first.
    lock_objects(tx, [(shop_id or FLEET, f"mail to {address}") for shop_id, address in soft])
    linked, marked, audit = [], [], []
    found: list[Suppression] = []
    for one, mail in zip(events, mails, strict=True):
        found += _plan_suppression(one, mail)
        if mail is None:
            continue
        address = normalize_address(mail.recipient)
        is_soft = one.event.kind == SOFT_BOUNCED and (mail.shop_id, address) in soft
        hashed = hash_address(mail.shop_id, address) if is_soft else ""
        linked.append((*one.key, mail.id, hashed))
        if column := _COLUMNS.get(one.event.kind):
            names = ("delivered_at", "bounced_at", "complained_at")
            marked.append((mail.id, *(one.at if name == column else None for name in names)))
            summary = f"mail {mail.kind} to {mask_address(mail.recipient)}: {one.event.kind}"
            after = {column: one.at, "detail": one.event.detail}
            mutation = Mutation("mail_outbox", str(mail.id), summary, None, after)
            audit.append(audit_entry(one.item, [mutation])._replace(shop_id=mail.shop_id))
    if linked:
        tx.exec_driver_sql(
            _LINK_EVENTS, arrays("shop_id provider event_id mail_id address_hash", sorted(linked, key=repr))
        )
    if marked:
        tx.exec_driver_sql(_MARK_MAILS, arrays("id delivered_at bounced_at complained_at", marked))
    found += _plan_soft_suppressions(tx, soft)
    request_id = events[0].item.request_id
    record_suppressions(tx, found, now, by=TOPIC, request_id=request_id)
    unknown = {one.key for one, mail in zip(events, mails, strict=True) if mail is None}
    return AppliedEvents(audit, _plan_withdrawals(found, request_id), unknown)


def _match_mails(tx: Connection, events: Sequence[AccountEvent]) -> list[Row[Any] | None]:
    """Return the mail of each event: by our id, or by the service's where the event has none of ours.

    A shop's account knows the shop's mails only.
    """
    ids = {one.event.mail_id for one in events if one.event.mail_id}
    names = {one.event.provider_id for one in events if not one.event.mail_key and one.event.provider_id}
    values = {"id": sorted(ids), "provider_id": text_array(sorted(names))}
    rows = tx.exec_driver_sql(_FIND_MAILS, values).all()
    by_id = {(row.id, KEY_PREFIX + row.token): row for row in rows}
    by_name = {(row.transport, row.provider_id): row for row in rows}
    mails = []
    for one in events:
        event = one.event
        mail = by_id.get((event.mail_id, event.mail_key))
        if not event.mail_key and event.provider_id:
            mail = by_name.get((one.provider, event.provider_id))
        is_own = mail is not None and one.account in (None, mail.shop_id)
        mails.append(mail if is_own else None)
    return mails


def _plan_suppression(one: AccountEvent, mail: Row[Any] | None) -> list[Suppression]:
    event = one.event
    if not event.cause:
        return []
    source = f"{one.provider} event {event.event_id}"
    if mail is not None:
        is_redacted = mail.recipient == REDACTED_RECIPIENT
        new = Suppression(mail.shop_id, mail.recipient, event.cause, source, mail.id)
        return [] if is_redacted else [new]
    if event.cause in (BOUNCED, COMPLAINED) and is_mail_address(event.address):
        return [Suppression(one.account, event.address, event.cause, source)]
    return []


def _plan_withdrawals(found: Sequence[Suppression], request_id: str) -> list[NewWork]:
    """Return the work for people who unsubscribed or complained: it locks people before suppressions."""
    return [
        NewWork(
            shop_id=one.shop_id,
            topic=WITHDRAW_TOPIC,
            key=hash_address(one.shop_id, normalize_address(one.address)),
            payload={"address": one.address, "source": one.source},
            request_id=request_id,
        )
        for one in found
        if one.shop_id is not None and one.reason in (COMPLAINED, UNSUBSCRIBED)
    ]


def _plan_soft_suppressions(
    tx: Connection, soft: Collection[tuple[int | None, str]]
) -> Iterable[Suppression]:
    if not soft:
        return
    hashes = {hash_address(*one): one for one in soft}
    rows = tx.exec_driver_sql(_FIND_SOFT, {"hash": text_array(sorted(hashes))}).all()
    for hashed, group in groupby(rows, key=lambda row: row.address_hash):
        times = [row.at for row in group]
        spans = zip(times, times[SOFT_BOUNCES - 1 :], strict=False)
        if any(last - first <= SOFT_WINDOW for first, last in spans):
            source = f"{SOFT_BOUNCES} soft bounces within {SOFT_WINDOW.days} days"
            yield Suppression(*hashes[hashed], BOUNCED, source)
