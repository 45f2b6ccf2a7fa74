"""Bodies of Stripe events, made up: charges, refunds, payment intents. Pure.

Amounts are integer minor units; currencies are lower case, as Stripe writes them.
"""

import random
from datetime import datetime
from typing import Any

from services.sandbox.payloads import token

API_VERSION = "2026-10-28.endive"


def make_charge(
    rng: random.Random,
    *,
    amount_cents: int,
    currency: str,
    created_at: datetime,
    status: str = "succeeded",
    order_gid: str = "",
) -> dict[str, Any]:
    """Return a charge object; ``order_gid`` goes into its metadata."""
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
        "metadata": {"order": order_gid} if order_gid else {},
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
