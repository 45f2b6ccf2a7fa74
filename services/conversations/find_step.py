"""Topic ``notion_find``: finds or creates the page of a merchant, unless it was read recently."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from services.conversations.access import NotionAccess, find_notion_access
from services.conversations.budget import check_budget
from services.conversations.cache_lookup import find_fresh
from services.conversations.merchants import Merchant, find_merchants, read_merchant_id
from services.conversations.page_store import record_page
from services.conversations.pages import FoundPage, find_or_create_page
from services.core.clock import utc_now
from services.core.errors import WorkError
from services.ledger.audit_text import audit_entry
from services.ledger.steps import SKIPPED
from services.ledger.work import Call, Done, FollowUp, Outcome, PreparedCall, WorkItem


class NotionFindHandler:
    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that finds the page of its merchant; ``skipped`` if it is known."""
        merchants = find_merchants(tx, {read_merchant_id(item.key) for item in items})
        fresh = find_fresh(tx, merchants, now)
        accesses = find_accesses(tx, items)

        def plan(item: WorkItem) -> Call | Outcome:
            merchant, access = merchants.get(read_merchant_id(item.key)), accesses[item.shop_id]
            if isinstance(access, WorkError):
                return access
            if merchant is None or access is None or merchant.is_redacted:
                return Done(SKIPPED)
            if merchant.page_id and merchant.id in fresh:
                return Done(SKIPPED)
            return PreparedCall(item=item, act=partial(_find, item, access, merchant))

        return [plan(item) for item in items]


def find_accesses(tx: Connection, items: Sequence[WorkItem]) -> dict[int, NotionAccess | WorkError | None]:
    """Return each shop's access to Notion; None for a shop that has none.

    An error for an incomplete access, and for one whose budget is used.
    """
    found: dict[int, NotionAccess | WorkError | None] = {}
    for shop_id in {item.shop_id for item in items}:
        try:
            found[shop_id] = access = find_notion_access(tx, shop_id)
            if access is not None:
                check_budget(tx, access.key)
        except WorkError as fault:
            found[shop_id] = fault
    return found


def _find(item: WorkItem, access: NotionAccess, merchant: Merchant) -> Outcome:
    page = find_or_create_page(access.open(), access, merchant)
    return Done(page.outcome, partial(_record, item, merchant, page))


def _record(item: WorkItem, merchant: Merchant, page: FoundPage, tx: Connection) -> FollowUp:
    mutations = record_page(tx, merchant, page, utc_now())
    return FollowUp(audit=[audit_entry(item, mutations)] if mutations else [])
