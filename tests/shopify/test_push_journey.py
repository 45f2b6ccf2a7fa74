"""From the row of a webhook to the level at Shopify: real runners and the sandbox's Admin API."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import NewEvent, record_events
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import WorkItem
from services.sandbox.serve import SandboxServer
from services.shopify.orders.handler import ingest_orders
from services.shopify.products.handler import ingest_products
from services.shopify.stock.handler import ingest_inventory_levels
from services.shopify.stock.push import InventoryPushHandler
from services.shops.secrets import record_secret
from tests.shopify.sample_payloads import (
    ITEM,
    LOCATION,
    ORDER,
    add_shop,
    clear_work_queue,
    count_levels,
    ingest,
    level,
    line,
    order,
    product,
    rows,
)

DOMAIN = "harbour.myshopify.com"
TOKEN = "shpat_0123456789abcdef"
OUTCOMES = "select status, result, error_code from work_queue where topic = 'inventory_push' order by id"


@pytest.fixture
def sandbox(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sandbox shop with ten mugs, and our shop that counted ten."""
    server = SandboxServer(0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SHOPIFY_API_BASE", f"{server.url}/shopify")
    get_settings.cache_clear()
    held = {"inventory_item_id": ITEM, "location_id": LOCATION, "available": 10}
    control(server.url, shop=DOMAIN, token=TOKEN, levels=[held])
    shop_id = add_shop(engine, domain=DOMAIN)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "shopify-token", TOKEN, utc_now())
    ingest(engine, ingest_products, product())
    ingest(engine, ingest_inventory_levels, level(10, -1))
    count_levels(engine)
    clear_work_queue(engine)
    yield server.url
    get_settings.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join(60)


def control(url: str, **state: Any) -> None:
    httpx.post(f"{url}/_control", json=state).raise_for_status()


def applied(url: str) -> list[tuple[int, int]]:
    """Return every change made by our calls: (from, to)."""
    answer = httpx.get(f"{url}/_control/log", params={"shop": DOMAIN}).raise_for_status().json()
    return [(change["from"], change["to"]) for change in answer["changes"]]


def keys(url: str) -> set[str]:
    """Return every idempotency key of a change."""
    answer = httpx.get(f"{url}/_control/log", params={"shop": DOMAIN}).raise_for_status().json()
    return {change["idempotency_key"] for change in answer["changes"]}


def receive(engine: Engine, *items: WorkItem) -> None:
    """Record orders as events with their work, and ingest them."""
    events = [
        NewEvent(
            shop_id=i.shop_id,
            provider="shopify",
            topic="orders/create",
            delivery_key=str(i.id),
            body=i.body,
            received_at=utc_now(),
            request_id=i.request_id,
            key=orjson.loads(i.body)["admin_graphql_api_id"],
        )
        for i in items
    ]
    with transaction(engine) as tx:
        record_events(tx, events)
    TransactionalRunner(engine, "tests", random.Random(1)).run_batch(TOPICS["order_ingest"], ingest_orders)


def push(engine: Engine) -> None:
    """Run the outbound worker once; retries are due at once."""
    set_due(engine, "true")
    run(engine)


def set_due(engine: Engine, which: str) -> None:
    """Make the work that matches ``which`` due at once."""
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            f"update work_queue set next_retry_at = null where status in ('pending', 'error') and {which}"  # noqa: S608
        )


def run(engine: Engine) -> None:
    """Run the outbound worker once."""
    ExternalRunner(engine, "tests", random.Random(1)).run_batch(
        TOPICS["inventory_push"], InventoryPushHandler()
    )


def test_sale_is_pushed_once_with_its_request_id(engine: Engine, sandbox: str) -> None:
    sold = order(lines=[line(quantity=3)])
    receive(engine, sold)
    ingest(engine, ingest_inventory_levels, level(10, 2))
    push(engine)

    assert rows(engine, OUTCOMES) == [("done", "pushed", None)]
    assert applied(sandbox) == [(10, 7)]
    assert rows(engine, "select shopify_available, available from inventory_levels") == [(7, 7)]
    assert rows(engine, "select distinct request_id from work_queue") == [(sold.request_id,)]
    assert rows(engine, "select bucket, maximum from rate_limits")[0][0] == "shopify"


def test_answer_lost_after_the_change_changes_the_level_once(engine: Engine, sandbox: str) -> None:
    receive(engine, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 2))
    control(sandbox, shop=DOMAIN, drop_next=1)
    push(engine)
    assert rows(engine, OUTCOMES) == [("error", None, "shopify.no_answer")]

    push(engine)

    assert rows(engine, OUTCOMES)[0][:2] == ("done", "pushed")
    assert applied(sandbox) == [(10, 7)]


def test_level_that_moved_at_shopify_is_read_and_then_set_to_our_count(engine: Engine, sandbox: str) -> None:
    """Shopify has forty-two after our sale, and the webhook of that change is lost."""
    receive(engine, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 2))
    held = {"inventory_item_id": ITEM, "location_id": LOCATION, "available": 42}
    control(sandbox, shop=DOMAIN, levels=[held])

    push(engine)
    assert rows(engine, OUTCOMES)[0] == ("done", "superseded", None)
    assert applied(sandbox) == []
    assert rows(engine, "select shopify_available, available from inventory_levels") == [(42, 7)]

    push(engine)

    assert applied(sandbox) == [(42, 7)]
    assert rows(engine, "select shopify_available, available from inventory_levels") == [(7, 7)]


