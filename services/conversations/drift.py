"""Job ``notion-drift``: compares pages at Notion with what is recorded of them, and repairs the differences.

A page that is gone, and blocks that are gone or there twice, are written again by ``notion_write``, which is
the only one that writes blocks. A missing UUID is set here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.chain import AuditEntry, Mutation
from services.conversations.access import NotionAccess, find_notion_access
from services.conversations.blocks import find_marker
from services.conversations.merchants import Merchant, find_merchants, make_key
from services.conversations.page_store import forget_page
from services.conversations.pages import fetch_schema, make_properties, read_uuid
from services.conversations.parts import MOST_PARTS
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Refused
from services.jobs.handler import JobResult, JobRun
from services.ledger.accept import record_work
from services.ledger.dispatch import send_messages
from services.ledger.work import FollowUp, NewWork
from services.providers.notion import NOT_FOUND

if TYPE_CHECKING:
    from services.providers.notion import Notion

JOB = "notion-drift"
MOST = 200
"""Pages of one night: each is two requests or more, and a connection has 180 a minute."""

# With more pages each night compares another part of them. A page with a write under way is left out.
_FIND_MERCHANTS = """
with pages as (
  select m.id from merchants m
   where m.shop_id = %(shop_id)s and m.page_id <> '' and m.redacted_at is null
     and not exists (select from page_parts p where p.merchant_id = m.id
                        and (p.wanted <> p.written or p.attempted_at is not null))
)
select id from pages
 where id %% greatest(1, (select count(*) from pages) / %(most)s + 1)
       = %(night)s %% greatest(1, (select count(*) from pages) / %(most)s + 1)
 order by id limit 2 * %(most)s
"""
_FIND_PARTS = """
select p.interaction_id, p.part, p.block_ids, i.kind
  from page_parts p join interactions i on i.shop_id = p.shop_id and i.provider_id = p.interaction_id
 where p.merchant_id = %(merchant_id)s and p.written <> '' order by i.occurred_at, p.interaction_id, p.part
"""
# As after a write without an answer: the next write reads the page, and appends only what is not there.
_RESET = """
update page_parts set written = '', attempted_at = %(now)s
 where merchant_id = %(merchant_id)s and written = wanted
   and (interaction_id, part) in (select * from unnest(%(interaction_id)s::text[], %(part)s::text[]))
"""


_REPAIRS = {
    "gone": "gone, is created again",
    "parts": "blocks that were gone or twice are written again",
    "uuid": "the UUID was missing and is set",
}


class PageDrift(NamedTuple):
    """``parts`` have a block that the page lacks, or has twice. ``has_uuid`` False: it was set again."""

    merchant: Merchant
    is_gone: bool
    has_uuid: bool
    parts: Sequence[Row[Any]]

    @property
    def kind(self) -> str:
        if self.is_gone:
            return "gone"
        return "parts" if self.parts else "" if self.has_uuid else "uuid"


def heal_drift(run: JobRun) -> JobResult:
    """Compare the pages of a shop; result ``no_notion`` for a shop without one.

    Stats: ``pages`` compared, and how many of them were ``gone``, lacked their ``uuid``, or blocks of
    ``parts``. Raises the ``WorkError`` of a call to Notion; what was repaired before stays.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    with transaction() as tx:
        access = find_notion_access(tx, run.shop_id)
        if access is None:
            return JobResult(result="no_notion", stats={"pages": 0})
        values = {"shop_id": run.shop_id, "most": MOST, "night": utc_now().toordinal()}
        ids = list(tx.exec_driver_sql(_FIND_MERCHANTS, values).scalars())
        merchants = find_merchants(tx, ids)
    notion, found, repairs = access.open(), Counter[str](), list[Mutation]()
    for merchant_id in ids:
        drift = compare_page(notion, access, merchants[merchant_id])
        if drift.kind:
            found[drift.kind] += 1
            repairs.append(_repair(drift, run.request_id))
    stats = {"pages": len(ids), **{kind: found[kind] for kind in ("gone", "uuid", "parts")}}
    mutations = [_describe(stats, found.total()), *repairs]

    def record(tx: Connection) -> FollowUp:
        del tx
        entry = AuditEntry(run.shop_id, f"job {JOB}", "conversations.drift", run.request_id, mutations)
        return FollowUp(audit=[entry] if found else [])

    return JobResult(result="repaired" if found else "equal", stats=stats, record=record)


