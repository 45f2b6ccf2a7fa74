"""Topic ``transaction_ingest``: a batch of Stripe events updates the transactions of their objects."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.core.errors import Refused
from services.core.fields import find_object, parse_items
from services.core.locks import lock_objects
from services.ledger.audit_text import audit_entry
from services.ledger.work import Done, HandlerResult, NewWork, Outcome, WorkItem
from services.payments.audit_text import describe_fee, describe_transaction
from services.payments.payload import Transaction, TransactionKey, parse_transaction_event
from services.payments.store import find_transactions, update_missing_fees, upsert_transactions
from services.providers.delivery import id_text, parse_object

PAYOUT = "payout"
"""The field of a work item's payload with the payout whose balance entries are fetched."""


def ingest_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Set each charge, refund, payment intent, dispute and payout to the state of its newest event.

    The newest by ``Transaction.version`` wins, an older one is ``stale``, an object of another kind is
    ``ignored``, and only the item whose body lacks a field is refused. Events of the test mode and of
    connected accounts count like others: the shop's recorded secret decides which events are accepted.

    A fee is written once, from any event, because Stripe never changes a balance transaction. Balance entries
    correct it (see ``balance``). For a reconciled payout, plans the work that fetches its entries.
    """
    del now
    parsed = parse_items(items, parse_transaction_event, "stripe.unreadable_transaction")
    transactions = [entry for entry in parsed if isinstance(entry, Transaction)]
    newest: dict[TransactionKey, Transaction] = {}
    for entry in transactions:
        best = newest.get(entry.key)
        if best is None or entry.version > best.version:
            newest[entry.key] = entry
    lock_objects(tx, newest)
    stored, entry_fees = find_transactions(tx, newest)
    versions = {key: row.version for key, row in stored.items()}
    fees = {t.key: t.fee_cents for t in transactions if t.fee_cents is not None}
    fees |= {key: fee for key, (fee, currency) in entry_fees.items() if newest[key].currency == currency}
    # A stored fee does not change.
    fees |= {key: row.fee_cents for key, row in stored.items() if row.fee_cents is not None}
    changed = [
        t._replace(fee_cents=fees.get(key))
        for key, t in newest.items()
        if key not in versions or t.version > versions[key]
    ]
    upsert_transactions(tx, changed)
    # A stale event may be the only one that has the fee.
    written = {t.key for t in changed}
    fee_sources = {t.key: t for t in transactions if t.fee_cents is not None and t.key not in written}
    filled = update_missing_fees(tx, fee_sources.values())

    def settle(entry: Transaction | Refused | None) -> Outcome:
        if not isinstance(entry, Transaction):
            return entry or Done("ignored")
        version = newest[entry.key].version
        return Done() if entry.version == max(version, versions.get(entry.key, version)) else Done("stale")

    by_id = {item.id: item for item in items}
    audit = [audit_entry(by_id[t.work_id], [describe_transaction(t, stored.get(t.key))]) for t in changed]
    audit += [
        audit_entry(
            by_id[fee_sources[row.shop_id, row.provider_id].work_id],
            [describe_fee(row.kind, row.provider_id, None, row.fee_cents, row.currency)],
        )
        for row in filled
    ]
    return HandlerResult([settle(entry) for entry in parsed], plan_payout_entries(items), audit)


def plan_payout_entries(items: Sequence[WorkItem]) -> list[NewWork]:
    """Return the work that fetches the balance entries of each payout that Stripe has reconciled.

    Only a list by payout contains them, after ``payout.reconciliation_completed``. Source: Stripe, "Payout
    reconciliation report".
    """
    return [
        NewWork(
            shop_id=item.shop_id,
            topic="event_fetch",
            key=item.key,
            payload={PAYOUT: payout},
            event_id=item.event_id,
            request_id=item.request_id,
        )
        for item in items
        if item.event_topic == "payout.reconciliation_completed" and (payout := _find_payout(item.body))
    ]


def _find_payout(body: bytes) -> str:
    source = find_object(find_object(parse_object(body) or {}, "data"), "object")
    return id_text(source.get("id")) if source.get("object") == "payout" else ""
