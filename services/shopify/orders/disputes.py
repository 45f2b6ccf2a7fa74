"""Disputes of Shopify Payments: a buyer's bank asks the shop for its money back, and until when to answer.

Those of a shop's own Stripe account are ``transactions`` of kind ``dispute``, in the books. The two never
meet: Shopify Payments is an account of Shopify's, whose disputes no Stripe webhook tells.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import find_instant, find_text, read_id, read_money, read_text
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityState, EntityUpdate
from services.shopify.orders.payload import order_gid
from services.shopify.payload_fields import find_id
from services.shopify.upsert import EntitySpec, upsert_entities

_FURTHER = {
    status: place
    for place, status in enumerate(
        ("needs_response", "under_review", "accepted", "charge_refunded", "prevented", "lost", "won"), start=1
    )
}


class ShopifyDispute(NamedTuple):
    """A dispute as one event told it. ``kind`` is ``chargeback`` or ``inquiry``.

    ``updated_at`` is when it was told: a body has no time of its own.
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
        """The newest, then the furthest on; the rest only decides between states alike in both."""
        times = (self.initiated_at, self.evidence_due_by, self.evidence_sent_on)
        return (self.updated_at, _FURTHER.get(self.status, 0), self.finalized_on or EPOCH, self.status,
                self.amount_cents, *(at or EPOCH for at in times), self.currency, self.reason,
                self.network_reason_code, self.kind, self.order_gid)  # fmt: skip


def ingest_shopify_disputes(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every dispute stands as its newest event told it; an older one is ``stale``.

    It may come before its order. What Shopify takes for it is in its own payouts, not in our books.
    """
    return upsert_entities(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> EntityUpdate[ShopifyDispute]:
    source = read_event(item)
    currency, order_id = read_text(source, "currency"), find_id(source, "order_id")
    state = ShopifyDispute(
        updated_at=item.event_time(now),
        order_gid=order_gid(order_id) if order_id else "",
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
    return EntityUpdate((item.shop_id, read_id(source, "id")), EntityState(state))


_FIND = """
select t.shop_id, t.dispute_id, null::timestamptz, t.updated_at, t.order_gid, t.kind, t.status,
       t.amount_cents, t.currency, t.reason, t.network_reason_code, t.initiated_at, t.evidence_due_by,
       t.evidence_sent_on, t.finalized_on
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join shopify_disputes t on t.shop_id = v.shop_id and t.dispute_id = v.id
"""

_WRITE = """
insert into shopify_disputes (shop_id, dispute_id, event_id, updated_at, order_gid, kind, status,
                              amount_cents, currency, reason, network_reason_code, initiated_at,
                              evidence_due_by, evidence_sent_on, finalized_on)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(updated_at)s::timestamptz[], %(order_gid)s::text[], %(kind)s::text[],
                     %(status)s::text[], %(amount_cents)s::bigint[], %(currency)s::text[], %(reason)s::text[],
                     %(network_reason_code)s::text[], %(initiated_at)s::timestamptz[],
                     %(evidence_due_by)s::timestamptz[], %(evidence_sent_on)s::timestamptz[],
                     %(finalized_on)s::timestamptz[])
on conflict (shop_id, dispute_id) do update set
   event_id = excluded.event_id, updated_at = excluded.updated_at, order_gid = excluded.order_gid,
   kind = excluded.kind, status = excluded.status, amount_cents = excluded.amount_cents,
   currency = excluded.currency, reason = excluded.reason,
   network_reason_code = excluded.network_reason_code, initiated_at = excluded.initiated_at,
   evidence_due_by = excluded.evidence_due_by, evidence_sent_on = excluded.evidence_sent_on,
   finalized_on = excluded.finalized_on
"""

_KIND = EntitySpec(
    table="shopify_disputes",
    noun="Shopify Payments dispute",
    code="shopify.unreadable_dispute",
    find=_FIND,
    make=ShopifyDispute,
    write=_WRITE,
    columns={
        "updated_at": "timestamptz", "order_gid": "text", "kind": "text", "status": "text",
        "amount_cents": "bigint", "currency": "text", "reason": "text", "network_reason_code": "text",
        "initiated_at": "timestamptz", "evidence_due_by": "timestamptz", "evidence_sent_on": "timestamptz",
        "finalized_on": "timestamptz",
    },
    blank=ShopifyDispute(EPOCH, "", "", "", 0, "", "", "", None, None, None, None),
    shown=("kind", "status", "amount_cents", "currency", "reason", "evidence_due_by", "order_gid"),
    lock=lambda number: f"shopify-dispute:{number}",
)  # fmt: skip
