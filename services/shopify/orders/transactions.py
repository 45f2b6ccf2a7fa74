"""Money of an order at Shopify: transactions, tender transactions, disputes. Each may precede its order.

Order transactions are the steps of a payment. Tender transactions are the amounts paid, also in cash or by a
card terminal without Shopify; a negative amount went back to the buyer. Disputes are those of Shopify
Payments, for which there are no Stripe webhooks: disputes of a shop's own Stripe account are ``transactions``
of kind ``dispute``.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import (
    find_id,
    find_instant,
    find_object,
    find_text,
    parse_items,
    read_id,
    read_instant,
    read_money,
    read_text,
)
from services.core.locks import lock_objects
from services.ledger.work import HandlerResult, WorkItem
from services.shopify.entities import (
    EntityHandler,
    EntityKey,
    EntitySpec,
    EntityUpdate,
    find_states,
    rank_values,
    upsert_parsed,
)
from services.shopify.logistics.tables import shopify_disputes, tender_transactions
from services.shopify.orders.audit_text import describe_refunded_sum, describe_settled_refunds
from services.shopify.orders.notices import OrderDoubts, record_order_doubts
from services.shopify.orders.payload import OrderKey
from services.shopify.orders.refund_settlement import STATUS_RANK
from services.shopify.orders.refund_store import recount_refunds
from services.shopify.orders.tables import order_transactions
from services.shopify.payload import find_order_gid, order_gid, read_event
from services.shopify.tables import data_class

_STRIPE_ID = re.compile(r"(?:ch|py|pi)_[A-Za-z0-9]{8,64}")

_OrderTransaction = data_class(order_transactions, STATUS_RANK)
_TenderTransaction = data_class(tender_transactions)
_Dispute = data_class(shopify_disputes, rank_values(
    "needs_response", "under_review", "accepted", "charge_refunded", "prevented", "lost", "won"
))  # fmt: skip


def ingest_order_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Upsert transactions, and settle the refunds of their orders; the most advanced status wins.

    A transaction that gives money back decides whether its refund counts, in any order of arrival. Of two
    with the same id and different orders the more advanced one is recorded, and the notices of both orders
    name the id.
    """
    parsed = parse_items(items, lambda item: _parse_transaction(item, now), _TRANSACTIONS.unreadable)
    received = [
        (item, update.key, update.data)
        for item, event in zip(items, parsed, strict=True)
        if not isinstance(event, Refused)
        for update in event
        if update.data
    ]
    orders = {(key[0], data.order_gid) for _, key, data in received if data.kind == "refund"}
    doubts = _find_doubts(tx, received)
    locks = {_TRANSACTIONS.lock_of(key) for _, key, _ in received}
    lock_objects(tx, orders | locks | {found.lock for found in doubts})
    result = upsert_parsed(tx, items, parsed, _TRANSACTIONS)
    for work_id, mutations in record_order_doubts(tx, doubts).items():
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


def _find_doubts(tx: Connection, received: Sequence[tuple[WorkItem, EntityKey, Any]]) -> list[OrderDoubts]:
    """Return a doubt for each order of a transaction with the same id as another order's transaction."""
    gids: dict[EntityKey, dict[str, tuple[WorkItem, datetime]]] = defaultdict(dict)
    for item, key, data in received:
        gids[key].setdefault(data.order_gid, (item, data.processed_at))
    for key, state in find_states(tx, gids.keys(), _TRANSACTIONS).items():
        if state.data:
            first_item, _ = next(iter(gids[key].values()))
            gids[key].setdefault(state.data.order_gid, (first_item, state.data.processed_at))
    return [
        OrderDoubts(
            item, gid, at, [f"transactions[{key[1]}].id is also that of another order's: one is recorded"]
        )
        for key, by_order in gids.items()
        if len(by_order) > 1
        for gid, (item, at) in by_order.items()
    ]


def find_payment_ref(source: Mapping[str, Any]) -> str:
    """Return the Stripe charge (``ch_``, ``py_``) or payment intent in a transaction; empty without one.

    A charge in any field is preferred, because Stripe's own lists are by charge. The field depends on the
    gateway: the receipt, ``authorization`` or ``payment_id``.
    """
    found = [text for text in _list_texts(source) if _STRIPE_ID.fullmatch(text)]
    return next((text for text in found if not text.startswith("pi_")), found[0] if found else "")


def _list_texts(source: Mapping[str, Any]) -> Iterator[str]:
    receipt = find_object(source, "receipt")
    in_receipt = ("charge_id", "latest_charge", "charge", "id", "payment_intent", "payment_intent_id")
    for node, names in (
        (source, ("authorization", "payment_id")),
        (receipt, in_receipt),
        (find_object(receipt, "charge"), ("id", "payment_intent")),
    ):
        yield from (find_text(node, name) for name in names)


def _parse_transaction(item: WorkItem, _now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    currency = read_text(source, "currency")
    data = _OrderTransaction(
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


def _parse_tender(item: WorkItem, now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    currency = read_text(source, "currency")
    data = _TenderTransaction(
        processed_at=find_instant(source, "processed_at") or item.event_time(now),
        order_gid=find_order_gid(source),
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        payment_method=find_text(source, "payment_method"),
        remote_reference=find_text(source, "remote_reference"),
        is_test=source.get("test") is True,
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


def _parse_dispute(item: WorkItem, now: datetime) -> list[EntityUpdate[Any]]:
    source = read_event(item)
    currency = read_text(source, "currency")
    times = ("initiated_at", "evidence_due_by", "evidence_sent_on", "finalized_on")
    data = _Dispute(
        updated_at=item.event_time(now),
        order_gid=find_order_gid(source),
        kind=find_text(source, "type"),
        status=read_text(source, "status"),
        amount_cents=read_money(source, "amount", currency),
        currency=currency,
        reason=find_text(source, "reason"),
        network_reason_code=find_text(source, "network_reason_code"),
        **{name: find_instant(source, name) for name in times},
    )
    return [EntityUpdate((item.shop_id, read_id(source, "id")), data)]


_TRANSACTIONS: EntitySpec[Any] = EntitySpec(
    name="order_transaction",
    table=order_transactions,
    make=_OrderTransaction,
    audited=("kind", "status", "gateway", "amount_cents", "currency", "payment_ref", "order_gid"),
)
_TENDERS = EntitySpec(
    name="tender_transaction",
    table=tender_transactions,
    make=_TenderTransaction,
    audited=("amount_cents", "currency", "payment_method", "is_test", "order_gid"),
)
_DISPUTES = EntitySpec(
    name="dispute",
    table=shopify_disputes,
    make=_Dispute,
    audited=("kind", "status", "amount_cents", "currency", "reason", "evidence_due_by", "order_gid"),
)

ingest_tender_transactions = EntityHandler(_TENDERS, _parse_tender)
"""The buyer's card (``payment_details``) is not stored."""

ingest_shopify_disputes = EntityHandler(_DISPUTES, _parse_dispute)
"""The amounts of disputes are in Shopify's payouts, not in ours."""
