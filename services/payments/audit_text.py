"""Audit summaries of transactions: ids, figures and statuses, no text of a customer. Pure."""

from services.audit.chain import Mutation
from services.ledger.audit_text import format_money, format_money_change
from services.payments.payload import Transaction

_NOT_COMPARED = ("shop_id", "provider_id", "event_id", "content_digest", "work_id")
_COMPARED = tuple(name for name in Transaction._fields if name not in _NOT_COMPARED)


def describe_transaction(new: Transaction, stored: Transaction | None) -> Mutation:
    """Return what recording ``new`` changed: ``charge ch_1: pending -> paid, 45.00 CAD``."""
    label = _label(new.kind, new.provider_id)
    amount = format_money(new.amount_cents, new.currency)
    details = _describe_details(new)
    if stored is None:
        shown = {name: text for name, text in details.items() if text}
        parts = [f"{label} recorded: {new.status}", amount, *shown.values()]
        after = {name: getattr(new, name) for name in ("amount_cents", "currency", "status", *shown)}
        return Mutation("transactions", new.provider_id, ", ".join(parts), None, after)
    changed = [name for name in _COMPARED if getattr(stored, name) != getattr(new, name)]
    parts = [f"{stored.status} -> {new.status}"] if "status" in changed else []
    if "currency" in changed:
        parts.append(f"{format_money(stored.amount_cents, stored.currency)} -> {amount}")
    elif "amount_cents" in changed:
        parts.append(format_money_change(stored.amount_cents, new.amount_cents, new.currency))
    elif parts:
        parts.append(amount)
    details["refunded_cents"] = (
        f"refunded {format_money_change(stored.refunded_cents, new.refunded_cents, new.currency)}"
    )
    details["parent_id"] = f"of {new.parent_id}" if new.parent_id else "without a parent"
    details["order_ref"] = details["order_ref"] or "for no order"
    parts += [text for name, text in details.items() if text and name in changed]
    return Mutation(
        "transactions",
        new.provider_id,
        f"{label}: {', '.join(parts) or 'received again, only version_at changed'}",
        {name: getattr(stored, name) for name in changed},
        {name: getattr(new, name) for name in changed},
    )


def describe_fee(kind: str, provider_id: str, before: int | None, after: int, currency: str) -> Mutation:
    """Return the change of a transaction's fee: ``charge ch_1: fee 1.61 CAD``."""
    fee = format_money(after, currency) if before is None else format_money_change(before, after, currency)
    return Mutation(
        "transactions",
        provider_id,
        f"{_label(kind, provider_id)}: fee {fee}",
        {"fee_cents": before},
        {"fee_cents": after},
    )


def _describe_details(new: Transaction) -> dict[str, str]:
    """Return a phrase for each optional column, empty where ``new`` has no value."""
    refunded, fee = new.refunded_cents, new.fee_cents
    return {
        "refunded_cents": f"{format_money(refunded, new.currency)} refunded" if refunded else "",
        "parent_id": "",
        "fee_cents": "" if fee is None else f"fee {format_money(fee, new.currency)}",
        "order_ref": f"for order {new.order_ref}" if new.order_ref else "",
        "reason": new.reason,
        "arrives_on": f"arrives {new.arrives_on.isoformat()}" if new.arrives_on else "",
    }


def _label(kind: str, provider_id: str) -> str:
    return f"{kind.replace('_', ' ')} {provider_id}"
