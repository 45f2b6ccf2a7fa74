"""What the audit says of transactions: ids, figures and statuses, no customer's text. Pure."""

from datetime import date, datetime
from typing import Any, NamedTuple

from services.audit.chain import Mutation
from services.ledger.describe import format_money, format_money_change
from services.payments.payload import Transaction


class StoredTransaction(NamedTuple):
    """A transaction as its row had it."""

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


_COMPARED = tuple(name for name in StoredTransaction._fields if name != "content_digest")


def describe_transaction(new: Transaction, known: StoredTransaction | None) -> Mutation:
    """Return what recording ``new`` changed: ``charge ch_1: pending -> paid, 45.00 CAD``."""
    label = _label(new.kind, new.provider_id)
    if known is None:
        return _say_first(label, new)
    amount = format_money(new.amount_cents, new.currency)
    changed = [name for name in _COMPARED if getattr(known, name) != getattr(new, name)]
    said = [f"{known.status} -> {new.status}"] if known.status != new.status else []
    if known.currency != new.currency:
        said.append(f"{format_money(known.amount_cents, known.currency)} -> {amount}")
    elif known.amount_cents != new.amount_cents:
        said.append(format_money_change(known.amount_cents, new.amount_cents, new.currency))
    elif said:
        said.append(amount)
    if known.refunded_cents != new.refunded_cents:
        said.append(f"refunded {format_money_change(known.refunded_cents, new.refunded_cents, new.currency)}")
    if known.parent_id != new.parent_id:
        said.append(f"of {new.parent_id}" if new.parent_id else "of nothing any more")
    if known.fee_cents != new.fee_cents and new.fee_cents is not None:
        said.append(f"fee {format_money(new.fee_cents, new.currency)}")
    if known.order_ref != new.order_ref:
        said.append(f"for order {new.order_ref}" if new.order_ref else "for no order any more")
    if known.reason != new.reason and new.reason:
        said.append(new.reason)
    if known.arrives_on != new.arrives_on and new.arrives_on is not None:
        said.append(f"arrives {new.arrives_on.isoformat()}")
    return Mutation(
        "transactions",
        new.provider_id,
        f"{label}: {', '.join(said) or 'told anew, only its time changed'}",
        {name: getattr(known, name) for name in changed},
        {name: getattr(new, name) for name in changed},
    )


def describe_fee(kind: str, provider_id: str, before: int | None, after: int, currency: str) -> Mutation:
    """Return what Stripe took for a transaction: ``charge ch_1: fee 1.61 CAD``."""
    amounts = (
        format_money(after, currency) if before is None else format_money_change(before, after, currency)
    )
    return Mutation(
        "transactions",
        provider_id,
        f"{_label(kind, provider_id)}: fee {amounts}",
        {"fee_cents": before},
        {"fee_cents": after},
    )


def _say_first(label: str, new: Transaction) -> Mutation:
    after: dict[str, Any] = {
        "amount_cents": new.amount_cents, "currency": new.currency, "status": new.status
    }  # fmt: skip
    summary = f"{label} recorded: {new.status}, {format_money(new.amount_cents, new.currency)}"
    if new.refunded_cents:
        after["refunded_cents"] = new.refunded_cents
        summary += f", {format_money(new.refunded_cents, new.currency)} refunded"
    if new.fee_cents is not None:
        after["fee_cents"] = new.fee_cents
        summary += f", fee {format_money(new.fee_cents, new.currency)}"
    if new.order_ref:
        after["order_ref"] = new.order_ref
        summary += f", for order {new.order_ref}"
    if new.reason:
        after["reason"] = new.reason
        summary += f", {new.reason}"
    if new.arrives_on is not None:
        after["arrives_on"] = new.arrives_on
        summary += f", arrives {new.arrives_on.isoformat()}"
    return Mutation("transactions", new.provider_id, summary, None, after)


def _label(kind: str, provider_id: str) -> str:
    return f"{kind.replace('_', ' ')} {provider_id}"
