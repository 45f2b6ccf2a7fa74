"""Topic ``notion_write``: writes all that the page of a merchant lacks, in as few requests as possible.

One worker at a time writes a page. The first run of a merchant writes the parts of all events that wait; the
runs of the others then find nothing to do.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.conversations.access import NotionAccess
from services.conversations.find_step import find_accesses
from services.conversations.merchants import Merchant, find_merchants, read_merchant_id
from services.conversations.page_store import forget_page, record_page
from services.conversations.page_writer import PAGE_GONE, PageWriter
from services.conversations.pages import hash_values
from services.conversations.parts import (
    PendingPart,
    begin_attempts,
    clear_attempts,
    find_last_blocks,
    record_parts,
)
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused, RetryLater, WorkError
from services.ledger.audit_text import audit_entry
from services.ledger.steps import SKIPPED
from services.ledger.work import Call, Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.providers.notion import NOT_FOUND


class NotionWriteHandler:
    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that brings its merchant's page up to date; ``skipped`` if it is."""
        merchants = find_merchants(tx, {read_merchant_id(item.key) for item in items})
        accesses = find_accesses(tx, items)
        subjects = {
            merchant_id: str(item.payload.get("subject", ""))
            for item in items
            if (merchant_id := read_merchant_id(item.key)) in merchants
            and isinstance(accesses[item.shop_id], NotionAccess)
            and not merchants[merchant_id].is_redacted
        }
        pending = begin_attempts(tx, subjects, now)

        def plan(item: WorkItem) -> Call | Outcome:
            merchant, access = merchants.get(read_merchant_id(item.key)), accesses[item.shop_id]
            if isinstance(access, WorkError):
                return access
            if merchant is None or access is None:
                return Done(SKIPPED)
            if merchant.is_redacted:
                return _plan_removal(item, access, merchant)
            parts = pending[merchant.id]
            if not parts and (not merchant.page_id or merchant.page_values == hash_values(merchant)):
                return Done(SKIPPED)
            anchors = find_last_blocks(tx, merchant.id, {part.interaction_id for part in parts})
            writer = PageWriter(access.open(), access, merchant, parts, anchors)
            return PreparedCall(item=item, act=partial(_write, item, writer, subjects[merchant.id]))

        return [plan(item) for item in items]


def _write(item: WorkItem, writer: PageWriter, subject: str) -> Outcome:
    try:
        writer.write()
    except Refused:
        # One part that Notion does not take must not keep the others from the page.
        own = [part for part in writer.parts if part.interaction_id == subject]
        if len(own) == len(writer.parts):
            raise
        return _write(item, _narrow(writer, own), subject) if own else Done(SKIPPED)
    except (RetryLater, Misconfigured) as fault:
        with transaction() as tx:
            if fault.code == PAGE_GONE:
                forget_page(tx, writer.merchant)
            elif not writer.may_have_appended:
                clear_attempts(tx, writer.merchant.id)
        raise
    return Done("written", partial(_record, item, writer))


def _narrow(writer: PageWriter, parts: Sequence[PendingPart]) -> PageWriter:
    return PageWriter(writer.notion, writer.access, writer.merchant, parts, writer.anchors)


def _record(item: WorkItem, writer: PageWriter, tx: Connection) -> FollowUp:
    mutations = record_page(tx, writer.merchant, writer.page, utc_now())
    record_parts(tx, writer.written)
    merchant_id = writer.merchant.id
    if writer.written:
        count = format_count(len(writer.written), "part")
        summary = f"{count} written to page {writer.page.page_id} of merchant {merchant_id} in Notion"
        after = {"parts": sorted(f"{part} of {interaction}" for _, interaction, part in writer.written)}
        mutations.append(Mutation("page_parts", str(merchant_id), summary, None, after))
    return FollowUp(audit=[audit_entry(item, mutations)] if mutations else [])


def _plan_removal(item: WorkItem, access: NotionAccess, merchant: Merchant) -> Call | Outcome:
    if not merchant.page_id:
        return Done(SKIPPED)
    return PreparedCall(item=item, act=partial(_remove, item, access, merchant))


def _remove(item: WorkItem, access: NotionAccess, merchant: Merchant) -> Outcome:
    """Put the page of a redacted merchant in Notion's trash; a page that is gone already is no fault."""
    try:
        access.open().update_page(merchant.page_id, in_trash=True)
    except Refused as fault:
        if fault.code != NOT_FOUND:
            raise

    def record(tx: Connection) -> FollowUp:
        forget_page(tx, merchant)
        summary = f"page {merchant.page_id} of redacted merchant {merchant.id} put in the trash in Notion"
        mutation = Mutation(
            "merchants", str(merchant.id), summary, {"page_id": merchant.page_id}, {"page_id": ""}
        )
        return FollowUp(audit=[audit_entry(item, [mutation])])

    return Done("removed", record)
