"""Withdraws consent: at once, also for mails that wait in the outbox."""

from collections.abc import Sequence
from datetime import datetime
from typing import Unpack

from sqlalchemy import Connection

from services.audit.append import Author, Mutation, append_change
from services.core.counts import format_count
from services.core.pg_arrays import int_array
from services.ledger.work import Done, HandlerResult, WorkItem
from services.mail.suppressions import suppress
from services.outreach.people import find_ids

UNSUBSCRIBED = "unsubscribed"
"""The reason of the suppression of an address."""

# In the order of their ids, as a step's composition locks them.
_LOCK = """
select id, email from outreach_people where shop_id = %(shop_id)s and id = any(%(id)s::bigint[])
 order by id for update
"""
_WITHDRAW = """
update outreach_consents set withdrawn_at = %(now)s, withdrawn_by = %(by)s
 where person_id = any(%(id)s::bigint[]) and withdrawn_at is null
"""


def withdraw(
    tx: Connection, shop_id: int, person_ids: Sequence[int], source: str, **author: Unpack[Author]
) -> int:
    """Withdraw every consent of these people and suppress their addresses; return how many consents held.

    No mail to them is composed from the commit on, and none that waits is sent. A repeat changes nothing.
    """
    now = author["now"]
    ids = int_array(sorted(person_ids))
    people = tx.exec_driver_sql(_LOCK, {"shop_id": shop_id, "id": ids}).all()
    withdrawn = tx.exec_driver_sql(_WITHDRAW, {"id": ids, "now": now, "by": author["by"]}).rowcount
    is_new = False
    for address in sorted({one.email for one in people if one.email}):
        is_new |= bool(suppress(tx, shop_id, address, UNSUBSCRIBED, source, now))
    if withdrawn or is_new:
        what = f"consent withdrawn ({source})"
        mutations = [
            Mutation("outreach_people", str(one.id), what, None, {"source": source}) for one in people
        ]
        append_change(tx, "outreach.unsubscribe", {shop_id: mutations}, **author)
    return withdrawn


def withdraw_reported(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Withdraw the consents of the people whose address unsubscribed or complained at a mail service."""
    outcomes = []
    for item in items:
        address, source = (str(item.payload.get(name) or "") for name in ("address", "source"))
        ids = find_ids(tx, item.shop_id, address) if address else []
        author: Author = {"now": now, "by": item.topic, "request_id": item.request_id}
        count = withdraw(tx, item.shop_id, ids, source, **author) if ids else 0
        outcomes.append(Done(format_count(count, "consent")))
    return HandlerResult(outcomes)
