"""A small fleet of real processes for the journeys: ingress, three workers, beat and the sandbox."""

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
from tests.fakes.tcp_proxy import TcpProxy
from tests.fakes.web import Web

PROCESSES = ("sandbox", "ingress", "worker-webhooks", "worker-outbound", "worker-ops", "beat-1")
QUEUES = [queue for name, queues, _ in WORKERS if name in PROCESSES for queue in queues.split(",")]


@dataclass(slots=True)
class JourneyFleet:
    """A running fleet with its sandbox. All processes reach the broker through ``broker_proxy``.

    ``slack`` gets the alerts.
    """

    supervisor: Supervisor
    env: dict[str, str]
    engine: Engine
    broker_proxy: TcpProxy
    slack: Web
    shops: Sequence[DemoShop]
    shop_ids: dict[str, int]
    sender: WebhookPoster
    sandbox_url: str
    opened_at: datetime
    rng: random.Random = field(default_factory=lambda: random.Random(11))
    _taken: Counter[str] = field(default_factory=Counter)

    def select(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of ``query``."""
        with self.engine.begin() as tx:
            return [tuple(row) for row in tx.execute(text(query), values)]

    def execute(self, statement: str, **values: Any) -> None:
        """Run ``statement`` and commit."""
        with self.engine.begin() as tx:
            tx.execute(text(statement), values)

    def reserve_item(self, shop: DemoShop) -> int:
        """Return the index of an item of ``shop`` that no other journey uses."""
        self._taken[shop.slug] += 1
        return self._taken[shop.slug] - 1

    def make_order(self, shop: DemoShop, place: int) -> tuple[Delivery, dict[str, Any]]:
        """Return an order of one item as webhook and body, placed just before ``opened_at``."""
        now = self.opened_at - timedelta(seconds=121)
        order = make_order(
            self.rng, [shop.items[place]], placed_at=now, currency=shop.currency, zone=shop.zone
        )
        day = ShopDay(shop, now - timedelta(hours=1), self.rng)
        day.shopify("orders/create", order, now)
        return day.deliveries[0], order

    def sell(self, shop: DemoShop, place: int) -> dict[str, Any]:
        """Send an order of one item to the ingress; return its body."""
        delivery, order = self.make_order(shop, place)
        self.sender.send(delivery)
        return order

    def count_orders(self, orders: Sequence[dict[str, Any]]) -> int:
        """Return how many of ``orders`` are recorded."""
        gids = [order["admin_graphql_api_id"] for order in orders]
        return int(self.select("select count(*) from orders where order_gid = any(:gids)", gids=gids)[0][0])

    def count_open_work(self) -> int:
        """Return the number of open work items in the queues of this fleet's workers.

        A letter to an owner is planned for Tuesday: on a Monday beat drafts them.
        """
        query = """
        select count(*) from work_queue where status in ('pending', 'error') and queue = any(:queues)
           and not (topic = 'letter_send' and next_retry_at > now())
        """
        return int(self.select(query, queues=QUEUES)[0][0])

    def count_leased(self, topic: str) -> int:
        """Return how many items of ``topic`` are leased."""
        query = "select count(*) from work_queue where topic = :topic and locked_at is not null"
        return int(self.select(query + " and status in ('pending', 'error')", topic=topic)[0][0])

    def delay_calls(self, shop: DemoShop, seconds: float) -> None:
        """Make the sandbox execute calls of ``shop`` at once and answer ``seconds`` later."""
        self.sender.control({"shop": shop.domain, "slow_seconds": seconds})

    def read_sandbox(self) -> SandboxFigures:
        """Return the figures of the sandbox."""
        return read_outside(self.sandbox_url)

    def list_changes(self, shop: DemoShop, place: int) -> list[int]:
        """Return every figure that was set for an item at Shopify, in order."""
        log = httpx.get(f"{self.sandbox_url}/_control/log", params={"shop": shop.domain}).json()["changes"]
        item = shop.items[place].inventory_item_id
        return [change["to"] for change in log if change["inventory_item_id"] == item]

    def read_stock(self, shop: DemoShop, place: int) -> tuple[int, int]:
        """Return the recorded stock of an item and its stock at Shopify."""
        item = shop.items[place].inventory_item_id
        (row,) = self.select(
            "select available from inventory_levels where shop_id = :shop and inventory_item_id = :item",
            shop=self.shop_ids[shop.slug],
            item=item,
        )
        return row[0], self.read_sandbox().levels[shop.slug, str(item)]


def wait_for(fact: Callable[[], object], *, seconds: float = 90.0) -> None:
    """Return once ``fact`` is true; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.05)
