"""Three shops with one stock pool, each with a fake Shopify whose clock the test sets."""

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import OutcomeUnknown, RetryLater
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import WorkItem
from services.providers.shopify_admin import LevelQuantity, SetLevelsResult, ShopifyLevel, ShopLevelKey
from services.providers.shopify_answers import ShopifyThrottled, StockMoved
from services.shopify.products.handler import ingest_products
from services.shopify.shop_access import ShopAccess
from services.shopify.stock.count_store import release_levels
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.pool_checks import plan_links, plan_wanted_links
from services.shopify.stock.pool_links import plan_figures, record_links
from services.shopify.stock.push import InventoryPushHandler
from services.shops.secrets import record_secret
from services.shops.shops import get_shop_by_id, set_shop
from tests.shopify.sample_payloads import (
    LOCATION,
    NOON,
    add_shop,
    clear_work_queue,
    ingest,
    item,
    product,
    rows,
)

POOL = "mugs"
SKUS = ("CUP", "MUG")
WHO = {"by": "test", "request_id": "r"}


class Write(NamedTuple):
    """A figure that one of our calls set at Shopify."""

    place: ShopLevelKey
    change_from: int
    quantity: int


@dataclass
class Shopify:
    """Stock of one shop at Shopify: changes have whole seconds, and each sends a webhook."""

    world: "World"
    shop_id: int
    levels: dict[ShopLevelKey, int] = field(default_factory=dict)
    changed_at: dict[ShopLevelKey, datetime] = field(default_factory=dict)
    webhooks: list[WorkItem] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    answers: dict[str, SetLevelsResult] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    throttle = None
    cost_points = None

    def change(self, place: ShopLevelKey, available: int) -> None:
        """Set the level to ``available`` from now on."""
        self.levels[place] = available
        self.changed_at[place] = self.world.now.replace(microsecond=0)
        self.webhooks.append(self.make_webhook(place))

    def make_webhook(self, place: ShopLevelKey) -> WorkItem:
        """Return the webhook with the current level."""
        body = {
            "inventory_item_id": place.inventory_item_id,
            "location_id": place.location_id,
            "available": self.levels[place],
            "updated_at": self.changed_at[place].isoformat(),
        }
        return item(
            "inventory_level_ingest", body, shop_id=self.shop_id, event_topic="inventory_levels/update"
        )

    def fetch_levels(self, places: Sequence[ShopLevelKey]) -> Mapping[ShopLevelKey, ShopifyLevel]:
        """As ``ShopifyAdmin``; sales may happen during the call."""
        if self.faults and self.faults[-1] == "read":
            self.faults.pop()
            raise RetryLater("shopify.unavailable", "503")
        with self.world.turn:
            held = {place: ShopifyLevel(self.levels[place], self.changed_at[place]) for place in places}
        self.world.go_on()
        return held

    def set_available(
        self, quantities: Sequence[LevelQuantity], *, reference: str, idempotency_key: str
    ) -> SetLevelsResult:
        """As ``ShopifyAdmin``: all or none, once per key."""
        del reference
        self.world.go_on()
        fault = self.faults.pop() if self.faults and self.faults[-1] != "read" else ""
        if fault == "throttled":
            raise ShopifyThrottled("slow down", wait=timedelta(seconds=1), throttle=None)
        if fault == "not sent":
            raise OutcomeUnknown("shopify.no_answer", "sent, then nothing")
        with self.world.turn:
            self.apply(quantities, idempotency_key)
        self.world.go_on()
        if fault == "answer lost":
            raise OutcomeUnknown("shopify.no_answer", "done, then nothing")
        return self.answers[idempotency_key]

    def apply(self, quantities: Sequence[LevelQuantity], key: str) -> None:
        """Apply the changes of the call ``key``."""
        if key in self.answers:
            return
        refused = {
            index: StockMoved("another figure")
            for index, requested in enumerate(quantities)
            if requested.change_from is not None and self.levels[requested.place] != requested.change_from
        }
        for requested in () if refused else quantities:
            self.writes.append(Write(requested.place, self.levels[requested.place], requested.quantity))
            self.change(requested.place, requested.quantity)
        at = (self.world.now + self.world.answers_ahead).replace(microsecond=0)
        self.answers[key] = SetLevelsResult(at, {**refused})


