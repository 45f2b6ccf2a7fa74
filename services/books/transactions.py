"""Transactions: a set of Stripe events becomes charges, refunds and payment intents."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.books.said import KnownTransaction, say_transaction
from services.books.stripe_body import Transaction, read_transaction, transaction_version
from services.core.arrays import instant_array, int_array, text_array
from services.core.errors import Refused
from services.core.locks import lock_objects
from services.core.reading import read_set
from services.ledger.said import said_by
from services.ledger.work import Done, Effects, Outcome, WorkItem

TransactionKey = tuple[int, str]
"""(shop, Stripe's id)."""

_FIND = """
select t.shop_id, t.provider_id, t.version_at, t.kind, t.status, t.refunded_cents,
       t.amount_cents, t.currency, t.parent_id, t.occurred_at
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[]) as v(shop_id, provider_id)
  join transactions t on t.shop_id = v.shop_id and t.provider_id = v.provider_id
"""

_UPSERT = """
insert into transactions (shop_id, provider_id, kind, status, amount_cents, refunded_cents, currency,
                          occurred_at, parent_id, version_at, event_id)
select * from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(kind)s::text[], %(status)s::text[],
                     %(amount_cents)s::bigint[], %(refunded_cents)s::bigint[], %(currency)s::text[],
                     %(occurred_at)s::timestamptz[], %(parent_id)s::text[], %(version_at)s::timestamptz[],
                     %(event_id)s::bigint[])
on conflict (shop_id, provider_id) do update set
   kind = excluded.kind, status = excluded.status, amount_cents = excluded.amount_cents,
   refunded_cents = excluded.refunded_cents, currency = excluded.currency,
   occurred_at = excluded.occurred_at, parent_id = excluded.parent_id, version_at = excluded.version_at,
   event_id = excluded.event_id
"""


def ingest_transactions(tx: Connection, items: Sequence[WorkItem], now: datetime) -> Effects:
    """Every charge, refund and payment intent stands as its newest event told it.

    Events may come late, twice and in any order: the newest by ``transaction_version`` wins, an older
    one is ``stale``. An object that is none of the three (a dispute) is ``kept``: its event stays, and
    no transaction changes. A body that lacks what we need is refused alone.
    """
    del now
    read = read_set(items, read_transaction, "stripe.unreadable_transaction")
    newest: dict[TransactionKey, Transaction] = {}
    for entry in read:
        if isinstance(entry, Transaction):
            rival = newest.get(entry.key)
            if rival is None or entry.version > rival.version:
                newest[entry.key] = entry
    lock_objects(tx, newest)
    rows = _find_known(tx, newest)
    known = {key: transaction_version(*row[:4]) for key, row in rows.items()}
    won = [t for key, t in newest.items() if key not in known or t.version > known[key]]
    _record_transactions(tx, won)

    def settle(entry: Transaction | Refused | None) -> Outcome:
        if not isinstance(entry, Transaction):
            return entry or Done("kept")
        best = newest[entry.key].version
        return Done() if entry.version == max(best, known.get(entry.key, best)) else Done("stale")

    told = {item.id: item for item in items}
    audit = [said_by(told[t.work_id], [say_transaction(t, rows.get(t.key))]) for t in won]
    return Effects([settle(entry) for entry in read], audit=audit)


def _find_known(tx: Connection, keys: Collection[TransactionKey]) -> dict[TransactionKey, KnownTransaction]:
    if not keys:
        return {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "provider_id": text_array([i for _, i in keys])}
    return {(r[0], r[1]): KnownTransaction(*r[2:]) for r in tx.exec_driver_sql(_FIND, arrays)}


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
        },
    )
