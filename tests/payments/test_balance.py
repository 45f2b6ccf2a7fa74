"""Stripe's balance entries: stored once after repeated pulls; payments get their fees from them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Refused, RetryLater
from services.core.fields import Unreadable
from services.payments.balance import (
    BATCH_SIZE,
    fetch_balance_entries,
    parse_balance_entry,
    record_balance_entries,
)
from services.payments.handler import ingest_transactions
from tests.fakes.stripe import StripeApi
from tests.payments.test_transactions import NOW, T0, charge, dispute, ingest, transaction_rows

DAY = timedelta(days=1)
BEGINS = datetime.fromtimestamp(T0, UTC)
ENTRIES = (
    "select entry_id, kind, source_id, amount_cents, fee_cents, net_cents, currency, payout_id "
    "from balance_entries order by entry_id"
)


@pytest.fixture
def api() -> Iterator[StripeApi]:
    with StripeApi() as started:
        yield started


def entry(number: int = 1, **fields: Any) -> dict[str, Any]:
    usual = {
        "id": f"txn_{number:04d}",
        "object": "balance_transaction",
        "type": "charge",
        "source": "ch_1",
        "amount": 5000,
        "fee": 175,
        "net": 4825,
        "currency": "cad",
        "created": T0 + number,
        "available_on": T0 + 172_800,
    }
    return usual | fields


def record(engine: Engine, *sources: dict[str, Any], payout_id: str = "") -> list[str]:
    with transaction(engine) as tx:
        entries = [parse_balance_entry(source, payout_id) for source in sources]
        return [audited.summary for audited in record_balance_entries(tx, 1, entries)]


def kept(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.exec_driver_sql(ENTRIES)]


def audit(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        rows = tx.exec_driver_sql("select staff_label, action, request_id from audit_events order by seq")
        return [tuple(row) for row in rows]


def test_entry_is_kept_and_its_charge_has_the_fee(engine: Engine) -> None:
    ingest(engine, charge())

    assert record(engine, entry()) == [
        "balance entry txn_0001 recorded: charge of ch_1, 50.00 CAD, fee 1.75 CAD",
        "charge ch_1: fee 1.75 CAD",
    ]
    assert kept(engine) == [("txn_0001", "charge", "ch_1", 5000, 175, 4825, "CAD", "")]
    assert transaction_rows(engine, "fee_cents") == [(175,)]


def test_known_entry_changes_nothing_and_is_not_audited(engine: Engine) -> None:
    ingest(engine, charge())
    record(engine, entry(), entry(2, source="re_1", type="refund", fee=0))

    assert record(engine, entry(), entry(), entry(2, source="re_1", type="refund", fee=0)) == []


def test_payout_of_an_entry_is_added_later_and_never_removed(engine: Engine) -> None:
    record(engine, entry())

    assert record(engine, entry(), payout_id="po_1") == [
        "balance entry txn_0001: charge of ch_1, 50.00 CAD, fee 1.75 CAD, in payout po_1"
    ]
    assert record(engine, entry()) == []
    assert len(record(engine, entry(available_on=T0 + 86_400))) == 1
    assert kept(engine)[0][7] == "po_1"


def test_dispute_has_the_fees_of_all_its_entries(engine: Engine) -> None:
    ingest(engine, dispute("won"))
    withdrawn = entry(1, source="dp_1", type="adjustment", amount=-5000, fee=1500, net=-6500)
    reinstated = entry(2, source="dp_1", type="adjustment", amount=5000, fee=-1500, net=6500)

    record(engine, withdrawn)
    assert transaction_rows(engine, "fee_cents") == [(1500,)]
    assert record(engine, reinstated)[1] == "dispute dp_1: fee 15.00 -> 0.00 CAD"


def test_fee_in_the_balances_currency_is_not_put_on_a_charge_of_another(engine: Engine) -> None:
    ingest(engine, charge(currency="usd"))
    record(engine, entry())

    assert transaction_rows(engine, "fee_cents") == [(None,)]
    ingest(engine, charge("charge.updated", 60, currency="usd"))
    assert transaction_rows(engine, "fee_cents") == [(None,)]


def test_entry_of_no_object_is_kept(engine: Engine) -> None:
    record(engine, entry(source=None, type="stripe_fee", amount=-200, fee=0, net=-200))

    assert kept(engine) == [("txn_0001", "stripe_fee", "", -200, 0, -200, "CAD", "")]


@pytest.mark.parametrize("field", ["id", "amount", "fee", "net", "currency", "created", "available_on"])
def test_entry_without_a_required_field_is_refused_by_name(field: str) -> None:
    with pytest.raises(Unreadable, match=f"^{field} is None"):
        parse_balance_entry(entry() | {field: None})


def test_day_is_pulled_in_sets_and_audited(engine: Engine, api: StripeApi) -> None:
    many = BATCH_SIZE + 7
    api.lists["balance_transactions"] = [entry(n, source=f"ch_{n}") for n in range(many)]
    api.lists["balance_transactions"].append(entry(many, created=T0 + 86_400))

    assert fetch_balance_entries(1, api.key, api.url, BEGINS, BEGINS + DAY, request_id="r") == many
    assert len(kept(engine)) == many
    assert set(audit(engine)) == {("stripe pull", "balance_entries", "r")}
    before = len(audit(engine))
    assert fetch_balance_entries(1, api.key, api.url, BEGINS, BEGINS + DAY) == many
    assert len(audit(engine)) == before


def test_interrupted_pull_keeps_its_entries_and_is_repeated(engine: Engine, api: StripeApi) -> None:
    many = BATCH_SIZE + 300
    api.lists["balance_transactions"] = [entry(n, source=f"ch_{n}") for n in range(many)]
    api.before = lambda _: api.failures.append((500, {}, {})) if len(api.requests) == 12 else None

    with pytest.raises(RetryLater):
        fetch_balance_entries(1, api.key, api.url, BEGINS, BEGINS + DAY)
    assert len(kept(engine)) == BATCH_SIZE
    assert fetch_balance_entries(1, api.key, api.url, BEGINS, BEGINS + DAY) == many
    assert len(kept(engine)) == many


def test_entries_of_a_payout_are_requested_by_payout(engine: Engine, api: StripeApi) -> None:
    api.lists["balance_transactions"] = [entry(1, in_payout="po_1"), entry(2, in_payout="po_2")]

    assert fetch_balance_entries(1, api.key, api.url, payout_id="po_1") == 1
    assert [(row[0], row[7]) for row in kept(engine)] == [("txn_0001", "po_1")]


def test_entry_waits_for_its_charge_in_another_worker(engine: Engine) -> None:
    waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as tx:
            ingest_transactions(tx, [charge()], NOW)
            recorded = pool.submit(record, engine, entry())
            with engine.connect() as other:
                give_up = time.monotonic() + 60
                while not other.exec_driver_sql(waits).scalar_one():
                    assert time.monotonic() < give_up, "the other worker did not wait"
                    other.rollback()
        recorded.result(60)

    assert transaction_rows(engine, "fee_cents") == [(175,)]


def test_unreadable_entry_is_refused_by_name(engine: Engine, api: StripeApi) -> None:
    api.lists["balance_transactions"] = [entry(1, net="48.25")]

    with pytest.raises(Refused, match=r"'txn_0001': net is '48\.25'"):
        fetch_balance_entries(1, api.key, api.url)
