"""Rows of ``transactions``: find, upsert, and fill fees that became known later."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from services.core.pg_arrays import array_parameters, arrays, encode_rows
from services.payments.payload import Transaction, TransactionKey
from services.payments.tables import transactions

# The fee of a payment's balance entries, which may arrive before the payment itself.
_FIND = """
select v.shop_id as key_shop_id, v.provider_id as key_provider_id, e.fee_cents as entry_fee_cents,
       e.currency as entry_currency, t.*
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

_COLUMNS = Transaction._fields[:-1]
"""The columns of the table, in its order: all fields but ``work_id``."""

_CHANGES = ", ".join(
    f"{name} = excluded.{name}" for name in _COLUMNS if name not in ("shop_id", "provider_id", "fee_cents")
)

_UPSERT = f"""
insert into transactions as t ({", ".join(_COLUMNS)})
select * from unnest({array_parameters(transactions, _COLUMNS)})
on conflict (shop_id, provider_id) do update set
   {_CHANGES}, fee_cents = coalesce(t.fee_cents, excluded.fee_cents)
"""  # noqa: S608

_FILL_FEES = """
update transactions t set fee_cents = v.fee_cents
  from unnest(%(shop_id)s::int[], %(provider_id)s::text[], %(fee_cents)s::bigint[])
       as v(shop_id, provider_id, fee_cents)
 where t.shop_id = v.shop_id and t.provider_id = v.provider_id and t.fee_cents is null
returning t.shop_id, t.provider_id, t.kind, t.fee_cents, t.currency
"""


def find_transactions(
    tx: Connection, keys: Collection[TransactionKey]
) -> tuple[dict[TransactionKey, Transaction], dict[TransactionKey, tuple[int, str]]]:
    """Return the rows that exist, and the fees of balance entries with their currency."""
    if not keys:
        return {}, {}
    stored: dict[TransactionKey, Transaction] = {}
    entry_fees: dict[TransactionKey, tuple[int, str]] = {}
    for row in tx.exec_driver_sql(_FIND, arrays("shop_id provider_id", keys)):
        key = (row.key_shop_id, row.key_provider_id)
        if row.version_at is not None:
            stored[key] = Transaction(**{name: getattr(row, name) for name in _COLUMNS})
        if row.entry_fee_cents is not None:
            entry_fees[key] = (row.entry_fee_cents, row.entry_currency)
    return stored, entry_fees


def upsert_transactions(tx: Connection, changed: Sequence[Transaction]) -> None:
    """Write the states ``changed``, one for each key; a known fee does not change."""
    if changed:
        tx.exec_driver_sql(_UPSERT, encode_rows(transactions, _COLUMNS, [state[:-1] for state in changed]))


def update_missing_fees(tx: Connection, known: Collection[Transaction]) -> Sequence[Row[Any]]:
    """Set the fees of ``known`` on rows without one; return shop, id, kind, fee and currency of each."""
    if not known:
        return []
    fees = [(state.shop_id, state.provider_id, state.fee_cents) for state in known]
    return tx.exec_driver_sql(_FILL_FEES, arrays("shop_id provider_id fee_cents", fees)).all()
