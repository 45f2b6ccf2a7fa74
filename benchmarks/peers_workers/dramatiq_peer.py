"""Dramatiq with its Redis broker; two processes of eight threads are its defaults on two cores."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers_workers.effect import ingest_one

broker = RedisBroker(url=os.environ["BENCH_BROKER_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def order_ingest(work_id: int) -> None:
    """Carry out one work row."""
    ingest_one(work_id)


def fill(count: int) -> None:
    """Send one message per row."""
    for work_id in range(1, count + 1):
        order_ingest.send(work_id)
