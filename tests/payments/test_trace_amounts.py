"""Amounts in currencies that Stripe and Shopify write with different decimals."""

from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.cli.main import main
from services.core.db import transaction
from services.payments.handler import ingest_transactions
from services.payments.trace import trace_payment
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.transactions import ingest_order_transactions
from tests.payments.test_transactions import NOW, charge
from tests.shopify.sample_payloads import ORDER, add_shop, at, ingest, item, line, order


@pytest.mark.parametrize(
    ("currency", "shopify", "stripe", "minor", "shown"),
    [
        ("ISK", "500", 50_000, 500, "500 ISK"),
        ("UGX", "500.00", 50_000, 500, "500 UGX"),
        ("MGA", "500.00", 500, 50_000, "500.00 MGA"),
        ("JPY", "500", 500, 500, "500 JPY"),
    ],
)
def test_the_trail_shows_one_amount_for_the_order_and_its_charge(
    engine: Engine, currency: str, shopify: str, stripe: int, minor: int, shown: str
) -> None:
    add_shop(engine)
    with transaction(engine) as tx:
        tx.execute(text("update shops set currency = :currency"), {"currency": currency})
    ingest(
        engine, ingest_orders,
        order(currency=currency, total_price=shopify, lines=[line(price=shopify)]),
    )  # fmt: skip
    paid: dict[str, Any] = {
        "id": 7, "order_id": ORDER, "kind": "sale", "status": "success", "amount": shopify,
        "currency": currency, "created_at": at(0), "authorization": "ch_1234567890",
    }  # fmt: skip
    payment = item("", paid, event_topic="order_transactions/create")
    ingest(engine, ingest_order_transactions, payment)
    charged = charge(id="ch_1234567890", amount=stripe, currency=currency.lower())
    with transaction(engine) as tx:
        ingest_transactions(tx, [charged], NOW)

    with transaction(engine) as tx:
        steps = trace_payment(tx, 1, "ch_1234567890")
    printed = CliRunner().invoke(main, ["books", "trail", "ch_1234567890", "--shop", "harbour"]).output

    assert [(step.what, step.amount_cents) for step in steps] == [
        ("order", minor), ("sale", minor), ("charge", minor),
    ]  # fmt: skip
    assert printed.count(shown) == 3