class World:
    """Three shops in one pool that starts with ``pieces`` of each SKU; ``rng`` selects what happens."""

    def __init__(self, engine: Engine, pieces: int, rng: random.Random | None = None) -> None:
        self.engine, self.rng, self.now = engine, rng or random.Random(0), NOON
        self.turn = threading.RLock()  # calls to the three shops go out side by side
        self.is_busy = False
        self.is_prompt = False
        self.during: list[Callable[[], None]] = []
        self.answers_ahead = timedelta()
        self.shops = {shop_id: Shopify(self, shop_id) for shop_id in (1, 2, 3)}
        self.model = dict.fromkeys(SKUS, pieces)
        self.changes = 0
        for shop_id, shop in self.shops.items():
            assert add_shop(engine, f"shop{shop_id}", f"shop{shop_id}.myshopify.com") == shop_id
            self.stock(shop, pieces)
        self.link()

    def stock(self, shop: Shopify, pieces: int) -> None:
        """Insert the items of the shop, each with its own id."""
        with transaction(self.engine) as tx:
            record_secret(tx, shop.shop_id, "shopify-token", "shpat_0123456789abcdef", utc_now())
            tx.exec_driver_sql(
                "update shop_config set stock_owner = %(owner)s, stock_location_id = %(location)s "
                "where shop_id = %(shop)s",
                {"owner": f"pool:{POOL}", "location": str(LOCATION), "shop": shop.shop_id},
            )
        for sku in SKUS:
            place = self.place(shop.shop_id, sku)
            event = product(sku, number=place.inventory_item_id, variant=place.inventory_item_id + 500)
            ingest(self.engine, ingest_products, event._replace(shop_id=shop.shop_id))
            shop.change(place, pieces)
        self.deliver(shop)

    def link(self, *shop_ids: int) -> None:
        """Link both SKUs of the shops (default: all) to the pool, which starts with their figures."""
        with transaction(self.engine) as tx:
            shops = [get_shop_by_id(tx, shop_id) for shop_id in shop_ids or self.shops]
            links = plan_links(tx, plan_wanted_links(shops, SKUS, {}))
            held = {
                shop_id: {key: ShopifyLevel(shop.levels[key], shop.changed_at[key])
                          for key in (link.shop_key for link in links if link.shop.id == shop_id)}
                for shop_id, shop in self.shops.items()
            }  # fmt: skip
            known = [row[0] for row in tx.exec_driver_sql("select sku from stock_pool_items")]
            figures = plan_figures(links, held, known)
            record_links(tx, POOL, links, figures, held, utc_now(), **WHO)

    def leave(self, shop_id: int) -> None:
        """Make Shopify the owner of the shop's stock."""
        self._set_owner(shop_id, "shopify")
        with transaction(self.engine) as tx:
            release_levels(tx, shop_id, utc_now(), **WHO)

    def enter(self, shop_id: int) -> None:
        """Add the shop to the pool without linked items."""
        self._set_owner(shop_id, f"pool:{POOL}")

    def _set_owner(self, shop_id: int, owner: str) -> None:
        with transaction(self.engine) as tx:
            set_shop(tx, f"shop{shop_id}", {"stock_owner": owner}, now=utc_now())

    @staticmethod
    def place(shop_id: int, sku: str) -> ShopLevelKey:
        return ShopLevelKey(1000 * shop_id + SKUS.index(sku), LOCATION)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def sell(self, shop_id: int, sku: str, pieces: int) -> None:
        """Subtract the pieces at Shopify; a negative number is a restock."""
        shop, place = self.shops[shop_id], self.place(shop_id, sku)
        shop.change(place, shop.levels[place] - pieces)
        self.model[sku] -= pieces
        self.changes += 1

    def deliver(self, shop: Shopify, *, lost: float = 0.0) -> None:
        """Deliver the waiting webhooks in any order, some twice, some never."""
        arriving, shop.webhooks = [w for w in shop.webhooks if self.rng.random() >= lost], []
        arriving += [self.rng.choice(arriving)] if arriving and lost else []
        if lost:
            self.rng.shuffle(arriving)
        while arriving:
            size = self.rng.randint(1, len(arriving)) if lost else 1
            ingest(self.engine, ingest_inventory_levels, *arriving[:size])
            arriving = arriving[size:]

    def go_on(self) -> None:
        """Run during a call: one of ``during``, webhooks (``is_prompt``), sales (``is_busy``)."""
        with self.turn:
            if self.during:
                self.during.pop()()
            if self.is_prompt:
                for shop in self.shops.values():
                    self.deliver(shop)
            if not self.is_busy:
                return
            self.wait(self.rng.choice((0, 0.4, 3)))
            if self.rng.random() < 0.3:
                self.sell_any()
            if self.rng.random() < 0.3:
                self.deliver(self.rng.choice(list(self.shops.values())), lost=0.2)

    def sell_any(self) -> None:
        shop_id, sku = self.rng.choice(sorted(self.shops)), self.rng.choice(SKUS)
        self.sell(shop_id, sku, self.rng.choice((1, 1, 2, 3, -1, -4)))

    def push(self) -> None:
        """Run the outbound worker once; retries are due at once."""
        with transaction(self.engine) as tx:
            tx.exec_driver_sql("delete from rate_limits")
            tx.exec_driver_sql(
                "update work_queue set next_retry_at = null where status in ('pending', 'error')"
            )
        work = InventoryPushHandler(partial(open_shop, self), lambda: self.now)
        ExternalRunner(self.engine, "tests", random.Random(1)).run_batch(TOPICS["inventory_push"], work)

    def settle(self) -> None:
        """Deliver webhooks and push until nothing is left to do."""
        for _ in range(60):
            for shop in self.shops.values():
                self.deliver(shop)
            if not rows(self.engine, "select 1 from work_queue where status in ('pending', 'error')"):
                return
            self.wait(5)
            self.push()
        raise AssertionError("the pool still has open work")

    def heal(self) -> None:
        """Read Shopify's lists, as every night; this replaces lost webhooks."""
        for shop in self.shops.values():
            shop.webhooks += [shop.make_webhook(place) for place in shop.levels]

    def figures(self) -> dict[str, int]:
        return dict(rows(self.engine, "select sku, available from stock_pool_items order by sku"))

    def held(self) -> dict[int, dict[str, int]]:
        return {
            shop_id: {sku: shop.levels[self.place(shop_id, sku)] for sku in SKUS}
            for shop_id, shop in self.shops.items()
        }

    def is_held(self, figures: Mapping[str, int]) -> bool:
        """Return whether every shop has ``figures``."""
        return all(held == figures for held in self.held().values())

    def count_writes(self) -> int:
        return sum(len(shop.writes) for shop in self.shops.values())


def open_shop(world: World, access: ShopAccess) -> Any:
    return world.shops[access.shop_id]


def fresh(engine: Engine, pieces: int, rng: random.Random | None = None) -> World:
    """Return a world without open work."""
    world = World(engine, pieces, rng)
    clear_work_queue(engine)
    world.wait(60)
    return world
