"""Withdraws consent: at once, also for mails that wait in the outbox."""

from collections.abc import Sequence
from typing import Unpack

from sqlalchemy import Connection

from services.audit.append import Author, Mutation, append_change
from services.core.pg_arrays import int_array
from services.mail.suppressions import suppress

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
