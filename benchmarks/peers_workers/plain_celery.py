"""Plain Celery as its first steps show it: one message and one commit per event."""

import os

from celery import Celery

from benchmarks.peers_workers.effect import ingest_event, ingest_one

app = Celery("plain", broker=os.environ["BENCH_BROKER_URL"])
app.conf.update(
    task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=4
)


@app.task(queue="inventory")
def inventory_push(shop_id: int, item_id: int) -> None:
    """No worker receives these: only the sending work is measured."""


@app.task
def order_ingest(work_id: int) -> None:
    """Carry out one work row, then send a message for each stock level it changed."""
    for shop_id, item_id in ingest_one(work_id):
        inventory_push.delay(shop_id, item_id)


@app.task
def order_ingest_event(event_id: int) -> None:
    """Carry out one event that has no work row."""
    ingest_event(event_id)


def fill(count: int) -> None:
    """Send one message per row."""
    for work_id in range(1, count + 1):
        order_ingest.delay(work_id)
