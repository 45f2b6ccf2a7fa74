"""Taxes of Shopify payloads are in the files of the month."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.audit.queries import use_snapshot
from services.closing.month_package import build_package
from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shops.shops import get_shop_by_id
from tests.closing.months import ZONE
from tests.shopify.sample_payloads import ORDER, add_shop, ingest, line, order, refund


@pytest.fixture
def shop(engine: Engine) -> Iterator[Engine]:
    add_shop(engine)
    yield engine


def money(amount: str) -> dict[str, Any]:
    return {"shop_money": {"amount": amount, "currency_code": "CAD"}}


def tax(title: str, rate: float, price: str) -> dict[str, Any]:
    return {"title": title, "rate": rate, "price": price, "price_set": money(price)}


def test_tax_of_an_order_and_of_its_refund_is_separate(shop: Engine, tmp_path: Path) -> None:
    both = [tax("GST", 0.05, "1.25"), tax("PST", 0.07, "1.75")]
    sold = line(quantity=2) | {
        "tax_lines": both, "taxable": True, "gift_card": False, "product_id": 5,
        "discount_allocations": [{"amount": "0.00", "amount_set": money("0.00")}],
    }  # fmt: skip
    shipped = [tax("GST", 0.05, "0.40"), tax("PST", 0.07, "0.56")]
    ingest(
        shop,
        ingest_orders,
        order(
            lines=[sold], total_price="36.96", subtotal_price="25.00", total_tax="3.96",
            total_discounts="0.00", total_shipping_price_set=money("8.00"),
            shipping_lines=[{"id": 1, "price": "8.00", "tax_lines": shipped}],
            shipping_address={"country_code": "CA", "province_code": "BC"}, taxes_included=False,
        ),
    )  # fmt: skip
    given = {
        "id": ORDER + 900, "line_item_id": ORDER + 1, "quantity": 1, "restock_type": "return",
        "location_id": 77, "subtotal": 12.5,
        "total_tax": 1.5, "subtotal_set": money("12.50"), "total_tax_set": money("1.50"),
    }  # fmt: skip
    ingest(shop, ingest_refunds, refund(amount="14.00", refund_line_items=[given]))

    with transaction() as tx:
        use_snapshot(tx)
        package = build_package(tx, get_shop_by_id(tx, 1), "2026-11", ZONE, [], tmp_path)

    assert package.figures["accounts"] == {
        "CAD": {"gross_sales": 2500, "returns": -1250, "shipping": 800, "tax:CA-BC:GST": 102,
                "tax:CA-BC:PST": 144}
    }  # fmt: skip
    lines = (tmp_path / "sales-tax.csv").read_text("utf-8-sig").splitlines()[1:]
    assert [line.split(",")[8:12] + line.split(",")[-2:-1] for line in lines] == [
        ["25.00", "1.25", "1.75", "0.00", "0.00"],
        ["8.00", "0.40", "0.56", "0.00", "0.00"],
        ["-12.50", "-0.63", "-0.87", "0.00", "0.01"],
    ]
