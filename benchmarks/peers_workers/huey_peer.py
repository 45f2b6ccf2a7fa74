"""huey on Redis."""

import os

from huey import RedisHuey

from benchmarks.peers_workers.effect import ingest_one

huey = RedisHuey("bench", url=os.environ["BENCH_BROKER_URL"], results=False)


@huey.task()
def order_ingest(work_id: int) -> None:
    """Carry out one work row."""
    ingest_one(work_id)


def fill(count: int) -> None:
    """Send one message per row."""
    for work_id in range(1, count + 1):
        order_ingest(work_id)
