"""Concurrent sales and pushes of the same levels: no deadlock and no lost update."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.providers.shopify_admin import LevelQuantity, SetLevelsResult, ShopLevelKey
from services.shopify.orders.handler import ingest_orders
from services.shopify.shop_access import ShopAccess
from services.shopify.stock.push import InventoryPushHandler
from services.shops.secrets import record_secret
from tests.shopify.push_shop import FakeStockApi
from tests.shopify.sample_payloads import ORDER, add_shop, line, order, rows

SKUS = 30
SETS = 12


class AcceptingShop:
    """A shop that accepts every figure and changes none itself."""

    def __init__(self) -> None:
        self.held: dict[ShopLevelKey, int] = {ShopLevelKey(n, 1): 1000 for n in range(1, SKUS + 1)}

    def __call__(self, access: ShopAccess) -> FakeStockApi:
        fake_shop = FakeStockApi(throttle=None)

        def take(quantities: Sequence[LevelQuantity], **options: Any) -> SetLevelsResult:
            self.held.update({one.place: one.quantity for one in quantities})
            return SetLevelsResult()

        fake_shop.set_available = take  # type: ignore[method-assign]
        fake_shop.others = self.held
        return fake_shop


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with thirty levels, each of a thousand pieces."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")
        tx.execute(
            text(
                "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
                "observed_available, observed_at, shopify_available, changed_at, counted_available, "
                "counted_at) select 1, n, 1, 'SKU' || n, 1000, 1000, '2026-01-01', 1000, now(), 1000, "
                "'2026-01-01' from generate_series(1, :count) n"
            ),
            {"count": SKUS},
        )
    return engine


def test_concurrent_sales_and_pushes_end_with_equal_figures(shop: Engine) -> None:
    def sell(place: int) -> None:
        rng = random.Random(place)
        for turn in range(SETS):
            first = ORDER + place * 10**6 + turn * 1000
            lines = [
                [line(first + n * 10 + k, f"SKU{rng.randint(1, SKUS)}") for k in range(4)] for n in range(9)
            ]
            now = utc_now()
            with transaction(shop) as tx:
                orders = [order(number=first + n, lines=sold) for n, sold in enumerate(lines)]
                record_work(tx, ingest_orders(tx, orders, now).new_work, now)

    shelves = AcceptingShop()

    def push(place: int) -> None:
        runner = ExternalRunner(shop, f"tests-{place}", random.Random(place))
        effect = InventoryPushHandler(shelves)
        while (
            not all(sale.done() for sale in sales)
            or runner.run_batch(TOPICS["inventory_push"], effect).claimed
        ):
            report = runner.run_batch(TOPICS["inventory_push"], effect)
            assert (report.retried, report.dead, report.lost) == ([], [], 0)

    with ThreadPoolExecutor(5) as pool:
        sales = [pool.submit(sell, place) for place in range(3)]
        for done in [*sales, *(pool.submit(push, place) for place in range(2))]:
            done.result()

    sold = 3 * SETS * 9 * 4
    assert rows(shop, "select sum(1000 - available) from inventory_levels") == [(sold,)]
    assert rows(shop, "select count(*) from inventory_levels where available <> shopify_available") == [(0,)]
    assert rows(shop, "select distinct status from work_queue") == [("done",)]
