"""Many levels of a shop with a push each, and the worker that pushes them."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import NewWork
from services.shopify.stock.push import InventoryPushHandler
from tests.shopify.push_shop import FakeStockApi
from tests.shopify.sample_payloads import rows

TOPIC = TOPICS["inventory_push"]
WORK = """
select id, status, result, case when status <> 'done' then error_code end, retry_count, payload
  from work_queue order by id
"""


def plan(engine: Engine, count: int, *, shop_id: int = 1) -> None:
    """Insert ``count`` levels (ten at Shopify, three recorded), each with a push."""
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set stock_owner = 'shopfleet'")
        tx.execute(
            text(
                "insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, "
                "observed_available, observed_at, shopify_available, changed_at, counted_available, "
                "counted_at) select :shop, n, 1, 'SKU' || n, 3, 10, '2026-01-01', 10, now(), 3, "
                "'2026-01-01' from generate_series(1, :count) n"
            ),
            {"count": count, "shop": shop_id},
        )
        pushes = [NewWork(shop_id=shop_id, topic=TOPIC.name, key=f"{n}:1") for n in range(1, count + 1)]
        record_work(tx, pushes, utc_now())


def push(engine: Engine, api: FakeStockApi, worker: str = "tests") -> Any:
    """Run a worker once; retries are due at once."""
    with transaction(engine) as tx:
        tx.exec_driver_sql("update work_queue set next_retry_at = null where status in ('pending', 'error')")
    runner = ExternalRunner(engine, worker, random.Random(1))
    return runner.run_batch(TOPIC, InventoryPushHandler(lambda access: api))


def work(engine: Engine) -> Counter[tuple[Any, ...]]:
    return Counter(row[1:5] for row in rows(engine, WORK))


def sizes(api: FakeStockApi) -> list[int]:
    return [len(one["quantities"]) for one in api.requests]


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    from sqlalchemy import event

    seen: list[str] = []
    listen: Callable[..., None] = lambda *a: seen.append(a[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listen)
    yield seen
    event.remove(engine, "before_cursor_execute", listen)
