"""Plain Celery around the product's own effect: shows the value of the queue, as all other code is the same.

One message, one transaction and one commit an event, as in ``peers_workers/plain_celery.py``; but each event
is read, ordered among the states of its order, counted and proven just as the product does it.
"""

import os
from functools import cache
from random import SystemRandom
from typing import Any

from celery import Celery
from sqlalchemy import event

from services.core.db import make_engine
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.shopify.orders.handler import ingest_orders

app = Celery("plain_ours", broker=os.environ["BENCH_BROKER_URL"])
app.conf.update(
    task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4
)


@cache
def _runner() -> TransactionalRunner:
    """Return this process's runner, made at first use (after the fork)."""
    engine = make_engine(os.environ["BENCH_DATABASE_URL"], application="bench")

    @event.listens_for(engine, "connect")
    def plan_once(connection: Any, _: object) -> None:
        """Plan each statement once, as the product does for small batches: much faster here."""
        connection.execute("set plan_cache_mode = force_generic_plan")
        connection.commit()

    return TransactionalRunner(engine, f"plain-{os.getpid()}", SystemRandom())


@app.task
def inventory_push(work_id: int) -> None:
    """No worker receives these: only the sending work is measured."""


@app.task
def order_ingest(work_id: int) -> None:
    """Carry out one work row, then send a message for each row of work that follows."""
    report = _runner().run_one(TOPICS["order_ingest"], ingest_orders, work_id, None)
    for ref in report.refs:
        inventory_push.apply_async((ref.id,), queue="inventory")


def fill(count: int) -> None:
    """Send one message per row."""
    for work_id in range(1, count + 1):
        order_ingest.delay(work_id)
