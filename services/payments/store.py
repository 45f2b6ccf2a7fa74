"""Rows of ``transactions``: find, upsert, and fill fees that became known later."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.core.pg_arrays import instant_array, int_array, text_array
from services.payments.payload import Transaction, Version, transaction_version

TransactionKey = tuple[int, str]
"""(shop, Stripe's id)."""

# The fee of a payment's balance entries, which may arrive before the payment itself.
_FIND = """
select v.shop_id as key_shop_id, v.provider_id as key_provider_id, e.fee_cents as entry_fee_cents,
       e.currency as entry_currency, t.version_at, t.kind, t.status, t.refunded_cents, t.content_digest,
       t.amount_cents, t.currency, t.parent_id, t.occurred_at, t.fee_cents, t.order_ref, t.reason,
       t.arrives_on
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

ToArray = Callable[[list[Any]], str]

_COLUMNS: Mapping[str, ToArray] = MappingProxyType(
    {
        "shop_id": int_array,
        "provider_id": text_array,
        "kind": text_array,
        "status": text_array,
        "amount_cents": int_array,
        "refunded_cents": int_array,
        "currency": text_array,
        "occurred_at": instant_array,
        "parent_id": text_array,
        "version_at": instant_array,
        "event_id": int_array,
        "fee_cents": int_array,
        "order_ref": text_array,
        "reason": text_array,
        "arrives_on": instant_array,
        "content_digest": text_array,
    }
)


class StoredTransaction(NamedTuple):
    """The columns of a transaction's row that a newer state is compared with."""

    version_at: datetime
    kind: str
    status: str
    refunded_cents: int
    content_digest: str
    amount_cents: int
    currency: str
    parent_id: str | None
    occurred_at: datetime
    fee_cents: int | None
    order_ref: str
    reason: str
    arrives_on: date | None

    @property
    def version(self) -> Version:
        """The order among the states of one transaction."""
        return transaction_version(
            self.version_at, self.kind, self.status, self.refunded_cents, self.content_digest
        )


def make_arrays(rows: Sequence[Any], columns: Mapping[str, ToArray]) -> dict[str, str]:
    """Return an array literal for each of ``columns``, from the attributes of that name."""
    return {name: to_array([getattr(row, name) for row in rows]) for name, to_array in columns.items()}


def find_transactions(
    tx: Connection, keys: Collection[TransactionKey]
) -> tuple[dict[TransactionKey, StoredTransaction], dict[TransactionKey, tuple[int, str]]]:
    """Return the rows that exist, and the fees of balance entries with their currency."""
    if not keys:
        return {}, {}
    arrays = {"shop_id": int_array(s for s, _ in keys), "provider_id": text_array([i for _, i in keys])}
    stored: dict[TransactionKey, StoredTransaction] = {}
    entry_fees: dict[TransactionKey, tuple[int, str]] = {}
    for row in tx.exec_driver_sql(_FIND, arrays):
        key = (row.key_shop_id, row.key_provider_id)
        if row.version_at is not None:
            stored[key] = StoredTransaction._make(getattr(row, name) for name in StoredTransaction._fields)
        if row.entry_fee_cents is not None:
            entry_fees[key] = (row.entry_fee_cents, row.entry_currency)
    return stored, entry_fees


def upsert_transactions(tx: Connection, transactions: Sequence[Transaction]) -> None:
    """The rows of ``transactions``, one for each key, have these states; a fee that is known stays."""
    if transactions:
        tx.exec_driver_sql(_UPSERT, make_arrays(transactions, _COLUMNS))


def fill_fees(tx: Connection, transactions: Collection[Transaction]) -> Sequence[Row[Any]]:
    """Rows without a fee have that of ``transactions``; return those that changed.

    They have ``shop_id``, ``provider_id``, ``kind``, ``fee_cents`` and ``currency``.
    """
    if not transactions:
        return []
    columns = {name: _COLUMNS[name] for name in ("shop_id", "provider_id", "fee_cents")}
    return tx.exec_driver_sql(_FILL_FEES, make_arrays(list(transactions), columns)).all()
