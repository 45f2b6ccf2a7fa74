"""Disputes of Shopify Payments: a buyer's bank demands money back, and until when the shop can answer.

Disputes of a shop's own Stripe account are ``transactions`` of kind ``dispute``. The two never overlap:
Shopify Payments is an account of Shopify's, and no Stripe webhook reports its disputes.
"""

from datetime import datetime
from typing import Any, NamedTuple

from services.core.fields import find_instant, find_text, read_id, read_money, read_text
from services.ledger.work import WorkItem
from services.shopify.entities import EPOCH, EntityHandler, EntitySpec, EntityUpdate, rank_values
from services.shopify.logistics.tables import shopify_disputes
from services.shopify.payload import find_order_gid, read_event

_RANKS = rank_values(
    "needs_response", "under_review", "accepted", "charge_refunded", "prevented", "lost", "won"
)


class ShopifyDispute(NamedTuple):
    """A dispute. ``kind`` is ``chargeback`` or ``inquiry``.

    ``updated_at`` is the time of the event: a payload has no time of its own.
    """

    updated_at: datetime
    order_gid: str
    kind: str
    status: str
    amount_cents: int
    currency: str
    reason: str
    network_reason_code: str
    initiated_at: datetime | None
    evidence_due_by: datetime | None
    evidence_sent_on: datetime | None
    finalized_on: datetime | None

    @property
    def version(self) -> tuple[Any, ...]:
        """The time, then the most advanced status; the rest decides between states alike in both."""
        times = (self.initiated_at, self.evidence_due_by, self.evidence_sent_on)
        return (self.updated_at, _RANKS.get(self.status, 0), self.finalized_on or EPOCH, self.status,
                self.amount_cents, *(at or EPOCH for at in times), self.currency, self.reason,
                self.network_reason_code, self.kind, self.order_gid)  # fmt: skip


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[ShopifyDispute]]:
    source = read_event(item)
    currency = read_text(source, "currency")
    data = ShopifyDispute(
        updated_at=item.event_time(now),
        order_gid=find_order_gid(source),
        kind=find_text(source, "type"),
        status=read_text(source, "status"),
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        reason=find_text(source, "reason"),
        network_reason_code=find_text(source, "network_reason_code"),
        initiated_at=find_instant(source, "initiated_at"),
        evidence_due_by=find_instant(source, "evidence_due_by"),
        evidence_sent_on=find_instant(source, "evidence_sent_on"),
        finalized_on=find_instant(source, "finalized_on"),
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_SPEC = EntitySpec(
    name="dispute",
    table=shopify_disputes,
    make=ShopifyDispute,
    audited=("kind", "status", "amount_cents", "currency", "reason", "evidence_due_by", "order_gid"),
)

ingest_shopify_disputes = EntityHandler(_SPEC, _parse)
"""A dispute may come before its order. Its amounts are in Shopify's own payouts, not in ours."""
