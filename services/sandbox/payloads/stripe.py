"""Bodies of Stripe events, made up: charges, refunds, payment intents, disputes, payouts. Pure.

Amounts are integer minor units; currencies are lower case, as Stripe writes them.
"""

import random
from datetime import datetime
from typing import Any

from services.sandbox.payloads.common import token, utc_text

API_VERSION = "2026-10-28.endive"


def make_charge(
    rng: random.Random,
    *,
    amount_cents: int,
    currency: str,
    created_at: datetime,
    status: str = "succeeded",
    order_gid: str = "",
    order_id: int | None = None,
) -> dict[str, Any]:
    """Return a charge object; ``order_gid`` and ``order_id`` go into its metadata."""
    charge_id = token(rng, "ch_3")
    paid = status == "succeeded"
    return {
        "id": charge_id,
        "object": "charge",
        "amount": amount_cents,
        "amount_captured": amount_cents if paid else 0,
        "amount_refunded": 0,
        "balance_transaction": token(rng, "txn_3") if paid else None,
        "billing_details": {"email": "customer@example.com", "name": None, "phone": None},
        "captured": paid,
        "created": int(created_at.timestamp()),
        "currency": currency.lower(),
        "customer": None,
        "description": None,
        "disputed": False,
        "failure_code": None if paid else "card_declined",
        "failure_message": None if paid else "Your card was declined.",
        "livemode": False,
        "metadata": ({"order": order_gid} if order_gid else {})
        | ({} if order_id is None else {"order_id": str(order_id)}),
        "paid": paid,
        "payment_intent": token(rng, "pi_3"),
        "payment_method": token(rng, "pm_1"),
        "payment_method_details": {
            "type": "card",
            "card": {"brand": "visa", "country": "US", "exp_month": 9, "exp_year": 2030, "last4": "4242"},
        },
        "receipt_email": None,
        "refunded": False,
        "status": status,
    }


def make_refunded_charge(charge: dict[str, Any], amount_cents: int) -> dict[str, Any]:
    """Return ``charge`` with ``amount_cents`` more refunded."""
    refunded_cents = charge["amount_refunded"] + amount_cents
    return charge | {"amount_refunded": refunded_cents, "refunded": refunded_cents >= charge["amount"]}


def make_refund(
    rng: random.Random, charge: dict[str, Any], *, amount_cents: int, created_at: datetime
) -> dict[str, Any]:
    """Return the refund object of a part of ``charge``."""
    return {
        "id": token(rng, "re_3"),
        "object": "refund",
        "amount": amount_cents,
        "balance_transaction": token(rng, "txn_3"),
        "charge": charge["id"],
        "created": int(created_at.timestamp()),
        "currency": charge["currency"],
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "requested_by_customer",
        "receipt_number": None,
        "status": "succeeded",
    }


def make_payment_intent(charge: dict[str, Any]) -> dict[str, Any]:
    """Return the payment intent that ``charge`` belongs to."""
    paid = charge["status"] == "succeeded"
    return {
        "id": charge["payment_intent"],
        "object": "payment_intent",
        "amount": charge["amount"],
        "amount_capturable": 0,
        "amount_received": charge["amount"] if paid else 0,
        "capture_method": "automatic",
        "created": charge["created"] - 1,
        "currency": charge["currency"],
        "customer": None,
        "latest_charge": charge["id"],
        "livemode": False,
        "metadata": charge["metadata"],
        "payment_method_types": ["card"],
        "status": "succeeded" if paid else "requires_payment_method",
    }


def make_dispute(
    rng: random.Random,
    charge: dict[str, Any],
    *,
    created_at: datetime,
    status: str = "needs_response",
    amount_cents: int | None = None,
    reason: str = "fraudulent",
) -> dict[str, Any]:
    """Return a dispute of ``charge``, about all of it unless ``amount_cents`` is given."""
    at = int(created_at.timestamp())
    return {
        "id": token(rng, "dp_1"),
        "object": "dispute",
        "amount": charge["amount"] if amount_cents is None else amount_cents,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": at,
        "currency": charge["currency"],
        "evidence_details": {
            "due_by": at + 7 * 86_400,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "status": status,
    }


def make_payout(
    rng: random.Random,
    *,
    amount_cents: int,
    currency: str,
    created_at: datetime,
    arrives_at: datetime,
    status: str = "paid",
) -> dict[str, Any]:
    """Return an automatic payout; a negative one takes money back from the bank."""
    has_failed = status == "failed"
    return {
        "id": token(rng, "po_1"),
        "object": "payout",
        "amount": amount_cents,
        "arrival_date": int(arrives_at.timestamp()),
        "automatic": True,
        "balance_transaction": token(rng, "txn_1"),
        "created": int(created_at.timestamp()),
        "currency": currency.lower(),
        "description": "STRIPE PAYOUT",
        "destination": token(rng, "ba_1"),
        "failure_balance_transaction": token(rng, "txn_1") if has_failed else None,
        "failure_code": "account_closed" if has_failed else None,
        "failure_message": "The bank account has been closed." if has_failed else None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "reconciliation_status": "completed" if status == "paid" else "in_progress",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": status,
        "type": "bank_account",
    }


def make_thin_event(
    rng: random.Random, event_type: str, subject: dict[str, Any], *, created_at: datetime
) -> dict[str, Any]:
    """Return an event of the second version of the API, which only points to ``subject``."""
    kind = subject["object"]
    is_second = kind.startswith("v2.")
    path = kind.removeprefix("v2.").replace(".", "/") if is_second else kind
    return {
        "id": token(rng, "evt_test_6"),
        "object": "v2.core.event",
        "type": event_type,
        "livemode": False,
        "created": utc_text(created_at),
        "context": None,
        "related_object": {
            "id": subject["id"],
            "type": kind,
            "url": f"/{'v2' if is_second else 'v1'}/{path}s/{subject['id']}",
        },
        "reason": None,
    }


def make_event(
    rng: random.Random, event_type: str, subject: dict[str, Any], *, created_at: datetime
) -> dict[str, Any]:
    """Return a snapshot event of ``event_type`` (``charge.succeeded``...) about ``subject``."""
    return {
        "id": token(rng, "evt_3"),
        "object": "event",
        "api_version": API_VERSION,
        "created": int(created_at.timestamp()),
        "data": {"object": subject},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": token(rng, "req_", 14), "idempotency_key": None},
        "type": event_type,
    }
