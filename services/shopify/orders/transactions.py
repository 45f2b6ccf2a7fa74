"""Money that moved at Shopify for an order: authorizations, sales, captures, refunds, voids."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.fields import (
    find_instant,
    find_text,
    read_id,
    read_instant,
    read_money,
    read_set,
    read_text,
)
from services.core.locks import lock_objects
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.event_payload import read_event
from services.shopify.merge import EPOCH, EntityKey, EntityState, EntityUpdate, ParsedUpdate
from services.shopify.orders.audit_text import describe_refunded_sum, describe_settled_refunds, order_label
from services.shopify.orders.notices import Doubts, record_doubts
from services.shopify.orders.payload import order_gid
from services.shopify.orders.refund_settlement import STATUS_RANK
from services.shopify.orders.refund_store import OrderKey, recount_refunds
from services.shopify.payload_fields import find_id, find_object
from services.shopify.upsert import EntitySpec, find_states, upsert_updates

_STRIPE_ID = re.compile(r"(?:ch|py|pi)_[A-Za-z0-9]{8,64}")


class OrderTransaction(NamedTuple):
    """One movement of money as an event told it. ``payment_ref`` is the payment provider's own id of it."""

    processed_at: datetime
    order_gid: str
    kind: str
    status: str
    gateway: str
    amount_cents: int
    currency: str
    parent_id: int | None
    payment_ref: str
    is_test: bool

    @property
    def version(self) -> tuple[Any, ...]:
        """How far it got; the rest only decides between two that got equally far."""
        content = (self.processed_at, self.status, self.kind, self.amount_cents, self.currency, self.gateway)
        parts = (self.payment_ref, self.parent_id or 0, self.order_gid, self.is_test)
        return (STATUS_RANK.get(self.status, 0), *content, *parts)


def ingest_order_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every transaction stands with the furthest status that was told of it; an earlier one is ``stale``.

    It may come before its order: nothing here needs the order's row. One that gives money back decides
    whether its refund counts, in whatever order the two come. Of two that have one id and are of two orders
    the one that is further on stands, and the notices of both orders name the id.
    """
    del now
    read = read_set(items, _read, _KIND.code)
    told = [entry for entry in read if isinstance(entry, EntityUpdate)]
    orders = {(key[0], row.state.order_gid) for key, row in told if row.state and row.state.kind == "refund"}
    doubts = _find_doubts(tx, items, read)
    locks = {(shop_id, _KIND.lock(number)) for (shop_id, number), _ in told}
    lock_objects(tx, orders | locks | {found.lock for found in doubts})
    ingested = upsert_updates(tx, items, read, _KIND)
    for work_id, mutations in record_doubts(tx, doubts).items():
        ingested.said.setdefault(work_id, []).extend(mutations)
    changed: dict[OrderKey, WorkItem] = {}
    for key, item in ingested.changed.items():
        state = ingested.rows[key].state
        if state and (key[0], state.order_gid) in orders:
            changed[key[0], state.order_gid] = item
    recount = recount_refunds(tx, changed)
    for order, item in changed.items():
        said = ingested.said.setdefault(item.id, [])
        said += describe_settled_refunds(order[1], recount.refunds.get(order, {}))
        if sums := recount.orders.get(order):
            said.append(
                describe_refunded_sum(order_label(sums.name, order[1]), order[1], sums.currency, sums.change)
            )
    return ingested.effects(items)


def _find_doubts(
    tx: Connection, items: Sequence[WorkItem], read: Sequence[ParsedUpdate[OrderTransaction]]
) -> list[Doubts]:
    """Return a doubt for each order of a transaction whose id is that of another order's transaction."""
    told = [(item, one.key, one.row.state) for item, one in zip(items, read, strict=True)
            if isinstance(one, EntityUpdate) and one.row.state]  # fmt: skip
    gids: dict[EntityKey, dict[str, tuple[WorkItem, datetime]]] = defaultdict(dict)
    for item, key, state in told:
        gids[key].setdefault(state.order_gid, (item, state.processed_at))
    for key, row in find_states(tx, gids.keys(), _KIND).items():
        if row.state:
            first_item, _ = next(iter(gids[key].values()))
            gids[key].setdefault(row.state.order_gid, (first_item, row.state.processed_at))
    return [
        Doubts(item, gid, at, [f"transactions[{key[1]}].id is that of another order's: one is recorded"])
        for key, of in gids.items()
        if len(of) > 1
        for gid, (item, at) in of.items()
    ]


