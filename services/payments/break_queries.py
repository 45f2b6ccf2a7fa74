"""Reading a day's breaks, as they stand: of a closed day with what was found of it since.

A closed day's own rows stay as they were when it was closed; the newest correction of a break says
whether it is open now. Every reader goes through here, so none shows the one without the other.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

STANDING = """
latest as (
  select distinct on (kind, provider_id) * from break_corrections
   where shop_id = %(shop_id)s and day = %(day)s order by kind, provider_id, id desc
), standing as (
  select coalesce(c.kind, b.kind) as kind, coalesce(c.provider_id, b.provider_id) as provider_id,
         coalesce(c.subject, b.subject) as subject,
         case when c.id is null then b.ours else c.ours end as ours,
         case when c.id is null then b.theirs else c.theirs end as theirs,
         coalesce(b.found_at, c.at) as found_at,
         case when c.id is null then b.closed_at when c.change = 'closed' then c.at end as closed_at,
         case when c.id is null then b.closed_at is null else c.change = 'found' end as is_open,
         coalesce(c.cause, b.cause) as cause, coalesce(c.cause_event_id, b.cause_event_id) as cause_event_id,
         coalesce(c.evidence, b.evidence) as evidence, c.id is not null as is_correction
    from (select * from reconciliation_breaks where shop_id = %(shop_id)s and day = %(day)s) b
    full join latest c on c.kind = b.kind and c.provider_id = b.provider_id
)
"""
"""Two parts of a ``with``: ``standing`` has each break of (shop, day) as it is now."""

_FIND = f"""
with {STANDING}
select kind, subject, provider_id, ours, theirs, found_at, closed_at, is_open, cause, cause_event_id,
    evidence,
       is_correction
  from standing where is_open or not %(only_open)s
 order by not is_open, kind, provider_id limit %(limit)s
"""  # noqa: S608

_COUNT = f"with {STANDING} select kind, count(*) from standing where is_open group by kind order by kind"  # noqa: S608


class PaymentBreak(NamedTuple):
    """One difference of a day. A side is None where that book has nothing; see ``docs/reconciliation.md``."""

    kind: str
    subject: str
    provider_id: str
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None
    found_at: datetime
    closed_at: datetime | None
    is_open: bool
    cause: str
    cause_event_id: str
    evidence: Mapping[str, Any]
    is_correction: bool


def list_day_breaks(
    tx: Connection, shop_id: int, day: date, *, only_open: bool = True, limit: int | None = None
) -> list[PaymentBreak]:
    """Return the first ``limit`` breaks of the shop's ``day``, open ones first, by kind and id."""
    values = {"shop_id": shop_id, "day": day, "only_open": only_open, "limit": limit}
    return [PaymentBreak(*row) for row in tx.exec_driver_sql(_FIND, values)]


def count_day_breaks(tx: Connection, shop_id: int, day: date) -> dict[str, int]:
    """Return how many breaks of the shop's ``day`` are open, by kind."""
    found = tx.exec_driver_sql(_COUNT, {"shop_id": shop_id, "day": day})
    return {row[0]: row[1] for row in found}
