"""The usual way: the ORM loads the day's transactions, a dictionary compares them with Stripe's rows.

It does what the product does in the same step: finds breaks of each kind, keeps them with both sides, and
sums both books.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.reconcile_rows import DAY, NOW, Break, read_their_rows, report
from services.core.db import make_engine
from services.payments.stripe_lists import StripeRow
from services.payments.tables import reconciliation_breaks, transactions

Side = dict[str, Any] | None


class Base(DeclarativeBase):
    """The models' base."""


class Transaction(Base):
    """A payment: the whole row, as an ORM loads it."""

    __table__ = transactions

    if TYPE_CHECKING:
        provider_id: str
        kind: str
        status: str
        amount_cents: int
        currency: str
        fee_cents: int | None


class Found(Base):
    """A break, with both sides."""

    __table__ = reconciliation_breaks

    if TYPE_CHECKING:
        provider_id: str


def compare(session: Session, path: Path) -> set[Break]:
    """Store the breaks between the day's transactions and Stripe's rows, and sum both; return the breaks."""
    wanted = select(Transaction).where(
        transactions.c.shop_id == DAY.shop_id,
        transactions.c.kind.in_(("charge", "refund", "dispute", "payout")),
        transactions.c.occurred_at >= DAY.begins,
        transactions.c.occurred_at < DAY.ends,
    )
    ours = {one.provider_id: one for one in session.scalars(wanted)}
    sums: Counter[tuple[str, str, str]] = Counter()
    for one in ours.values():
        sums["ours", one.kind, one.currency] += one.amount_cents if one.status == "paid" else 0
    breaks: dict[Break, tuple[Transaction | None, StripeRow | None]] = {}
    paid: dict[tuple[str, int, str], str] = {}
    for row in read_their_rows(path):
        sums["theirs", row.kind, row.currency] += row.amount_cents if row.status == "paid" else 0
        ours_of_it = ours.pop(row.provider_id, None)
        sides = (ours_of_it, row)
        if ours_of_it is None:
            if row.status == "paid":
                breaks["missing_here", row.provider_id] = sides
        else:
            if ours_of_it.amount_cents != row.amount_cents:
                breaks["amount", row.provider_id] = sides
            if ours_of_it.currency != row.currency:
                breaks["currency", row.provider_id] = sides
            if ours_of_it.status != row.status:
                breaks["status", row.provider_id] = sides
            if None not in (ours_of_it.fee_cents, row.fee_cents) and ours_of_it.fee_cents != row.fee_cents:
                breaks["fee", row.provider_id] = sides
        ref = row.order_ref or row.parent_id
        if ref and row.status == "paid" and not row.refunded_cents:
            twin = paid.setdefault((ref, row.amount_cents, row.currency), row.provider_id)
            if twin != row.provider_id:
                breaks["duplicate", row.provider_id] = sides
    for one in ours.values():
        if one.status == "paid":
            breaks["missing_there", one.provider_id] = (one, None)
    session.add_all(
        Found(
            shop_id=DAY.shop_id,
            day=DAY.day,
            kind=kind,
            provider_id=of,
            ours=side(a),
            theirs=side(b),
            found_at=NOW,
        )
        for (kind, of), (a, b) in breaks.items()
    )
    session.commit()
    return set(breaks)


def side(one: Transaction | StripeRow | None) -> Side:
    """Return the stored fields of one side."""
    if one is None:
        return None
    return {"amount_cents": one.amount_cents, "currency": one.currency, "status": one.status}


def main() -> None:
    """Reconcile the database at ``argv[1]`` with the ``argv[3]`` rows of file ``argv[2]``."""
    url, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with Session(make_engine(url, application="bench")) as session:
        report(lambda: compare(session, path), path, rows)


if __name__ == "__main__":
    main()
