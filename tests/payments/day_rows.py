"""Recorded rows and Stripe rows of one day, for the reconciliation tests."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.payments.comparison import DayComparison
from services.payments.match import stage_breaks
from services.payments.match_rules import stage_fees
from services.payments.stripe_lists import StripeRow, render_rows

BEGINS = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 8, 5, tzinfo=UTC)
DAY = DayComparison(1, date(2026, 11, 20), BEGINS, BEGINS + timedelta(days=1), "t", NOW)
NOON = BEGINS + timedelta(hours=12)


def row(
    provider_id: str,
    amount: int = 1000,
    status: str = "",
    *,
    kind: str = "",
    currency: str = "CAD",
    at: datetime = NOON,
    **more: Any,
) -> StripeRow:
    """Return a row in a state that moved money; its kind follows from its id."""
    kinds = {"ch": "charge", "re": "refund", "du": "dispute", "po": "payout", "pi": "payment_intent"}
    states = {"charge": "paid", "refund": "succeeded", "dispute": "needs_response", "payout": "paid"}
    kind = kind or kinds[provider_id[:2]]
    return StripeRow(
        kind,
        provider_id,
        amount,
        currency,
        status or states.get(kind, "succeeded"),
        int(at.timestamp()),
        **more,
    )


_INSERT = text(
    "insert into transactions (shop_id, provider_id, kind, status, amount_cents, refunded_cents, currency, "
    "occurred_at, parent_id, version_at, order_ref, fee_cents) values (:shop_id, :provider_id, :kind, "
    ":status, :amount_cents, :refunded_cents, :currency, :occurred_at, :parent_id, :occurred_at, :order_ref, "
    ":fee_cents)"
)


def add_recorded(tx: Connection, rows: Iterable[StripeRow], shop_id: int = 1) -> None:
    """Insert ``rows`` as recorded transactions."""
    values = [
        {"shop_id": shop_id, **each._asdict(), "occurred_at": datetime.fromtimestamp(each.created, UTC)}
        for each in rows
    ]
    if values:
        tx.execute(_INSERT, values)


def match_rows(
    tx: Connection, stripe_rows: Iterable[StripeRow], name: str = "t"
) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
    """Compare ``stripe_rows`` with the recorded day; return sums, and (kind, subject, id) of each break."""
    comparison = DAY._replace(token=name)
    sums = [tuple(each) for each in stage_breaks(tx, comparison, render_rows(stripe_rows))]
    stage_fees(tx, comparison)
    found = tx.exec_driver_sql(
        "select kind, subject, provider_id from reconciliation_staging where token = %(token)s order by 3, 1",
        {"token": name},
    )
    return sums, [(kind, subject, of) for kind, subject, of in found]


def found_breaks(tx: Connection, stripe_rows: Iterable[StripeRow]) -> list[tuple[str, str]]:
    """Return (kind, id) of each break between ``stripe_rows`` and the recorded day."""
    return [(kind, of) for kind, _, of in match_rows(tx, stripe_rows)[1]]


def execute(engine: Engine, statement: str, **values: Any) -> None:
    with transaction(engine) as tx:
        tx.execute(text(statement), values)
