"""Rows that wait for workers: events with real bodies and their planned work, in a template database.

Every measured run gets its own copy of the same prepared database, so none of them inherits another's bloat.
"""

from datetime import UTC, datetime, timedelta

import psycopg

from benchmarks.payloads import FIRST_PLACED, FIRST_VARIANT_ID, SECRET, SKUS, make_body
from benchmarks.processes import BenchmarkFailed
from benchmarks.servers import Servers, create_database
from services.core.crypto import Sealer
from services.core.db import make_engine, transaction
from services.schema.migrate import apply_migrations
from services.shops.secrets import record_secret
from services.shops.shops import add_shop

SHOPS = 10
EMPTY = "bench_empty"
READY = "bench_ready"
SECRET_KEY = "benchmark-only-key-that-seals-nothing-real"


def make_empty_template(servers: Servers) -> None:
    """Make a database with the product's tables and ``SHOPS`` shops; the first one's slug is ``bench``."""
    url = create_database(servers, EMPTY)
    apply_migrations(url)
    engine, now = make_engine(url, application="bench"), datetime.now(UTC)
    try:
        with transaction(engine) as tx:
            for number in range(SHOPS):
                shop = add_shop(
                    tx,
                    slug=f"bench{number}" if number else "bench",
                    name=f"Bench {number}",
                    timezone="America/Vancouver",
                    currency="CAD",
                    shopify_domain=f"bench{number}.myshopify.com" if number else "bench.myshopify.com",
                    now=now,
                )
                record_secret(tx, shop.id, "shopify-webhook", SECRET, now, sealer=Sealer(SECRET_KEY))
    finally:
        engine.dispose()


LEVELS = """
insert into inventory_levels (shop_id, inventory_item_id, location_id, sku, available, observed_available,
                              observed_at, shopify_available, changed_at, counted_available, counted_at)
select s.id, %(first)s + n, 1, 'SKU-' || lpad(n::text, 5, '0'), 100000, 100000, %(seen)s, 100000, %(seen)s,
       100000, %(counted)s
from shops s cross join generate_series(0, %(skus)s - 1) n
"""


def make_ready_template(
    servers: Servers, count: int, *, has_levels: bool = False, shops: int = SHOPS
) -> None:
    """Make a database with ``count`` accepted orders whose work waits; ids run from 1 to ``count``.

    They are of the first ``shops`` shops, in turn.

    With ``has_levels`` every shop owns and counted every sku, so an order changes levels and pushes follow.
    """
    url = create_database(servers, READY, template=EMPTY)
    now = datetime.now(UTC)
    with psycopg.connect(url) as conn:
        copy_events = (
            "copy inbound_events (shop_id, provider, topic, delivery_key, body, received_at, occurred_at) "
            "from stdin (format binary)"
        )
        with conn.cursor().copy(copy_events) as copy:
            copy.set_types(["int4", "text", "text", "text", "bytea", "timestamptz", "timestamptz"])
            for number in range(1, count + 1):
                copy.write_row(
                    (
                        1 + number % shops,
                        "shopify",
                        "orders/create",
                        f"ready-{number}",
                        make_body(number),
                        now,
                        now,
                    )
                )
        conn.execute(
            "insert into work_queue (shop_id, queue, topic, key, event_id, created_at) "
            "select shop_id, 'webhooks', 'order_ingest', 'order:' || id, id, received_at "
            "from inbound_events order by id"
        )
        if has_levels:
            # Counted before the orders and observed after them: the orders left Shopify's own figures alone.
            conn.execute("update shop_config set stock_owner = 'shopfleet'")
            counted, seen = (
                FIRST_PLACED - timedelta(days=1),
                FIRST_PLACED + timedelta(minutes=2, seconds=count),
            )
            values = {"first": FIRST_VARIANT_ID, "seen": seen, "counted": counted, "skus": SKUS}
            conn.execute(LEVELS, values)
        last = conn.execute("select max(id) from work_queue").fetchone()
    if last is None or last[0] != count:
        raise BenchmarkFailed(f"the last prepared row should have id {count}, not {last}")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("vacuum analyze")
