"""What the audit says of transactions: ids, figures and statuses, no customer's text. Pure."""

from datetime import datetime
from typing import Any, NamedTuple

from services.audit.chain import Mutation
from services.books.stripe_body import Transaction
from services.ledger.said import say_amounts, say_money


class KnownTransaction(NamedTuple):
    """A transaction as its row had it."""

    version_at: datetime
    kind: str
    status: str
    refunded_cents: int
    amount_cents: int
    currency: str
    parent_id: str | None
    occurred_at: datetime


_COMPARED = KnownTransaction._fields


def say_transaction(new: Transaction, known: KnownTransaction | None) -> Mutation:
    """Return what recording ``new`` changed: ``charge ch_1: pending -> paid, 45.00 CAD``."""
    label = f"{new.kind.replace('_', ' ')} {new.provider_id}"
    amount = say_money(new.amount_cents, new.currency)
    if known is None:
        after: dict[str, Any] = {
            "amount_cents": new.amount_cents, "currency": new.currency, "status": new.status
        }  # fmt: skip
        refunded = ""
        if new.refunded_cents:
            after["refunded_cents"] = new.refunded_cents
            refunded = f", {say_money(new.refunded_cents, new.currency)} refunded"
        summary = f"{label} recorded: {new.status}, {amount}{refunded}"
        return Mutation("transactions", new.provider_id, summary, None, after)
    changed = [name for name in _COMPARED if getattr(known, name) != getattr(new, name)]
    said = [f"{known.status} -> {new.status}"] if known.status != new.status else []
    if known.currency != new.currency:
        said.append(f"{say_money(known.amount_cents, known.currency)} -> {amount}")
    elif known.amount_cents != new.amount_cents:
        said.append(say_amounts(known.amount_cents, new.amount_cents, new.currency))
    elif said:
        said.append(amount)
    if known.refunded_cents != new.refunded_cents:
        said.append(f"refunded {say_amounts(known.refunded_cents, new.refunded_cents, new.currency)}")
    if known.parent_id != new.parent_id:
        said.append(f"of {new.parent_id}" if new.parent_id else "of nothing any more")
    return Mutation(
        "transactions",
        new.provider_id,
        f"{label}: {', '.join(said) or 'told anew, only its time changed'}",
        {name: getattr(known, name) for name in changed},
        {name: getattr(new, name) for name in changed},
    )
