"""Events of mails with the account that signed them, each stored once for ever."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from services.core.fields import as_instant
from services.core.pg_arrays import arrays
from services.ledger.work import FLEET, NewWork, WorkItem
from services.providers.mail_event_payload import MailEvent

TOPIC = "mail_event"

_INSERT = """
insert into mail_events (shop_id, provider, event_id, kind, at, detail)
select shop_id, provider, event_id, kind, at, detail
  from unnest(%(shop_id)s::int[], %(provider)s::text[], %(event_id)s::text[], %(kind)s::text[],
              %(at)s::timestamptz[], %(detail)s::text[]) as v(shop_id, provider, event_id, kind, at, detail)
 order by provider, event_id, shop_id
on conflict on constraint uq_mail_events_event do nothing
returning shop_id, provider, event_id
"""

EventKey = tuple[int | None, str, str]


class AccountEvent(NamedTuple):
    """An event with the work that has it and the account (a shop, or None for the fleet's) that signed it."""

    item: WorkItem
    account: int | None
    provider: str
    event: MailEvent

    @property
    def key(self) -> EventKey:
        return self.account, self.provider, self.event.event_id

    @property
    def at(self) -> datetime:
        """Return the time of the event, which the body has."""
        assert self.event.at is not None  # noqa: S101 - read_event sets it
        return self.event.at


def read_event(item: WorkItem, event: MailEvent, now: datetime) -> AccountEvent:
    """Return ``event`` of ``item``; without a time of its own it has that of the delivery."""
    account = None if item.shop_id == FLEET else item.shop_id
    if event.at is None:
        event = MailEvent(**asdict(event) | {"at": item.event_time(now)})
    return AccountEvent(item, account, item.event_provider, event)


def plan_event_work(one: AccountEvent) -> NewWork:
    """Return the work of one event. It has its own data: the body, which all share, is not read again."""
    payload = asdict(one.event) | {"at": one.at.isoformat(), "provider": one.provider}
    request_id = one.item.request_id
    return NewWork(
        shop_id=one.item.shop_id, topic=TOPIC, key=one.event.event_id, payload=payload, request_id=request_id
    )


def read_payload(item: WorkItem) -> AccountEvent:
    """Return the event in the payload of ``item``, as ``plan_event_work`` stored it."""
    facts = dict(item.payload)
    provider = facts.pop("provider")
    event = MailEvent(**facts | {"at": as_instant(facts["at"], "at")})
    return AccountEvent(item, None if item.shop_id == FLEET else item.shop_id, provider, event)


def insert_events(tx: Connection, events: Iterable[AccountEvent]) -> set[EventKey]:
    """Store the ids of ``events``; return those that were never stored before."""
    rows = [(*one.key, one.event.kind, one.at, one.event.detail) for one in events]
    if not rows:
        return set()
    values = arrays("shop_id provider event_id kind at detail", rows)
    return {tuple(row) for row in tx.exec_driver_sql(_INSERT, values)}
