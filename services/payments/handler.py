"""Transactions: a set of Stripe events becomes charges, refunds, payment intents, disputes and payouts."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.audit.chain import Entry
from services.core.errors import Refused
from services.core.fields import read_set
from services.core.locks import lock_objects
from services.core.pg_arrays import instant_array, int_array, text_array
from services.ledger.describe import audit_entry
from services.ledger.work import Done, HandlerResult, Outcome, WorkItem
from services.payments.audit_text import StoredTransaction, describe_fee, describe_transaction
from services.payments.fetch_plan import plan_payout_entries
from services.payments.payload import Transaction, parse_transaction_event, transaction_version

TransactionKey = tuple[int, str]
"""(shop, Stripe's id)."""

# The fee of a payment's balance entries, which may be here before the payment itself.
_FIND = """
select v.shop_id, v.provider_id, e.fee_cents, e.currency, t.version_at, t.kind, t.status, t.refunded_cents,
       t.content_digest, t.amount_cents, t.currency, t.parent_id, t.occurred_at, t.fee_cents, t.order_ref,
       t.reason, t.arrives_on
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[]) as v(shop_id, provider_id)
  left join lateral (
         select * from transactions t where t.shop_id = v.shop_id and t.provider_id = v.provider_id offset 0
       ) t on true
  left join lateral (
         select sum(b.fee_cents)::bigint as fee_cents, min(b.currency) as currency from balance_entries b
          where b.shop_id = v.shop_id and b.source_id = v.provider_id
       ) e on true
 where t.provider_id is not null or e.fee_cents is not null
"""

_UPSERT = """
insert into transactions as t (shop_id, provider_id, kind, status, amount_cents, refunded_cents, currency,
                               occurred_at, parent_id, version_at, event_id, fee_cents, order_ref, reason,
                               arrives_on, content_digest)
select * from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(kind)s::text[], %(status)s::text[],
                     %(amount_cents)s::bigint[], %(refunded_cents)s::bigint[], %(currency)s::text[],
                     %(occurred_at)s::timestamptz[], %(parent_id)s::text[], %(version_at)s::timestamptz[],
                     %(event_id)s::bigint[], %(fee_cents)s::bigint[], %(order_ref)s::text[],
                     %(reason)s::text[], %(arrives_on)s::date[], %(content_digest)s::text[])
on conflict (shop_id, provider_id) do update set
   kind = excluded.kind, status = excluded.status, amount_cents = excluded.amount_cents,
   refunded_cents = excluded.refunded_cents, currency = excluded.currency,
   occurred_at = excluded.occurred_at, parent_id = excluded.parent_id, version_at = excluded.version_at,
   event_id = excluded.event_id, fee_cents = coalesce(t.fee_cents, excluded.fee_cents),
   order_ref = excluded.order_ref, reason = excluded.reason, arrives_on = excluded.arrives_on,
   content_digest = excluded.content_digest
"""

_FILL_FEES = """
update transactions t set fee_cents = v.fee_cents
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(fee_cents)s::bigint[])
       as v(shop_id, provider_id, fee_cents)
 where t.shop_id = v.shop_id and t.provider_id = v.provider_id and t.fee_cents is null
returning t.shop_id, t.provider_id, t.kind, t.fee_cents, t.currency
"""


def ingest_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> HandlerResult:
    """Every charge, refund, payment intent, dispute and payout stands as its newest event told it.

    Events may come late, twice and in any order: the newest by ``transaction_version`` wins, an older
    one is ``stale``. Another object is ``ignored``: its event stays, and no transaction changes. A body that
    lacks what we need is refused alone. An event of the test mode counts as any other, and so does one of
    a connected account: each endpoint signs with a secret of its own, so the secret that a shop has
    recorded decides whose events are its own.

    A fee is written once, from whichever event knew it, as Stripe never changes a balance transaction;
    balance entries correct it (see ``services.payments.balance``). A payout that is reconciled asks for its
    entries.
    """
    del now
    read = read_set(items, parse_transaction_event, "stripe.unreadable_transaction")
    newest: dict[TransactionKey, Transaction] = {}
    for entry in read:
        if isinstance(entry, Transaction):
            rival = newest.get(entry.key)
            if rival is None or entry.version > rival.version:
                newest[entry.key] = entry
    lock_objects(tx, newest)
    rows, entry_fees = _find_known(tx, newest)
    known = {key: transaction_version(*row[:5]) for key, row in rows.items()}
    fees = {t.key: t.fee_cents for t in read if isinstance(t, Transaction) and t.fee_cents is not None}
    fees |= {key: fee for key, (fee, currency) in entry_fees.items() if newest[key].currency == currency}
    won = [
        _with_fee(t, rows.get(key), fees.get(key))
        for key, t in newest.items()
        if key not in known or t.version > known[key]
    ]
    _record_transactions(tx, won)

    def settle(entry: Transaction | Refused | None) -> Outcome:
        if not isinstance(entry, Transaction):
            return entry or Done("ignored")
        best = newest[entry.key].version
        return Done() if entry.version == max(best, known.get(entry.key, best)) else Done("stale")

    told = {item.id: item for item in items}
    audit = [audit_entry(told[t.work_id], [describe_transaction(t, rows.get(t.key))]) for t in won]
    audit += _fill_fees(tx, told, read, won)
    return HandlerResult([settle(entry) for entry in read], plan_payout_entries(items), audit)


def _with_fee(new: Transaction, known: StoredTransaction | None, told: int | None) -> Transaction:
    """Return ``new`` with the fee that its row holds from now on: the one it has, else what was told."""
    fee = told if known is None or known.fee_cents is None else known.fee_cents
    return new if fee == new.fee_cents else new._replace(fee_cents=fee)


def _find_known(
    tx: Connection, keys: Collection[TransactionKey]
) -> tuple[dict[TransactionKey, StoredTransaction], dict[TransactionKey, tuple[int, str]]]:
    """Return the rows that are there, and the fees, with their currency, that balance entries tell of."""
    if not keys:
        return {}, {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "provider_id": text_array([i for _, i in keys])}
    found = tx.exec_driver_sql(_FIND, arrays).all()
    rows = {(r[0], r[1]): StoredTransaction(*r[4:]) for r in found if r[4] is not None}
    return rows, {(r[0], r[1]): (r[2], r[3]) for r in found if r[2] is not None}


def _record_transactions(tx: Connection, won: Sequence[Transaction]) -> None:
    if not won:
        return
    tx.exec_driver_sql(
        _UPSERT,
        {
            "shop_id": int_array(t.shop_id for t in won),
            "provider_id": text_array([t.provider_id for t in won]),
            "kind": text_array([t.kind for t in won]),
            "status": text_array([t.status for t in won]),
            "amount_cents": int_array(t.amount_cents for t in won),
            "refunded_cents": int_array(t.refunded_cents for t in won),
            "currency": text_array([t.currency for t in won]),
            "occurred_at": instant_array(t.occurred_at for t in won),
            "parent_id": text_array([t.parent_id for t in won]),
            "version_at": instant_array(t.version_at for t in won),
            "event_id": int_array(t.event_id for t in won),
            "fee_cents": int_array(t.fee_cents for t in won),
            "order_ref": text_array([t.order_ref for t in won]),
            "reason": text_array([t.reason for t in won]),
            "arrives_on": text_array([t.arrives_on.isoformat() if t.arrives_on else None for t in won]),
            "content_digest": text_array([t.content_digest for t in won]),
        },
    )


def _fill_fees(
    tx: Connection,
    told: dict[int, WorkItem],
    read: Sequence[Transaction | Refused | None],
    won: Sequence[Transaction],
) -> list[Entry]:
    """A stale event may be the only one that knows the fee; return what the audit says of those."""
    recorded = {t.key for t in won}
    late = {
        t.key: t
        for t in read
        if isinstance(t, Transaction) and t.fee_cents is not None and t.key not in recorded
    }
    if not late:
        return []
    values = {
        "shop_id": int_array(t.shop_id for t in late.values()),
        "provider_id": text_array([t.provider_id for t in late.values()]),
        "fee_cents": int_array(t.fee_cents for t in late.values()),
    }
    return [
        audit_entry(
            told[late[shop_id, provider_id].work_id], [describe_fee(kind, provider_id, None, fee, currency)]
        )
        for shop_id, provider_id, kind, fee, currency in tx.exec_driver_sql(_FILL_FEES, values)
    ]
