"""Money that moved at Shopify for an order: authorizations, sales, captures, refunds, voids."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import (
    find_id,
    find_instant,
    find_object,
    find_text,
    read_id,
    read_instant,
    read_money,
    read_set,
    read_text,
)
from services.core.locks import lock_objects
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entities import EntityKey, EntitySpec, EntityUpdate, find_states, upsert_parsed
from services.shopify.orders.audit_text import describe_refunded_sum, describe_settled_refunds
from services.shopify.orders.notices import Doubts, record_doubts
from services.shopify.orders.payload import OrderKey
from services.shopify.orders.refund_settlement import STATUS_RANK
from services.shopify.orders.refund_store import recount_refunds
from services.shopify.orders.tables import order_transactions
from services.shopify.payload import order_gid, read_event

_STRIPE_ID = re.compile(r"(?:ch|py|pi)_[A-Za-z0-9]{8,64}")


class OrderTransaction(NamedTuple):
    """One movement of money. ``payment_ref`` is the payment provider's own id of it."""

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
        """The rank of the status; the rest decides between two of one rank."""
        content = (self.processed_at, self.status, self.kind, self.amount_cents, self.currency, self.gateway)
        parts = (self.payment_ref, self.parent_id or 0, self.order_gid, self.is_test)
        return (STATUS_RANK.get(self.status, 0), *content, *parts)


def ingest_order_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert transactions, and settle the refunds of their orders; the most advanced status wins.

    A transaction may come before its order. One that gives money back decides whether its refund counts,
    whichever of the two comes first. Of two with one id and different orders the more advanced one is
    recorded, and the notices of both orders name the id.
    """
    parsed = read_set(items, lambda item: _parse(item, now), _SPEC.unreadable)
    received = [
        (item, update.key, update.data)
        for item, event in zip(items, parsed, strict=True)
        if not isinstance(event, Refused)
        for update in event
        if update.data
    ]
    orders = {(key[0], data.order_gid) for _, key, data in received if data.kind == "refund"}
    doubts = _find_doubts(tx, received)
    locks = {_SPEC.lock_of(key) for _, key, _ in received}
    lock_objects(tx, orders | locks | {found.lock for found in doubts})
    result = upsert_parsed(tx, items, parsed, _SPEC)
    for work_id, mutations in record_doubts(tx, doubts).items():
        result.mutations[work_id].extend(mutations)
    changed: dict[OrderKey, WorkItem] = {}
    for key, item in result.changed.items():
        data = result.after[key].data
        if data and (key[0], data.order_gid) in orders:
            changed[key[0], data.order_gid] = item
    totals = recount_refunds(tx, changed)
    for order, item in changed.items():
        mutations = result.mutations[item.id]
        mutations += describe_settled_refunds(order[1], totals.refunds.get(order, {}))
        if refunded := totals.orders.get(order):
            mutations.append(describe_refunded_sum(order[1], refunded, refunded.change))
    return result.to_handler_result(items)


def _find_doubts(
    tx: Connection, received: Sequence[tuple[WorkItem, EntityKey, OrderTransaction]]
) -> list[Doubts]:
    """Return a doubt for each order of a transaction whose id is that of another order's transaction."""
    gids: dict[EntityKey, dict[str, tuple[WorkItem, datetime]]] = defaultdict(dict)
    for item, key, data in received:
        gids[key].setdefault(data.order_gid, (item, data.processed_at))
    for key, state in find_states(tx, gids.keys(), _SPEC).items():
        if state.data:
            first_item, _ = next(iter(gids[key].values()))
            gids[key].setdefault(state.data.order_gid, (first_item, state.data.processed_at))
    return [
        Doubts(item, gid, at, [f"transactions[{key[1]}].id is that of another order's: one is recorded"])
        for key, of in gids.items()
        if len(of) > 1
        for gid, (item, at) in of.items()
    ]


def find_payment_ref(source: Mapping[str, Any]) -> str:
    """Return the Stripe charge (``ch_``, ``py_``) or payment intent in a transaction; empty without one.

    A charge in any field is preferred, as Stripe's own lists are by charge. Which field has it depends on the
    gateway: the receipt, ``authorization`` or ``payment_id``.
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


def _parse(item: WorkItem, now: datetime) -> list[EntityUpdate[OrderTransaction]]:
    del now
    source = read_event(item)
    currency = read_text(source, "currency")
    data = OrderTransaction(
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
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_SPEC = EntitySpec(
    name="order_transaction",
    table=order_transactions,
    make=OrderTransaction,
    audited=("kind", "status", "gateway", "amount_cents", "currency", "payment_ref", "order_gid"),
)
