"""Tender transactions: money that passed between a buyer and the shop, by payment method.

``order_transactions`` are the steps of a payment; these are the amounts that changed hands, also at the till
in cash or by a card that Shopify never saw. A negative amount went back to the buyer.
"""

from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_instant, find_text, read_id, read_money, read_text
from services.ledger.work import WorkItem
from services.shopify.entities import EntityHandler, EntitySpec, EntityUpdate
from services.shopify.logistics.tables import tender_transactions
from services.shopify.payload import find_order_gid, read_event


class TenderTransaction(NamedTuple):
    """An amount that changed hands. ``remote_reference`` is the gateway's own id of it."""

    processed_at: datetime
    order_gid: str
    amount_cents: int
    currency: str
    payment_method: str
    remote_reference: str
    is_test: bool

    @property
    def version(self) -> tuple[Any, ...]:
        """All of it: a tender transaction never changes, so this decides only between two that differ."""
        return tuple(self)


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[TenderTransaction]]:
    source = read_event(item)
    currency = read_text(source, "currency")
    data = TenderTransaction(
        processed_at=find_instant(source, "processed_at") or item.event_time(now),
        order_gid=find_order_gid(source),
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        payment_method=find_text(source, "payment_method"),
        remote_reference=find_text(source, "remote_reference"),
        is_test=source.get("test") is True,
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_SPEC = EntitySpec(
    name="tender_transaction",
    table=tender_transactions,
    make=TenderTransaction,
    audited=("amount_cents", "currency", "payment_method", "is_test", "order_gid"),
)

ingest_tender_transactions = EntityHandler(_SPEC, _parse)
"""``payment_details``, a buyer's card, are not stored."""
