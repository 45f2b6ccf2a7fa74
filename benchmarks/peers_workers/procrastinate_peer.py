"""procrastinate: its jobs live in the same PostgreSQL. Sync tasks, as its quick start shows them."""

import os

from procrastinate import App, PsycopgConnector

from benchmarks.peers_workers.effect import ingest_one

app = App(
    connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"]),
    import_paths=["benchmarks.peers_workers.procrastinate_peer"],
)


@app.task(name="order_ingest", queue="webhooks")
def order_ingest(work_id: int) -> None:
    """Carry out one work row."""
    ingest_one(work_id)


def fill(count: int) -> None:
    """Make procrastinate's tables, then defer one job per row with its batch call."""
    with app.open():
        app.schema_manager.apply_schema()
        for first in range(1, count + 1, 1000):
            last = min(first + 1000, count + 1)
            order_ingest.batch_defer(*({"work_id": work_id} for work_id in range(first, last)))
