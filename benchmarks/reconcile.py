"""Speed of the reconciliation of a day: matched in PostgreSQL, and by an ORM and a dictionary.

Both sides have the same rows, with breaks of every kind planted among them. A way's result is compared with
what was planted as a set: one break missed or invented voids it. Each way runs in a process of its own,
which reports its time and its peak memory, against its own copy of one prepared database.
"""

import json
import subprocess
import sys
from pathlib import Path

import psycopg

from benchmarks.processes import ROOT, BenchmarkFailed
from benchmarks.reconcile_rows import our_rows, write_their_rows
from benchmarks.results import Figures, Report
from benchmarks.servers import Servers, create_database, drop_database
from services.core.pg_copy import COPY_FORMAT
from services.payments.stripe_lists import render_rows
from services.schema.migrate import apply_migrations

NAIVE, OURS = "ORM, all rows in a dictionary", "shopfleet, COPY and full outer join"
COLUMNS = {
    "seconds": "seconds",
    "rows_per_second": "rows a side/s",
    "peak_mib": "peak MiB of the process",
    "cpu_seconds": "its processor time",
    "breaks": "breaks, all of them and no other",
}
TEMPLATE, DATABASE = "bench_books", "bench_books_run"

_COPY = f"copy ours from stdin with ({COPY_FORMAT})"
_STAGE = """
create temporary table ours (
  kind text, provider_id text, amount_cents bigint, currency text, status text, created bigint,
  parent_id text, order_ref text, refunded_cents bigint, fee_cents bigint) on commit drop
"""
_FILL = """
insert into transactions (shop_id, provider_id, kind, status, amount_cents, refunded_cents, currency,
                          occurred_at, parent_id, version_at, fee_cents, order_ref, content_digest)
select 1, provider_id, kind, status, amount_cents, refunded_cents, currency, to_timestamp(created),
       nullif(parent_id, ''), to_timestamp(created), fee_cents, order_ref, md5(provider_id) from ours
"""


def measure(servers: Servers, *, rounds: int, rows: int) -> list[Report]:
    """Return the report of ``rounds`` rounds over ``rows`` a side."""
    report = Report(
        name="reconcile",
        title=f"Reconciliation: {rows} against {rows} rows, 0.1% planted breaks of each kind",
        columns=COLUMNS,
        baseline=NAIVE,
        settings={"rounds": rounds, "rows_a_side": rows, "planted_permille_a_kind": 1},
        is_less_better=True,
    )
    print(f"preparing {rows} transactions", file=sys.stderr)
    url = create_database(servers, TEMPLATE)
    apply_migrations(url)
    try:
        _fill(url, rows)
        theirs = servers.home / "their-rows"
        write_their_rows(theirs, rows)
        for _ in range(rounds):
            for way in (NAIVE, OURS):
                report.add(way, _measure_once(servers, way, theirs, rows))
    finally:
        drop_database(servers, DATABASE)
        drop_database(servers, TEMPLATE)
    return [report]


def _fill(url: str, rows: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(_STAGE)
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for block in render_rows(our_rows(rows)):
                copy.write(block)
        connection.execute(_FILL)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze transactions")


def _measure_once(servers: Servers, way: str, theirs: Path, rows: int) -> Figures:
    url = create_database(servers, DATABASE, template=TEMPLATE)
    module = "benchmarks.reconcile_naive" if way == NAIVE else "benchmarks.reconcile_ours"
    ran = subprocess.run(
        [sys.executable, "-m", module, url, str(theirs), str(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchmarkFailed(f"{way} failed", ran.stderr[-2000:])
    figures: Figures = json.loads(ran.stdout)
    return {**figures, "rows_per_second": round(rows / figures["seconds"])}
