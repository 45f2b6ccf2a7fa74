"""Topic ``interaction_note``, which ends each run."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.conversations.merchants import read_merchant_id
from services.core.locks import lock_objects
from services.core.pg_arrays import arrays
from services.ledger.audit_text import audit_entry
from services.ledger.steps import SKIPPED
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem

WRITTEN, INCOMPLETE = "written", "incomplete"
"""``interactions.page_state``: everything known of it is on the page, or a part is still to be written."""

_FIND = """
select i.shop_id, i.provider_id, i.kind, i.page_id, i.page_state, m.page_id as new_page_id,
       exists (select from page_parts p where p.shop_id = i.shop_id and p.interaction_id = i.provider_id
                  and p.wanted <> p.written) as is_incomplete
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(merchant_id)s::bigint[])
       as v(shop_id, provider_id, merchant_id)
  join interactions i using (shop_id, provider_id) join merchants m on m.id = v.merchant_id
 where m.page_id <> '' order by i.shop_id, i.provider_id
"""

_UPDATE = """
update interactions i set page_id = v.page_id, page_state = v.page_state
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(page_id)s::text[], %(page_state)s::text[])
       as v(shop_id, provider_id, page_id, page_state)
 where i.shop_id = v.shop_id and i.provider_id = v.provider_id
"""


def note_pages(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Store the page of each call, message or mail, and whether everything known of it is there."""
    del now
    of_item = {item.id: (item.shop_id, str(item.payload.get("subject", ""))) for item in items}
    wanted = {(*of_item[item.id], read_merchant_id(item.key)) for item in items}
    lock_objects(tx, set(of_item.values()))
    found = tx.exec_driver_sql(_FIND, arrays("shop_id provider_id merchant_id", sorted(wanted)))
    mutations: dict[tuple[int, str], Mutation] = {}
    changed = []
    for row in found:
        before, after = (row.page_id, row.page_state), (row.new_page_id, WRITTEN)
        if row.is_incomplete:
            after = row.new_page_id, INCOMPLETE
        if before != after:
            names = ("page_id", "page_state")
            changed.append((row.shop_id, row.provider_id, *after))
            summary = f"{row.kind} {row.provider_id}: {after[1]} on page {after[0]} in Notion"
            mutations[row.shop_id, row.provider_id] = Mutation(
                "interactions",
                row.provider_id,
                summary,
                dict(zip(names, before, strict=True)),
                dict(zip(names, after, strict=True)),
            )
    if changed:
        tx.exec_driver_sql(_UPDATE, arrays("shop_id provider_id page_id page_state", changed))
    outcomes: list[Outcome] = []
    audit = []
    for item in items:
        mutation = mutations.pop(of_item[item.id], None)
        outcomes.append(Done() if mutation else Done(SKIPPED))
        if mutation:
            audit.append(audit_entry(item, [mutation]))
    return HandlerResult(outcomes, audit=audit)