def find_payment_ref(source: Mapping[str, Any]) -> str:
    """Return the Stripe charge (``ch_``, ``py_``) or payment intent that a transaction names, or nothing.

    A charge is preferred wherever it stands: Stripe's own lists are by charge. Shopify has it in the
    receipt of its own payments, in ``authorization`` or in ``payment_id``, as the gateway pleases.
    """
    found = [text for text in _texts(source) if _STRIPE_ID.fullmatch(text)]
    return next((text for text in found if not text.startswith("pi_")), found[0] if found else "")


def _texts(source: Mapping[str, Any]) -> Iterator[str]:
    yield find_text(source, "authorization")
    yield find_text(source, "payment_id")
    receipt = find_object(source, "receipt")
    charge = receipt.get("charge")
    for name in ("charge_id", "latest_charge", "charge", "id", "payment_intent", "payment_intent_id"):
        yield find_text(receipt, name)
    if isinstance(charge, dict):
        yield find_text(charge, "id")
        yield find_text(charge, "payment_intent")


def _read(item: WorkItem) -> EntityUpdate[OrderTransaction]:
    source = read_event(item)
    currency = read_text(source, "currency")
    state = OrderTransaction(
        processed_at=find_instant(source, "processed_at") or read_instant(source, "created_at"),
        order_gid=order_gid(read_id(source, "order_id")),
        kind=read_text(source, "kind"),
        status=read_text(source, "status"),
        gateway=find_text(source, "gateway"),
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        parent_id=find_id(source, "parent_id"),
        payment_ref=find_payment_ref(source),
        is_test=source.get("test") is True,
    )
    return EntityUpdate((item.shop_id, read_id(source, "id")), EntityState(state))


_FIND = """
select t.shop_id, t.order_transaction_id, null::timestamptz, t.processed_at, t.order_gid, t.kind, t.status,
       t.gateway, t.amount_cents, t.currency, t.parent_id, t.payment_ref, t.is_test
  from unnest(%(shop_id)s::int[], %(id)s::bigint[]) as v(shop_id, id)
  join order_transactions t on t.shop_id = v.shop_id and t.order_transaction_id = v.id
"""

_WRITE = """
insert into order_transactions (shop_id, order_transaction_id, event_id, processed_at, order_gid, kind,
                                status, gateway, amount_cents, currency, parent_id, payment_ref, is_test)
select * from unnest(%(shop_id)s::int[], %(id)s::bigint[], %(event_id)s::bigint[],
                     %(processed_at)s::timestamptz[], %(order_gid)s::text[], %(kind)s::text[],
                     %(status)s::text[], %(gateway)s::text[], %(amount_cents)s::bigint[],
                     %(currency)s::text[], %(parent_id)s::bigint[], %(payment_ref)s::text[],
                     %(is_test)s::boolean[])
on conflict (shop_id, order_transaction_id) do update set
   event_id = excluded.event_id, processed_at = excluded.processed_at, order_gid = excluded.order_gid,
   kind = excluded.kind, status = excluded.status, gateway = excluded.gateway,
   amount_cents = excluded.amount_cents, currency = excluded.currency, parent_id = excluded.parent_id,
   payment_ref = excluded.payment_ref, is_test = excluded.is_test
"""

_KIND = EntitySpec(
    table="order_transactions",
    noun="order transaction",
    code="shopify.unreadable_order_transaction",
    find=_FIND,
    make=OrderTransaction,
    write=_WRITE,
    columns={
        "processed_at": "timestamptz", "order_gid": "text", "kind": "text", "status": "text",
        "gateway": "text", "amount_cents": "bigint", "currency": "text", "parent_id": "bigint",
        "payment_ref": "text", "is_test": "boolean",
    },
    blank=OrderTransaction(EPOCH, "", "", "", "", 0, "", None, "", is_test=False),
    shown=("kind", "status", "gateway", "amount_cents", "currency", "payment_ref", "order_gid"),
    lock=lambda number: f"order-transaction:{number}",
)  # fmt: skip
