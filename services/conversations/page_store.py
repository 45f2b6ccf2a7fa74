"""Records which page a merchant has, in the transaction that settles the call."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Mutation
from services.conversations.cache import store_page
from services.conversations.merchants import Merchant
from services.conversations.pages import FoundPage
from services.conversations.parts import forget_blocks

_SET_PAGE = """
update merchants
   set page_id = %(page_id)s, page_values = %(values)s, changed_at = %(now)s, page_attempted_at = null
 where id = %(id)s and ((page_id, page_values) <> (%(page_id)s, %(values)s) or page_attempted_at is not null)
"""

_FORGET_PAGE = """
update merchants set page_id = '', page_values = '' where id = %(id)s and page_id = %(page_id)s
"""
_FORGET_CACHED = "delete from canvas_cache where merchant_id = %(id)s"


def record_page(tx: Connection, merchant: Merchant, page: FoundPage, now: datetime) -> list[Mutation]:
    """Store ``page`` as the merchant's; return the mutation, if it is another page than before.

    What was on a former page is written to this one again.
    """
    store_page(tx, merchant, page.page_id, now)
    values = {"id": merchant.id, "page_id": page.page_id, "values": page.values, "now": now}
    tx.exec_driver_sql(_SET_PAGE, values)
    if merchant.page_id == page.page_id:
        return []
    if merchant.page_id:
        forget_blocks(tx, [merchant.id])
    summary = f"page {page.page_id} of merchant {merchant.id} {page.outcome} in Notion"
    before: Mapping[str, str] | None = {"page_id": merchant.page_id} if merchant.page_id else None
    return [Mutation("merchants", str(merchant.id), summary, before, {"page_id": page.page_id})]


def forget_page(tx: Connection, merchant: Merchant) -> None:
    """Store that Notion does not have the merchant's page any more; one that it got meanwhile stays."""
    values = {"id": merchant.id, "page_id": merchant.page_id}
    if not tx.exec_driver_sql(_FORGET_PAGE, values).rowcount:
        return
    tx.exec_driver_sql(_FORGET_CACHED, {"id": merchant.id})
    forget_blocks(tx, [merchant.id])