def compare_page(notion: "Notion", access: NotionAccess, merchant: Merchant) -> PageDrift:
    """Return how the merchant's page differs from what is recorded; set a missing UUID."""
    try:
        page = notion.fetch_page(merchant.page_id)
        if page.get("in_trash"):
            return PageDrift(merchant, True, True, [])
        blocks = [(str(block["id"]), find_marker(block)) for block in notion.list_children(merchant.page_id)]
    except Refused as fault:
        if fault.code != NOT_FOUND:
            raise
        return PageDrift(merchant, True, True, [])
    schema = fetch_schema(notion, access)
    has_uuid = read_uuid(schema, page) == str(merchant.uuid)
    if not has_uuid:
        uuid = make_properties(schema, merchant)[schema.uuid]
        notion.update_page(merchant.page_id, properties={schema.uuid: uuid})
    present, markers = dict(blocks), Counter(marker for _, marker in blocks if marker)
    with transaction() as tx:
        parts = tx.exec_driver_sql(_FIND_PARTS, {"merchant_id": merchant.id}).all()
    drifted = [
        part
        for part in parts
        if any(block_id not in present or markers[present[block_id]] > 1 for block_id in part.block_ids)
    ]
    return PageDrift(merchant, False, has_uuid, drifted)


def _repair(drift: PageDrift, request_id: str) -> Mutation:
    """Plan the write of what the page lacks: one run for each set of parts that a write takes.

    Returns the page before and after for the audit.
    """
    merchant, now = drift.merchant, utc_now()
    with transaction() as tx:
        parts = drift.parts
        if drift.is_gone:
            parts = tx.exec_driver_sql(_FIND_PARTS, {"merchant_id": merchant.id}).all()
            forget_page(tx, merchant)
        else:
            names = (
                zip(*[(part.interaction_id, part.part) for part in parts], strict=True) if parts else ((), ())
            )
            interaction_ids, part_names = map(list, names)
            values = {"interaction_id": interaction_ids, "part": part_names}
            tx.exec_driver_sql(_RESET, {"merchant_id": merchant.id, "now": now, **values})
        new = [_plan_write(merchant, part, request_id) for part in parts[::MOST_PARTS]]
        refs = record_work(tx, new, now)
    send_messages(refs)
    lacks = [f"{part.interaction_id} {part.part}" for part in drift.parts]
    before = {"page_id": merchant.page_id, "lacks": lacks, "has_uuid": drift.has_uuid}
    after = {"page_id": "" if drift.is_gone else merchant.page_id, "writes": len(new), "has_uuid": True}
    summary = f"page of merchant {merchant.id} at Notion: {_REPAIRS[drift.kind]}"
    return Mutation("merchants", str(merchant.id), summary, before, after)


def _plan_write(merchant: Merchant, part: Row[Any], request_id: str) -> NewWork:
    return NewWork(
        shop_id=merchant.shop_id,
        topic="notion_write",
        key=make_key(merchant.id),
        payload={"workflow": part.kind, "subject": part.interaction_id},
        request_id=request_id,
    )


def _describe(stats: Mapping[str, int], drifted: int) -> Mutation:
    count = format_count(drifted, "page")
    summary = f"{count} of {stats['pages']} at Notion differed and are repaired"
    return Mutation("merchants", count, summary, None, dict(stats))


_LAST_RUNS = """
select distinct on (shop_id) shop_id, stats from job_runs
 where job = %(job)s and status = 'done' and due_at > %(since)s order by shop_id, due_at desc
"""
_UNCOVERED = """
select w.shop_id, w.without, (
         select count(*) from merchants m
          where m.shop_id = w.shop_id and m.redacted_at is null and m.created_at < %(before)s) as merchants
  from (select shop_id, count(*) as without from merchants
         where page_id = '' and redacted_at is null and created_at < %(before)s group by shop_id) w
"""


def read_drift(tx: Connection, since: datetime) -> list[Row[Any]]:
    """Return the stats of each shop's last comparison since ``since``."""
    return list(tx.exec_driver_sql(_LAST_RUNS, {"job": JOB, "since": since}))


def count_without_page(tx: Connection, before: datetime) -> list[Row[Any]]:
    """Return shop, merchants and merchants without a page, of those known since ``before``.

    Shops where each has a page are left out, so that only the merchants of the others are counted.
    """
    return list(tx.exec_driver_sql(_UNCOVERED, {"before": before}))
