"""Rows of one shop's day, on both sides, for the tests of reconciliation."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.payments.comparison import Comparison
from services.payments.match import match_day
from services.payments.match_rules import stage_fees
from services.payments.stripe_lists import StripeRow, render_rows

BEGINS = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 8, 5, tzinfo=UTC)
DAY = Comparison(1, date(2026, 11, 20), BEGINS, BEGINS + timedelta(days=1), "t", NOW)
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
    """A row whose kind follows from its id, in the state in which it moved money."""
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


def add_ours(tx: Connection, rows: Iterable[StripeRow], shop_id: int = 1) -> None:
    """``rows`` are in our books."""
    values = [
        {"shop_id": shop_id, **each._asdict(), "occurred_at": datetime.fromtimestamp(each.created, UTC)}
        for each in rows
    ]
    if values:
        tx.execute(_INSERT, values)


def matched(
    tx: Connection, theirs: Iterable[StripeRow], name: str = "t"
) -> tuple[list[tuple[Any, ...]], list[tuple[str, str, str]]]:
    """Compare ``theirs`` with our day: the sums, and (kind, subject, id) of each break."""
    comparison = DAY._replace(token=name)
    sums = [tuple(each) for each in match_day(tx, comparison, render_rows(theirs))]
    stage_fees(tx, comparison)
    found = tx.exec_driver_sql(
        "select kind, subject, provider_id from reconciliation_staging where token = %(token)s order by 3, 1",
        {"token": name},
    )
    return sums, [(kind, subject, of) for kind, subject, of in found]


def found_breaks(tx: Connection, theirs: Iterable[StripeRow]) -> list[tuple[str, str]]:
    """Compare ``theirs`` with our day: (kind, id) of each break."""
    return [(kind, of) for kind, _, of in matched(tx, theirs)[1]]


def execute(engine: Engine, statement: str, **values: Any) -> None:
    with transaction(engine) as tx:
        tx.execute(text(statement), values)
