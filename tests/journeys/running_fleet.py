"""A small fleet of real processes for the journeys: a door, three workers, a clock, and a sandbox."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Engine, text

from services.demo.delivery import Delivery
from services.demo.figures import SandboxFigures, read_outside
from services.demo.orders import ShopDay
from services.demo.sender import WebhookPoster
from services.demo.shops import DemoShop
from services.fleet.process_list import WORKERS
from services.fleet.processes import Supervisor
from services.sandbox.payloads.orders import make_order
from tests.fakes.line import Line

PROCESSES = ("sandbox", "ingress", "worker-webhooks", "worker-outbound", "worker-ops", "beat-1")
QUEUES = [queue for name, queues, _ in WORKERS if name in PROCESSES for queue in queues.split(",")]


@dataclass(slots=True)
class House:
    """What a journey goes through. ``line`` is the wire between every process and the broker."""

    supervisor: Supervisor
    env: dict[str, str]
    engine: Engine
    line: Line
    shops: Sequence[DemoShop]
    shop_ids: dict[str, int]
    sender: WebhookPoster
    sandbox_url: str
    opened_at: datetime
    rng: random.Random = field(default_factory=lambda: random.Random(11))
    _taken: Counter[str] = field(default_factory=Counter)

    def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``."""
        with self.engine.begin() as tx:
            return [tuple(row) for row in tx.execute(text(query), values)]

    def write(self, statement: str, **values: Any) -> None:
        """Run ``statement`` and commit."""
        with self.engine.begin() as tx:
            tx.execute(text(statement), values)

    def take_item(self, shop: DemoShop) -> int:
        """Return the place of a good of ``shop`` that no other journey uses."""
        self._taken[shop.slug] += 1
        return self._taken[shop.slug] - 1

    def make_order(self, shop: DemoShop, place: int) -> tuple[Delivery, dict[str, Any]]:
        """Return an order of one good, as a webhook and as its body; placed just before the house opened."""
        now = self.opened_at - timedelta(seconds=121)
        order = make_order(
            self.rng, [shop.items[place]], placed_at=now, currency=shop.currency, zone=shop.zone
        )
        day = ShopDay(shop, now - timedelta(hours=1), self.rng)
        day.shopify("orders/create", order, now)
        return day.deliveries[0], order

    def sell(self, shop: DemoShop, place: int) -> dict[str, Any]:
        """Send an order of one good through the door; return its body."""
        delivery, order = self.make_order(shop, place)
        self.sender.send(delivery)
        return order

    def count_orders(self, orders: Sequence[dict[str, Any]]) -> int:
        """Return how many of ``orders`` are in the books."""
        gids = [order["admin_graphql_api_id"] for order in orders]
        return int(self.ask("select count(*) from orders where order_gid = any(:gids)", gids=gids)[0][0])

    def count_waiting(self) -> int:
        """Return how many items of work are not over that a worker of this house takes: beat's jobs aside."""
        query = (
            "select count(*) from work_queue where status in ('pending', 'error') and queue = any(:queues)"
        )
        return int(self.ask(query, queues=QUEUES)[0][0])

    def count_in_hand(self, topic: str) -> int:
        """Return how many items of ``topic`` some worker has leased."""
        query = "select count(*) from work_queue where topic = :topic and locked_at is not null"
        return int(self.ask(query + " and status in ('pending', 'error')", topic=topic)[0][0])

    def slow_down(self, shop: DemoShop, seconds: float) -> None:
        """Have Shopify carry out ``shop``'s calls at once, and answer them so much later."""
        self.sender.control({"shop": shop.domain, "slow_seconds": seconds})

    def look_outside(self) -> SandboxFigures:
        """Return what the sandbox's Shopify holds."""
        return read_outside(self.sandbox_url)

    def changes(self, shop: DemoShop, place: int) -> list[int]:
        """Return every figure that Shopify was made to hold of a good, in order."""
        log = httpx.get(f"{self.sandbox_url}/_control/log", params={"shop": shop.domain}).json()["changes"]
        item = shop.items[place].inventory_item_id
        return [change["to"] for change in log if change["inventory_item_id"] == item]

    def stock(self, shop: DemoShop, place: int) -> tuple[int, int]:
        """Return what we and what Shopify hold of a good."""
        item = shop.items[place].inventory_item_id
        (row,) = self.ask(
            "select available from inventory_levels where shop_id = :shop and inventory_item_id = :item",
            shop=self.shop_ids[shop.slug],
            item=item,
        )
        return row[0], self.look_outside().levels[shop.slug, str(item)]


def wait_for(fact: Callable[[], object], *, seconds: float = 40.0) -> None:
    """Return once ``fact`` is true; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)
