"""Stock against an independent model: random sales, restocks, counts, lost webhooks and provider faults.

The sandbox shop changes its stock by its own orders, as Shopify does. At the end the recorded, the sandbox's
and the model's figures are equal, at two locations of three shops.
"""

import random
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.providers.shopify_admin import ShopLevelKey
from services.shopify.orders.handler import ingest_orders
from services.shopify.orders.refund_handler import ingest_refunds
from services.shopify.products.handler import ingest_products
from services.shopify.shop_access import open_admin
from services.shopify.stock.count_store import record_counts
from services.shopify.stock.counts import LevelCount, plan_counts
from services.shopify.stock.handler import ingest_inventory_levels
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import (
    ITEM,
    NOON,
    add_shop,
    at,
    ingest,
    level,
    line,
    order,
    product,
    refund,
    rows,
)
from tests.shopify.test_push_journey import control, push, sandbox

__all__ = ["sandbox"]

SHOPS = {2: "shopfleet", 3: "shopfleet", 4: "shopify"}
ITEMS, LOCATIONS, PIECES, STEPS = (ITEM + 5, ITEM + 6), (501, 502), 50, 40
FAULTS: tuple[dict[str, Any], ...] = (
    {"fail_next": {"status": 500, "count": 1}},
    {"fail_next": {"status": 429, "count": 1, "headers": {"Retry-After": "1"}}},
    {"drop_next": 1},
    {"stale_next": 1},
)
NO_FAULT = {"fail_next": {"status": 503, "count": 0}, "drop_next": 0, "stale_next": 0}

PUSHES = "select shop_id, error_code from work_queue where topic = 'inventory_push'"

Where = tuple[int, int, int]
"""(shop, item, location)."""


