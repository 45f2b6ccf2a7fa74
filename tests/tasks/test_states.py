"""The task states in Flower are the outcomes of the items. Real worker, real events."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.dispatch import send_messages
from services.ledger.work import NewWork
from services.shopify.tables import inventory_levels
from services.shops.secrets import record_secret
from services.shops.shops import add_shop

pytestmark = pytest.mark.xdist_group("worker")


class TaskEvents:
    """The task events of a fleet, as Flower receives them."""

    def __init__(self, app: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._app = app
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self.events.append})
            while not self._stop.is_set():
                try:
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)
                except TimeoutError:
                    continue

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for event in list(self.events):
                if all(event.get(name) == value for name, value in wanted.items()):
                    return event
            time.sleep(0.05)
        raise AssertionError(f"no event {wanted} among {[e['type'] for e in self.events]}")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)


@pytest.fixture
def seen(engine: Engine, broker_url: str, environment: dict[str, str]) -> Iterator[TaskEvents]:
    """The events of an inventory worker that cannot reach Shopify."""
    from tasks.celery import app

    env = os.environ | {"SHOPIFY_API_BASE": "http://127.0.0.1:1/shopify", "FLEET_PROCESS": "worker-outbound"}
    command = (
        "-m",
        "celery",
        "-q",
        "-A",
        "tasks",
        "worker",
        "-E",
        "-Q",
        "inventory",
        "-c",
        "1",
        "-n",
        "states@%h",
    )
    seen = TaskEvents(app)
    worker = subprocess.Popen([sys.executable, *command, "--without-gossip", "--without-mingle"], env=env)
    try:
        seen.wait_for(type="worker-heartbeat")  # repeated, so the start order does not matter
        yield seen
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(90)
        seen.close()


def plan_push(engine: Engine, slug: str, *, with_token: bool) -> int:
    """Insert a level that differs from Shopify's and its push; return the work id."""
    now = utc_now()
    with transaction(engine) as tx:
        shop = add_shop(
            tx,
            slug=slug,
            name=slug,
            timezone="UTC",
            currency="CAD",
            shopify_domain=f"{slug}.myshopify.com",
            stock_owner="shopfleet",
            now=now,
        )
        if with_token:
            record_secret(tx, shop.id, "shopify-token", "shpat_" + "a" * 32, now)
        tx.execute(
            inventory_levels.insert().values(
                shop_id=shop.id,
                inventory_item_id=1,
                location_id=2,
                sku="S",
                available=5,
                observed_available=5,
                observed_at=now,
                shopify_available=7,
                counted_available=5,
                counted_at=now,
                changed_at=now,
            )
        )
        refs = record_work(tx, [NewWork(shop_id=shop.id, topic="inventory_push", key="1:2")], now)
    assert send_messages(refs)
    return refs[0].id


def test_waiting_item_is_a_retry_and_dead_item_is_a_failure(seen: TaskEvents, engine: Engine) -> None:
    retried = plan_push(engine, "no-shopify", with_token=True)
    received = seen.wait_for(type="task-received", name="inventory_push", args=f"([{retried}],)")
    event = seen.wait_for(type="task-retried", uuid=received["uuid"])
    assert "shopify.unavailable" in event["exception"]

    dead = plan_push(engine, "no-token", with_token=False)
    received = seen.wait_for(type="task-received", name="inventory_push", args=f"([{dead}],)")
    event = seen.wait_for(type="task-failed", uuid=received["uuid"])
    assert "shopify.no_token" in event["exception"]
