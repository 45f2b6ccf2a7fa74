"""Balance entries: Stripe's record of what each charge, refund, dispute, fee and payout moved."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused
from services.core.fields import find_text, read_epoch, read_text
from services.core.locks import lock_objects
from services.core.log_redaction import quote_value
from services.core.pg_arrays import array_parameters, encode_rows, text_array
from services.ledger.audit_text import format_money
from services.payments.audit_text import describe_fee
from services.payments.payload import find_reference, read_amount
from services.payments.stripe_lists import UnreadableObject, batched, parse_readable
from services.payments.tables import balance_entries
from services.providers.stripe_api import fetch_objects

BATCH_SIZE = 1000
MUTATIONS_PER_ENTRY = 200
"""Limit of one audit entry, which is read and hashed as a whole."""


class BalanceEntry(NamedTuple):
    """One balance transaction. Its currency is the balance's, which may differ from the charge's."""

    entry_id: str
    kind: str
    source_id: str
    amount_cents: int
    fee_cents: int
    net_cents: int
    currency: str
    created_at: datetime
    available_on: date
    payout_id: str


# An entry never changes, but its payout becomes known later, and only from a list by payout.
_COLUMNS = BalanceEntry._fields
_COMPARED = [name for name in _COLUMNS if name not in ("entry_id", "created_at", "payout_id")]
_PAYOUT = "coalesce(nullif(excluded.payout_id, ''), b.payout_id)"

_UPSERT = f"""
insert into balance_entries as b (shop_id, {", ".join(_COLUMNS)})
select %(shop_id)s, * from unnest({array_parameters(balance_entries, _COLUMNS)})
on conflict (shop_id, entry_id) do update set
   {", ".join(f"{name} = excluded.{name}" for name in (*_COMPARED, "created_at"))}, payout_id = {_PAYOUT}
 where ({", ".join(f"b.{name}" for name in _COMPARED)}, b.payout_id)
       is distinct from ({", ".join(f"excluded.{name}" for name in _COMPARED)}, {_PAYOUT})
returning entry_id, xmax = 0 as is_new
"""  # noqa: S608

# A dispute has several entries (withdrawn, reinstated), a charge one.
_SET_FEES = """
update transactions t set fee_cents = f.fee_cents
  from (select b.source_id, b.currency, sum(b.fee_cents)::bigint as fee_cents from balance_entries b
         where b.shop_id = %(shop_id)s and b.source_id = any(%(source_id)s::text[]) group by 1, 2) f
  join transactions o on o.shop_id = %(shop_id)s and o.provider_id = f.source_id and o.currency = f.currency
 where t.shop_id = %(shop_id)s and t.provider_id = f.source_id and t.fee_cents is distinct from f.fee_cents