class World:
    """Three sandbox shops, the recorded ones, and the true stock of each."""

    def __init__(self, engine: Engine, url: str, seed: int) -> None:
        self.engine, self.url, self.rng, self.minute = engine, url, random.Random(seed), 0
        self.model: dict[Where, int] = {}
        self.sold: list[tuple[Where, int]] = []
        for shop_id, owner in SHOPS.items():
            assert add_shop(engine, f"shop{shop_id}", self.domain(shop_id)) == shop_id
            with transaction(engine) as tx:
                record_secret(tx, shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
                values = {"owner": owner, "shop": shop_id}
                tx.exec_driver_sql(
                    "update shop_config set stock_owner = %(owner)s where shop_id = %(shop)s", values
                )
            self.control(shop_id, token="shpat_0123456789abcdef")
            for item in ITEMS:
                product_event = product(f"SKU{item}", -600, number=item, variant=item + 100)._replace(
                    shop_id=shop_id
                )
                body = orjson.loads(product_event.body) | {"id": item, "updated_at": at(-600)}
                product_event = product_event._replace(body=orjson.dumps(body))
                ingest(engine, ingest_products, product_event)
                self.control(shop_id, webhooks=[{"topic": "products/update", "body": body}])
                for location in LOCATIONS:
                    held = orjson.loads(level(PIECES, -500, location=location, number=item).body)
                    self.control(shop_id, inventory_levels=[held])
                    self.model[shop_id, item, location] = PIECES
            self.deliver_levels(shop_id, loss=0.0)
            if owner == "shopfleet":
                self.count(shop_id, moved=0)

    @staticmethod
    def domain(shop_id: int) -> str:
        return f"shop{shop_id}.myshopify.com"

    def control(self, shop_id: int, **state: Any) -> None:
        control(self.url, shop=self.domain(shop_id), **state)

    def held(self, shop_id: int) -> Any:
        self.control(shop_id, **NO_FAULT)
        places = [ShopLevelKey(item, location) for item in ITEMS for location in LOCATIONS]
        return open_admin(shop_id).fetch_levels(places)

    def deliver_levels(self, shop_id: int, loss: float) -> None:
        """Deliver the webhooks of the shop's levels, except lost ones."""
        sent = []
        for (item, location), held in self.held(shop_id).items():
            one = level(held.available, self.minute, location=location, number=item)
            seen_at = max(NOON + timedelta(minutes=self.minute), held.updated_at)
            body = orjson.dumps(orjson.loads(one.body) | {"updated_at": seen_at})
            if self.rng.random() >= loss:
                sent.append(one._replace(shop_id=shop_id, body=body))
        ingest(self.engine, ingest_inventory_levels, *sent)

    def place(self) -> Where:
        return self.rng.choice(sorted(self.model))

    def sell(self) -> None:
        """Sell some pieces over the counter, or with an order that does not change Shopify's stock."""
        where, quantity = self.place(), self.rng.randint(1, 4)
        shop_id, item, location = where
        is_bypass = self.rng.random() < 0.3
        number = 10**9 + 1000 * self.minute
        sold = line(number + 1, f"SKU{item}", quantity) | {"variant_id": item + 100}
        placed = {"location_id": location, "created_at": at(self.minute)}
        one = order(self.minute, number=number, lines=[sold], **placed)._replace(shop_id=shop_id)
        sale = {"topic": "orders/create", "body": orjson.loads(one.body)}
        self.control(shop_id, sales=[sale | ({"inventory_behaviour": "bypass"} if is_bypass else {})])
        ingest(self.engine, ingest_orders, *self.rng.choices([one], k=self.rng.randint(1, 2)))
        if not is_bypass:
            self.sold.append((where, number))
        if not is_bypass or SHOPS[shop_id] == "shopfleet":
            self.model[where] -= quantity

    def restock(self) -> None:
        """Return one piece of a sale, at either location."""
        if not self.sold:
            return
        (shop_id, item, _), number = self.sold.pop(self.rng.randrange(len(self.sold)))
        location = self.rng.choice(LOCATIONS)
        back = {
            "id": number + 6, "line_item_id": number + 1, "quantity": 1, "restock_type": "return",
            "location_id": location, "line_item": {"sku": f"SKU{item}", "variant_id": item + 100},
        }  # fmt: skip
        one = refund(
            self.minute, refund_id=number + 5, number=number, transactions=[], refund_line_items=[back]
        )
        one = one._replace(shop_id=shop_id)
        self.control(shop_id, sales=[{"topic": "refunds/create", "body": orjson.loads(one.body)}])
        ingest(self.engine, ingest_refunds, one)
        self.model[shop_id, item, location] += 1

    def count(self, shop_id: int, moved: int) -> None:
        """Count every level of the shop; each has ``moved`` pieces more than the model."""
        held = self.held(shop_id)
        counts = []
        for (shop, item, location), pieces in self.model.items():
            if shop == shop_id:
                key = ShopLevelKey(item, location)
                held_back = held[key].on_hand - held[key].available
                counts.append(LevelCount(key, pieces + moved + held_back))
                self.model[shop, item, location] += moved
        with transaction(self.engine) as tx:
            changes = plan_counts(tx, shop_id, counts, held)
            counted_at = NOON + timedelta(minutes=self.minute)
            record_counts(tx, shop_id, changes, held, counted_at, utc_now(), by="t", request_id="r")


@pytest.mark.parametrize("seed", range(2))
def test_recorded_sandbox_and_model_figures_are_equal(engine: Engine, sandbox: str, seed: int) -> None:
    world = World(engine, sandbox, seed)
    for _ in range(STEPS):
        world.minute += 2
        step = world.rng.random()
        if step < 0.45:
            world.sell()
        elif step < 0.6:
            world.restock()
        elif step < 0.7:
            world.count(world.rng.choice((2, 3)), world.rng.randint(-2, 2))
        elif step < 0.8:
            world.control(world.rng.choice((2, 3)), **world.rng.choice(FAULTS))
            push(engine)
        elif step < 0.9:
            world.deliver_levels(world.rng.choice(sorted(SHOPS)), loss=0.5)
        else:
            push(engine)
    world.minute += 10
    for shop_id in SHOPS:
        world.control(shop_id, **NO_FAULT)
        world.deliver_levels(shop_id, loss=0.0)
    while rows(engine, f"{PUSHES} and status in ('pending', 'error')"):
        with transaction(engine) as tx:
            tx.exec_driver_sql("delete from rate_limits")
        push(engine)

    recorded = {
        (row[0], row[1], row[2]): row[3]
        for row in rows(
            engine,
            "select shop_id, inventory_item_id, location_id, available from inventory_levels "
            "where shop_id > 1",
        )
    }
    at_shopify = {
        (shop_id, place.inventory_item_id, place.location_id): held.available
        for shop_id in SHOPS
        for place, held in world.held(shop_id).items()
    }
    assert recorded == world.model
    assert at_shopify == world.model
    assert rows(engine, f"{PUSHES} and (status = 'dead' or shop_id = 4)") == []
