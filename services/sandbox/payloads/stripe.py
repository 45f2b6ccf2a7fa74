"""Stripe objects and events: charges, refunds, payment intents, disputes, payouts. Pure.

Amounts are integer minor units.
"""

import random
from datetime import datetime

from services.sandbox.payloads.templates import Body, make, token


def make_charge(
    rng: random.Random,
    *,
    amount_cents: int,
    currency: str,
    created_at: datetime,
    status: str = "succeeded",
    order_gid: str = "",
    order_id: int | None = None,
) -> Body:
    """Return a charge; ``order_gid`` and ``order_id`` go into its metadata."""
    is_paid = status == "succeeded"
    order_ref = {"order": order_gid or None, "order_id": None if order_id is None else str(order_id)}
    return make(
        "stripe", "charge", rng, at=created_at, amount=amount_cents, currency=currency, status=status,
        is_paid=is_paid, captured=amount_cents if is_paid else 0,
        balance_transaction=token(rng, "txn_3") if is_paid else None,
        failure_code=None if is_paid else "card_declined",
        failure_message=None if is_paid else "Your card was declined.",
        metadata={name: value for name, value in order_ref.items() if value is not None},
    )  # fmt: skip


def make_refunded_charge(charge: Body, amount_cents: int) -> Body:
    refunded_cents = charge["amount_refunded"] + amount_cents
    return charge | {"amount_refunded": refunded_cents, "refunded": refunded_cents >= charge["amount"]}


def make_refund(rng: random.Random, charge: Body, *, amount_cents: int, created_at: datetime) -> Body:
    return make("stripe", "refund", rng, at=created_at, amount=amount_cents, charge=charge)


def make_payment_intent(charge: Body) -> Body:
    status = "succeeded" if charge["status"] == "succeeded" else "requires_payment_method"
    rng = random.Random(0)  # noqa: S311 - the template uses no random value
    return make("stripe", "payment_intent", rng, charge=charge, created=charge["created"] - 1, status=status)


def make_dispute(
    rng: random.Random,
    charge: Body,
    *,
    created_at: datetime,
    status: str = "needs_response",
    amount_cents: int | None = None,
) -> Body:
    """Return a dispute of ``charge``, of its whole amount unless ``amount_cents`` is given."""
    amount = charge["amount"] if amount_cents is None else amount_cents
    return make("stripe", "dispute", rng, at=created_at, charge=charge, amount=amount, status=status)


def make_payout(
    rng: random.Random,
    *,
    amount_cents: int,
    currency: str,
    created_at: datetime,
    arrives_at: datetime,
    status: str = "paid",
) -> Body:
    """Return an automatic payout; a negative one is a debit of the bank account."""
    has_failed = status == "failed"
    return make(
        "stripe", "payout", rng, at=created_at, arrives_at=arrives_at, amount=amount_cents, currency=currency,
        status=status, reconciliation_status="completed" if status == "paid" else "in_progress",
        failure_balance_transaction=token(rng, "txn_1") if has_failed else None,
        failure_code="account_closed" if has_failed else None,
        failure_message="The bank account has been closed." if has_failed else None,
    )  # fmt: skip


def make_event(rng: random.Random, event_type: str, subject: Body, *, created_at: datetime) -> Body:
    """Return a snapshot event of ``event_type`` (``charge.succeeded``...) about ``subject``."""
    return make("stripe", "event", rng, at=created_at, type=event_type, subject=subject)


def make_thin_event(rng: random.Random, event_type: str, subject: Body, *, created_at: datetime) -> Body:
    """Return an event of API v2, which contains only a reference to ``subject``."""
    kind = subject["object"]
    version, path = ("v2", kind[3:].replace(".", "/")) if kind.startswith("v2.") else ("v1", kind)
    url = f"/{version}/{path}s/{subject['id']}"
    return make("stripe", "thin_event", rng, at=created_at, type=event_type, subject=subject, url=url)
