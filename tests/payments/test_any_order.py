"""Payment histories, shuffled, repeated and split into batches, end in the same rows.

Statuses are random, also those that Stripe would never send, and many events share one second: the order of
states must be total.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from services.core.db import transaction
from services.ledger.work import Done, WorkItem
from services.payments.balance import parse_balance_entry, record_balance_entries
from services.payments.handler import ingest_transactions
from services.payments.payload import _STATUSES
from tests.lock_order import UNWATCHED
from tests.payments.test_transactions import NOW, T0

# Without ``event_id``: of two equal events of one second either may be stored.
ROWS = """
select provider_id, kind, status, amount_cents, refunded_cents, currency, occurred_at, parent_id, version_at,
       fee_cents, order_ref, reason, arrives_on, content_digest from transactions order by provider_id
"""

STATUSES = {
    kind: (*statuses, "succeeded", "pending", "requires_payment_method", "warning_needs_response", "odd")
    for kind, statuses in _STATUSES.items()
}


class PaymentEvent(NamedTuple):
    """One event of a history."""

    number: int
    created: int
    source: dict[str, Any]

    @property
    def item(self) -> WorkItem:
        body = {"id": f"evt_{self.number}", "created": self.created, "data": {"object": self.source}}
        return WorkItem(
            self.number,
            1,
            "transaction_ingest",
            "",
            {},
            0,
            "",
            self.number,
            "x",
            "stripe",
            orjson.dumps(body),
        )


@st.composite
def payment_events(draw: st.DrawFn, number: int) -> PaymentEvent:
    """Draw an event about one of few objects, in one of few seconds."""
    kind = draw(st.sampled_from(sorted(STATUSES)))
    which = draw(st.integers(1, 2))
    amount = draw(st.sampled_from([0, 1, 4500, 2**53 + 1]))
    source: dict[str, Any] = {
        "id": f"{kind}_{which}",
        "object": kind,
        "amount": -amount if kind == "payout" and draw(st.booleans()) else amount,
        "currency": draw(st.sampled_from(["cad", "jpy", "kwd"])),
        "status": draw(st.sampled_from(STATUSES[kind])),
        "created": T0 + draw(st.integers(0, 1)),
        "metadata": draw(st.sampled_from([{}, {"order_id": "450789469"}, {"order": "#1001"}])),
    }
    if kind == "payout":
        source["arrival_date"] = T0 + 86_400 * draw(st.integers(1, 2))
    if kind in ("dispute", "refund"):
        source["reason"] = draw(st.sampled_from([None, "fraudulent", "duplicate"]))
        source["charge"] = draw(st.sampled_from([None, "charge_1"]))
    if kind == "charge":
        source["amount_refunded"] = draw(st.integers(0, amount))
        source["captured"] = draw(st.sampled_from([None, True, False]))
        source["refunded"] = draw(st.booleans())
        source["amount_captured"] = draw(st.integers(0, amount))
        # Stripe never changes a balance transaction: an event has the fee of the charge, or none.
        fee = {"id": "txn", "fee": 100 + which, "currency": source["currency"]}
        source["balance_transaction"] = draw(st.sampled_from([None, "txn", fee]))
    return PaymentEvent(number, T0 + draw(st.integers(0, 2)), source)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[PaymentEvent], list[PaymentEvent], list[int]]:
    """Draw a history, a possible order of arrival, and the starts of its batches."""
    length = draw(st.integers(1, 9))
    history = [draw(payment_events(number)) for number in range(1, length + 1)]
    again = draw(st.lists(st.sampled_from(history), max_size=4))
    arrival = draw(st.permutations(history + again))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(arrival) - 1)), max_size=4)))
    return history, arrival, [0, *cuts, len(arrival)]


def state(tx: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in tx.exec_driver_sql(ROWS)]


def settled(engine: Engine, sets: list[list[PaymentEvent]]) -> list[tuple[Any, ...]]:
    """Process ``sets`` with empty tables, return the rows and roll back."""
    with engine.connect().execution_options(**UNWATCHED) as tx, tx.begin() as outer:
        for one in sets:
            # A batch may contain a copy of an event: its work items still differ.
            items = [t.item._replace(id=1000 * place + t.number) for place, t in enumerate(one)]
            outcomes = ingest_transactions(tx, items, NOW).outcomes
            assert all(isinstance(outcome, Done) for outcome in outcomes)
        rows = state(tx)
        outer.rollback()
    return rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_history_in_any_order_and_any_sets_ends_in_the_same_rows(
    engine: Engine, drawn: tuple[list[PaymentEvent], list[PaymentEvent], list[int]]
) -> None:
    history, arrival, cuts = drawn
    # Each charge has one fee, for any currency of its drawn events.
    for one in history:
        if one.source["object"] == "charge" and isinstance(one.source["balance_transaction"], dict):
            one.source["currency"] = "cad"
            one.source["balance_transaction"]["currency"] = "cad"
    sets = [arrival[begin:end] for begin, end in pairwise(cuts)]

    assert settled(engine, sets) == settled(engine, [history])


def test_fee_is_the_same_whether_the_entry_or_the_payment_comes_first(engine: Engine) -> None:
    entry = parse_balance_entry(
        {
            "id": "txn_1", "type": "charge", "source": "charge_1", "amount": 4500, "fee": 161, "net": 4339,
            "currency": "cad", "created": T0, "available_on": T0 + 86_400,
        }
    )  # fmt: skip
    charge = {
        "id": "charge_1", "object": "charge", "amount": 4500, "amount_refunded": 0, "currency": "cad",
        "status": "succeeded", "created": T0, "balance_transaction": {"id": "t", "fee": 7, "currency": "cad"},
    }  # fmt: skip
    ends = []
    for entry_first in (True, False):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from transactions")
            tx.exec_driver_sql("delete from balance_entries")
            if entry_first:
                record_balance_entries(tx, 1, [entry])
            ingest_transactions(tx, [PaymentEvent(1, T0, charge).item], NOW)
            if not entry_first:
                record_balance_entries(tx, 1, [entry])
            ends.append(state(tx))

    assert ends[0] == ends[1]
    assert ends[0][0][9] == 161
