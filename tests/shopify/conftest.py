"""Fixtures of the tests of pushes and of audit summaries."""

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from services.shops.secrets import record_secret
from tests.shopify.push_shop import TOKEN, FakeStockApi
from tests.shopify.sample_payloads import (
    NOW,
    add_shop,
    count_levels,
    ingest,
    level,
    line,
    order,
    product,
)


@pytest.fixture
def api() -> FakeStockApi:
    return FakeStockApi()


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with a token that counted ten mugs and sold three; Shopify still has ten."""
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", TOKEN, NOW)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    ingest(engine, ingest_orders, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 1))
    return engine


@pytest.fixture
def mugs(engine: Engine) -> Engine:
    """A shop with twelve mugs, counted a minute before noon."""
    add_shop(engine)
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(12, -1))
    count_levels(engine)
    return engine