returning t.kind, t.provider_id, o.fee_cents as fee_before, t.fee_cents, t.currency
"""


def parse_balance_entry(source: Mapping[str, Any], payout_id: str = "") -> BalanceEntry:
    """Return the balance transaction ``source``; raise ``Unreadable`` with the field.

    ``payout_id`` is the payout whose entries were listed, because the object does not contain it.
    Source: Stripe API reference, "The Balance Transaction object".
    """
    currency = read_text(source, "currency").upper()
    amount, fee, net = (
        read_amount(source, name, currency, is_signed=True) for name in ("amount", "fee", "net")
    )
    if source["net"] == source["amount"] - source["fee"]:
        net = amount - fee  # each may have been rounded
    return BalanceEntry(
        entry_id=read_text(source, "id"),
        kind=find_text(source, "type"),
        source_id=find_reference(source, "source") or "",
        amount_cents=amount,
        fee_cents=fee,
        net_cents=net,
        currency=currency,
        created_at=read_epoch(source, "created"),
        available_on=read_epoch(source, "available_on").date(),
        payout_id=payout_id,
    )


def record_balance_entries(tx: Connection, shop_id: int, entries: Sequence[BalanceEntry]) -> list[Mutation]:
    """The rows of ``entries`` and the fees of their transactions are up to date; return the changes.

    A fee in another currency than its payment's (a USD charge that settles in CAD) is stored in the entry
    only: the payment's ``fee_cents`` is in the payment's currency or null.
    """
    latest = {entry.entry_id: entry for entry in entries}
    if not latest:
        return []
    ordered = [latest[entry_id] for entry_id in sorted(latest)]
    sources = sorted({entry.source_id for entry in ordered if entry.source_id})
    # An event about the payment takes the same locks, so that the later transaction finds the other's fee.
    lock_objects(tx, [(shop_id, source_id) for source_id in sources])
    rows = tx.exec_driver_sql(
        _UPSERT, {"shop_id": shop_id, **encode_rows(balance_entries, _COLUMNS, ordered)}
    ).all()
    changed = [
        _describe_entry(latest[row.entry_id], row.is_new) for row in sorted(rows, key=attrgetter("entry_id"))
    ]
    values = {"shop_id": shop_id, "source_id": text_array(sources)}
    return changed + [
        describe_fee(row.kind, row.provider_id, row.fee_before, row.fee_cents, row.currency)
        for row in sorted(tx.exec_driver_sql(_SET_FEES, values), key=attrgetter("kind", "provider_id"))
    ]


def fetch_balance_entries(
    shop_id: int,
    key: str,
    base_url: str,
    begins: datetime | None = None,
    ends: datetime | None = None,
    *,
    payout_id: str = "",
    request_id: str = "",
    unreadable: list[UnreadableObject] | None = None,
) -> int:
    """Record every balance entry of [``begins``, ``ends``), or of the payout; return how many there are.

    Commits a thousand at a time, with no transaction open during a call. Safe to repeat and to interrupt.
    Adds entries that cannot be read to ``unreadable``; without it, raises ``Refused`` for them after all
    others are recorded. Raises a ``WorkError`` if Stripe does not answer.
    """
    filters = {"payout": payout_id} if payout_id else {}
    listed = fetch_objects(
        key, base_url, "balance_transactions", created_gte=begins, created_lt=ends, **filters
    )
    count = 0
    skipped: list[UnreadableObject] = [] if unreadable is None else unreadable
    parsed = parse_readable(listed, "balance", partial(parse_balance_entry, payout_id=payout_id), skipped)
    for entries in batched(parsed, BATCH_SIZE):
        with transaction() as tx:
            mutations = record_balance_entries(tx, shop_id, entries)
            audited = [
                AuditEntry(shop_id, "stripe pull", "balance_entries", request_id, part)
                for part in batched(mutations, MUTATIONS_PER_ENTRY)
            ]
            append_all(tx, audited, utc_now())
        count += len(entries)
    if skipped and unreadable is None:
        more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        why = f"balance transaction {quote_value(skipped[0].provider_id)}: {skipped[0].why}{more}"
        raise Refused("stripe.unreadable_entry", why)
    return count


def _describe_entry(entry: BalanceEntry, is_new: bool) -> Mutation:
    """Return ``balance entry txn_1 recorded: charge of ch_1, 45.00 CAD, fee 1.61 CAD, in payout po_1``."""
    after = {"amount_cents": entry.amount_cents, "fee_cents": entry.fee_cents, "currency": entry.currency}
    kind = f"{entry.kind} of {entry.source_id}" if entry.source_id else entry.kind
    summary = (
        f"balance entry {entry.entry_id}{' recorded' if is_new else ''}: {kind}, "
        f"{format_money(entry.amount_cents, entry.currency)}, "
        f"fee {format_money(entry.fee_cents, entry.currency)}"
    )
    if entry.payout_id:
        after["payout_id"] = entry.payout_id
        summary += f", in payout {entry.payout_id}"
    return Mutation("balance_entries", entry.entry_id, summary, None, after)