def test_sale_that_shopify_took_off_its_own_figure_is_read_and_not_pushed(
    engine: Engine, sandbox: str
) -> None:
    receive(engine, order(lines=[line(quantity=3)]))
    held = {"inventory_item_id": ITEM, "location_id": LOCATION, "available": 7}
    control(sandbox, shop=DOMAIN, levels=[held])

    push(engine)

    assert rows(engine, OUTCOMES) == [("done", "in_sync", None)]
    assert applied(sandbox) == []
    assert rows(engine, "select shopify_available, available from inventory_levels") == [(7, 7)]


def test_change_at_a_shop_that_shopify_owns_plans_no_push(engine: Engine, sandbox: str) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopify'")
        tx.exec_driver_sql("update inventory_levels set counted_at = null, counted_available = null")

    receive(engine, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(4, 1))

    assert rows(engine, OUTCOMES) == []
    assert rows(engine, "select shopify_available, available from inventory_levels") == [(4, 4)]


def stock_up(engine: Engine, sandbox: str, numbers: range) -> None:
    """Stock ``count`` items with ten pieces, here and at Shopify, and sell one of each.

    The order does not change Shopify's figures.
    """
    held = [{"inventory_item_id": n, "location_id": LOCATION, "available": 10} for n in numbers]
    control(sandbox, shop=DOMAIN, levels=held)
    ingest(engine, ingest_products, *(product(f"SKU{n}", number=n, variant=n) for n in numbers))
    ingest(engine, ingest_inventory_levels, *(level(10, -1, number=n) for n in numbers))
    count_levels(engine)
    clear_work_queue(engine)
    receive(engine, order(lines=[line(ORDER + 1 + n - ITEM, f"SKU{n}") for n in numbers]))
    ingest(engine, ingest_inventory_levels, *(level(10, 2, number=n) for n in numbers))


def test_many_levels_are_pushed_in_one_call(engine: Engine, sandbox: str) -> None:
    numbers = range(ITEM + 1, ITEM + 9)
    stock_up(engine, sandbox, numbers)

    push(engine)

    assert rows(engine, OUTCOMES) == [("done", "pushed", None)] * len(numbers)
    assert applied(sandbox) == [(10, 9)] * len(numbers)
    assert len(keys(sandbox)) == 1


def test_six_hundred_levels_in_three_calls_with_a_throttle_between(engine: Engine, sandbox: str) -> None:
    stock_up(engine, sandbox, range(ITEM + 1, ITEM + 601))
    control(sandbox, shop=DOMAIN, bucket={"maximum": 100, "restore_per_second": 0.001, "available": 15})

    push(engine)
    push(engine)
    waiting = ("pending", None, None)
    assert rows(engine, OUTCOMES).count(("done", "pushed", None)) == 250
    assert rows(engine, OUTCOMES).count(waiting) == 350
    assert rows(engine, "select max(retry_count) from work_queue") == [(0,)]
    control(sandbox, shop=DOMAIN, bucket={"maximum": 2000, "restore_per_second": 100, "available": 2000})
    with transaction(engine) as tx:
        tx.exec_driver_sql("delete from rate_limits")
    push(engine)
    push(engine)

    assert rows(engine, OUTCOMES) == [("done", "pushed", None)] * 600
    assert sorted(applied(sandbox)) == [(10, 9)] * 600
    assert len(keys(sandbox)) == 3


def test_one_bad_item_among_250_fails_alone(engine: Engine, sandbox: str) -> None:
    stock_up(engine, sandbox, range(ITEM + 1, ITEM + 251))
    control(sandbox, shop=DOMAIN, deleted_items=[ITEM + 100])

    push(engine)

    refused = ("dead", None, "shopify.invalid_inventory_item")
    assert [row for row in rows(engine, OUTCOMES) if row[1] != "pushed"] == [refused]
    assert sorted(applied(sandbox)) == [(10, 9)] * 249


def test_token_that_expired_is_refreshed_on_the_way(engine: Engine, sandbox: str) -> None:
    app = {"client_id": "app", "client_secret": "shpss_secret"}
    control(sandbox, shop=DOMAIN, token="", oauth=app | {"refresh_token": "shprt_first"})
    with transaction(engine) as tx:
        record_secret(tx, 1, "shopify-refresh-token", "shprt_first", utc_now())
        record_secret(tx, 1, "shopify-client-id", "app", utc_now())
        record_secret(tx, 1, "shopify-client-secret", "shpss_secret", utc_now())
    receive(engine, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 2))

    push(engine)

    assert rows(engine, OUTCOMES) == [("done", "pushed", None)]
    assert applied(sandbox) == [(10, 7)]


def test_push_that_waits_for_another_ones_answer_is_due_once_it_is_known(
    engine: Engine, sandbox: str
) -> None:
    control(sandbox, shop=DOMAIN, drop_next=1)
    receive(engine, order(lines=[line(quantity=3)]))
    ingest(engine, ingest_inventory_levels, level(10, 2))
    push(engine)
    receive(engine, order(number=ORDER + 50, lines=[line(ORDER + 51)]))
    ingest(engine, ingest_inventory_levels, level(10, 4))
    set_due(engine, "not payload ? 'quantity'")
    run(engine)
    waits = "select next_retry_at > now() from work_queue where error_code = 'shopify.push_in_doubt'"
    assert rows(engine, waits) == [(True,)]

    set_due(engine, "payload ? 'quantity'")
    run(engine)

    assert rows(engine, waits) == [(False,)]
