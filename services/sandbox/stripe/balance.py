"""Balance transactions: what charges, refunds, disputes and payouts did to the money at Stripe. Pure.

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
    """Return the balance transactions that ``one`` has caused so far; ``fee`` instead of the usual one."""
    ways = {"charge": _of_charge, "refund": _of_refund, "dispute": _of_dispute, "payout": _of_payout}
    way = ways.get(one["object"])
    return way(one, fee) if way else []


def _of_charge(one: Object, fee: int | None) -> list[Object]:
    amount = one.get("amount_captured", one["amount"])
    if one.get("status") != "succeeded" or not one.get("captured", True) or not amount:
        return []
    return [_entry(one, "charge", amount, usual_fee(amount) if fee is None else fee)]


def _of_refund(one: Object, fee: int | None) -> list[Object]:
    is_out = one.get("status", "succeeded") in ("succeeded", "pending", "requires_action")
    return [_entry(one, "refund", -one["amount"], fee or 0)] if is_out else []


def _of_payout(one: Object, fee: int | None) -> list[Object]:
    made = [_entry(one, "payout", -one["amount"], fee or 0)]
    if one.get("status") in _BACK:
        made.append(_entry(one, _BACK[one["status"]], one["amount"], 0, suffix="_back"))
    return made


def in_payout(payout: Object, payouts: Iterable[Object], entries: Iterable[Object]) -> list[Object]:
    """Return the balance transactions that an automatic payout pays out, and its own.

    All of its currency that were there before it, and in no earlier payout.
    """
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


def _of_dispute(one: Object, fee: int | None) -> list[Object]:
    """A dispute takes the money and a fee; one that is won gives both back. An inquiry takes nothing."""
    if one.get("status") in _OPEN_INQUIRY:
        return []
    fee = DISPUTE_FEE if fee is None else fee
    made = [_entry(one, "adjustment", -one["amount"], fee, category="dispute")]
    if one.get("status") in _KEPT:
        made.append(
            _entry(one, "adjustment", one["amount"], -fee, suffix="_back", category="dispute_reversal")
        )
    return made


def _entry(one: Object, kind: str, amount: int, fee: int, *, suffix: str = "", category: str = "") -> Object:
    named = one.get("balance_transaction")
    own = named if isinstance(named, str) and not suffix else f"txn_{one['id']}{suffix}"
    details = {"amount": fee, "application": None, "currency": one["currency"], "type": "stripe_fee",
               "description": "Stripe processing fees"}  # fmt: skip
    return {
        "id": own,
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
