"""Tender transactions: money that passed between a buyer and the shop, by the means it was paid with.

Where ``order_transactions`` are the steps of a payment, these are what changed hands: at the till too, in
cash or by a card that Shopify never saw. Negative is money that went back.
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


class TenderTransaction(NamedTuple):
    """Money that changed hands. ``remote_reference`` is the gateway's own name for it."""

    processed_at: datetime
    order_gid: str
    amount_cents: int
    currency: str
    payment_method: str
    remote_reference: str
    is_test: bool

    @property
    def version(self) -> tuple[Any, ...]:
        """All of it: it is told once and never changes, so this only decides between two that disagree."""
        return tuple(self)


def ingest_tender_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every tender transaction is on file, whether or not its order is known yet.

    ``payment_details``, a buyer's card, are not kept. Where Shopify leaves ``processed_at`` null, the time
    of the delivery stands for it.
    """
    return upsert_entities(tx, items, _KIND, lambda item: _read(item, now))


def _read(item: WorkItem, now: datetime) -> EntityUpdate[TenderTransaction]:
    source = read_event(item)
    currency, order_id = read_text(source, "currency"), find_id(source, "order_id")
    state = TenderTransaction(
        processed_at=find_instant(source, "processed_at") or item.event_time(now),
        order_gid=order_gid(order_id) if order_id else "",
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        payment_method=find_text(source, "payment_method"),
        remote_reference=find_text(source, "remote_reference"),
        is_test=source.get("test") is True,
    )
    return EntityUpdate((item.shop_id, read_id(source, "id")), EntityState(state))


_FIND = """
select t.shop_id, t.tender_transaction_id, null::timestamptz, t.processed_at, t.order_gid, t.amount_cents,
       t.currency, t.payment_method, t.remote_reference, t.is_test
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join tender_transactions t on t.shop_id = v.shop_id and t.tender_transaction_id = v.id
"""

_WRITE = """
insert into tender_transactions (shop_id, tender_transaction_id, event_id, processed_at, order_gid,
                                 amount_cents, currency, payment_method, remote_reference, is_test)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(processed_at)s::timestamptz[], %(order_gid)s::text[], %(amount_cents)s::bigint[],
                     %(currency)s::text[], %(payment_method)s::text[], %(remote_reference)s::text[],
                     %(is_test)s::boolean[])
on conflict (shop_id, tender_transaction_id) do update set
   event_id = excluded.event_id, processed_at = excluded.processed_at, order_gid = excluded.order_gid,
   amount_cents = excluded.amount_cents, currency = excluded.currency,
   payment_method = excluded.payment_method, remote_reference = excluded.remote_reference,
   is_test = excluded.is_test
"""

_KIND = EntitySpec(
    table="tender_transactions",
    noun="tender transaction",
    code="shopify.unreadable_tender_transaction",
    find=_FIND,
    make=TenderTransaction,
    write=_WRITE,
    columns={
        "processed_at": "timestamptz", "order_gid": "text", "amount_cents": "bigint", "currency": "text",
        "payment_method": "text", "remote_reference": "text", "is_test": "boolean",
    },
    blank=TenderTransaction(EPOCH, "", 0, "", "", "", False),
    shown=("amount_cents", "currency", "payment_method", "is_test", "order_gid"),
    lock=lambda number: f"tender-transaction:{number}",
)  # fmt: skip
