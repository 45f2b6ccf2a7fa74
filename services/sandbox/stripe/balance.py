"""Balance transactions of charges, refunds, disputes and payouts. Pure.

Kinds and signs: https://docs.stripe.com/reports/balance-transaction-types. Amounts are minor units.
"""

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

DISPUTE_FEE = 1500
_BACK = {"failed": "payout_failure", "canceled": "payout_cancel"}
_KEPT = ("won", "warning_closed")
_OPEN_INQUIRY = ("warning_needs_response", "warning_under_review", "warning_closed")


def usual_fee(amount: int) -> int:
    """Return Stripe's usual fee for a charge: 2.9% and 30."""
    return (amount * 29 + 500) // 1000 + 30


def entries_of(one: Object, fee: int | None = None) -> list[Object]:
    """Return the balance transactions of ``one`` in its current state; ``fee`` replaces the usual one.

    A dispute debits its amount and a fee, and credits both if it is won. An inquiry debits nothing.
    """
    entries: list[Object] = []
    status = one.get("status", "succeeded")
    match one["object"]:
        case "charge":
            amount = one.get("amount_captured", one["amount"])
            if one.get("status") == "succeeded" and one.get("captured", True) and amount:
                entries.append(_entry(one, "charge", amount, usual_fee(amount) if fee is None else fee))
        case "refund":
            if status in ("succeeded", "pending", "requires_action"):
                entries.append(_entry(one, "refund", -one["amount"], fee or 0))
        case "payout":
            entries.append(_entry(one, "payout", -one["amount"], fee or 0))
            if status in _BACK:
                entries.append(_entry(one, _BACK[status], one["amount"], 0, suffix="_back"))
        case "dispute" if status not in _OPEN_INQUIRY:
            fee = DISPUTE_FEE if fee is None else fee
            entries.append(_entry(one, "adjustment", -one["amount"], fee, category="dispute"))
            if status in _KEPT:
                back = {"suffix": "_back", "category": "dispute_reversal"}
                entries.append(_entry(one, "adjustment", one["amount"], -fee, **back))
    return entries


def in_payout(payout: Object, payouts: Iterable[Object], entries: Iterable[Object]) -> list[Object]:
    """Return the entries of an automatic payout: all of its currency since the previous one, and its own."""
    earlier = [
        one["created"]
        for one in payouts
        if one["currency"] == payout["currency"]
        and one.get("automatic", True)
        and (one["created"], one["id"]) < (payout["created"], payout["id"])
    ]
    since = max(earlier, default=-1)
    return [
        entry
        for entry in entries
        if entry["source"] == payout["id"]
        or (
            entry["currency"] == payout["currency"]
            and since <= entry["created"] < payout["created"]
            and not entry["type"].startswith("payout")
        )
    ]


def _entry(one: Object, kind: str, amount: int, fee: int, *, suffix: str = "", category: str = "") -> Object:
    given = one.get("balance_transaction")
    entry_id = given if isinstance(given, str) and not suffix else f"txn_{one['id']}{suffix}"
    details = {"amount": fee, "application": None, "currency": one["currency"], "type": "stripe_fee",
               "description": "Stripe processing fees"}  # fmt: skip
    return {
        "id": entry_id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": one["created"],
        "balance_type": "payments",
        "created": one["created"],
        "currency": one["currency"],
        "description": None,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [details] if fee else [],
        "net": amount - fee,
        "reporting_category": category or kind,
        "source": one["id"],
        "status": "available",
        "type": kind,
    }
