"""RQ, with SimpleWorker: its fast worker, which does not fork for each job."""

import os

from redis import Redis
from rq import Queue

from benchmarks.peers_workers.effect import ingest_one


def order_ingest(work_id: int) -> None:
    """Carry out one work row."""
    ingest_one(work_id)


def fill(count: int) -> None:
    """Send one message per row, in pipelined sets of 500 as RQ's documentation advises."""
    queue = Queue("webhooks", connection=Redis.from_url(os.environ["BENCH_BROKER_URL"]))
    jobs = [
        Queue.prepare_data(order_ingest, args=(work_id,), result_ttl=0) for work_id in range(1, count + 1)
    ]
    for first in range(0, count, 500):
        queue.enqueue_many(jobs[first : first + 500])
