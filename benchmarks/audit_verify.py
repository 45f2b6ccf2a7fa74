"""Speed of the verification of a chain: streamed from PostgreSQL by one and by two processes, and the limit.

The limit is hashlib alone over ready bytes: no verification in Python can be faster on one core. Each
process reports its own time, processor time and peak memory. Rows are like those of ``order_ingest``.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg

from benchmarks.memory import peak_mib
from benchmarks.processes import ROOT, BenchmarkFailed
from benchmarks.results import Figures, Report
from benchmarks.servers import Servers, create_database, drop_database
from services.audit.chain import (
    BEGINNING,
    FIRST_PREV_HASH,
    ChainPosition,
    Mutation,
    event_text,
    format_utc,
    hash_text,
    mutations_text,
    verify_rows,
)
from services.audit.queries import StoredChain, stream_rows
from services.core.db import make_engine
from services.schema.migrate import apply_migrations

LIMIT, MEMORY = "hashlib alone, in memory", "the walk, rows in memory"
ONE, TWO = "verify, one process", "verify, two processes by segments"
COLUMNS = {
    "rows_per_second": "rows/s",
    "rows_per_cpu_second": "rows/s of its processor time",
    "peak_mib": "peak MiB of a process",
    "seconds": "seconds",
}
DATABASE = "bench_audit"
SAMPLE = 100_000
"""Rows that are held in memory for the two ways that read none."""

_COPY = (
    "copy audit_events (shop_id, seq, at, staff_label, action, request_id, work_id, mutations, prev_hash,"
    " hash) from stdin"
)


def measure(servers: Servers, *, rounds: int, rows: int) -> list[Report]:
    """Return the report of ``rounds`` rounds over one chain of ``rows``."""
    report = Report(
        name="audit-verify",
        title=f"Audit: verifying one chain of {rows} rows",
        columns=COLUMNS,
        baseline=LIMIT,
        settings={"rounds": rounds, "rows": rows, "sample_rows": min(rows, SAMPLE)},
    )
    print(f"preparing a chain of {rows} rows", file=sys.stderr)
    url = create_database(servers, DATABASE)
    apply_migrations(url)
    try:
        report.settings = {**report.settings, "bytes_a_row": _fill(url, rows)}
        for _ in range(rounds):
            for way, segments in ((LIMIT, 0), (MEMORY, 0), (ONE, 1), (TWO, 2)):
                report.add(way, _measure_once(url, way, rows, segments))
    finally:
        drop_database(servers, DATABASE)
    return [report]


def _fill(url: str, count: int) -> int:
    """Write a chain of ``count`` events; return the mean size of what is hashed."""
    last, began, size = FIRST_PREV_HASH, datetime(2026, 11, 1, tzinfo=UTC), 0
    with psycopg.connect(url) as connection:
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for seq in range(1, count + 1):
                at = format_utc(began + timedelta(milliseconds=37 * seq))
                event = (1, seq, at, "webhook", "order_ingest", f"{seq:032x}", seq, _make_mutations(seq, at))
                text = event_text(*event)
                digest = hash_text(last, text)
                copy.write_row((*event, last, digest))
                size += len(text) + 65
                last = digest
        connection.execute("analyze audit_events")
    return size // count


def _make_mutations(seq: int, at: str) -> str:
    sold = Mutation(
        "inventory_levels",
        str(seq % 500),
        f"stock of SKU-{seq % 500:05d} at Main {seq % 90 + 1} -> {seq % 90} by order #{seq}",
        {"available": seq % 90 + 1},
        {"available": seq % 90, "changed_at": at},
    )
    return mutations_text([sold])


def _measure_once(url: str, way: str, rows: int, segments: int) -> Figures:
    """Run the way in processes of its own, which all begin at once."""
    bounds = [rows * part // max(segments, 1) for part in range(max(segments, 1) + 1)]
    began = time.perf_counter()
    walkers = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.audit_verify", url, way, str(after), str(until)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for after, until in pairwise(bounds)
    ]
    outputs = [walker.communicate()[0] for walker in walkers]
    if any(walker.returncode for walker in walkers):
        raise BenchmarkFailed(f"{way} failed", "\n".join(part.decode() for part in outputs))
    parts = [json.loads(part) for part in outputs]
    done = sum(part["rows"] for part in parts)
    if segments and done != rows:
        raise BenchmarkFailed(f"{way} verified {done} of {rows} rows")
    seconds = max(part["ended"] for part in parts) - min(part["began"] for part in parts)
    return {
        "rows_per_second": round(done / seconds),
        "rows_per_cpu_second": round(done / sum(part["cpu_seconds"] for part in parts)),
        "peak_mib": max(part["peak_mib"] for part in parts),
        "seconds": round(seconds, 3),
        "with_start_seconds": round(time.perf_counter() - began, 3),
    }


def _walk(url: str, way: str, after: int, until: int) -> Figures:
    """Do one process's share. Clocks that are shared by all processes: the first and last say how long."""
    engine = make_engine(url, application="bench")
    try:
        with engine.begin() as tx:
            stream = stream_rows(tx, 1, after, min(until, SAMPLE) if way in (LIMIT, MEMORY) else until)
            if way in (LIMIT, MEMORY):
                rows = [row for block in stream for row in block]
                ready = [f"{row[7]}\n{row[6]}{' ' * 200}".encode() for row in rows] if way == LIMIT else []
                before = _now()
                if way == LIMIT:
                    for text in ready:
                        hashlib.sha256(text).hexdigest()
                    place, broken = ChainPosition(len(rows), ""), None
                else:
                    place, broken = verify_rows(rows, 1, BEGINNING)
            else:
                row = StoredChain(tx, 1).find_at(after)
                place, broken = (ChainPosition(row.seq, row.hash) if row else BEGINNING), None
                before = _now()
                for block in stream:
                    place, broken = verify_rows(block, 1, place)
                    if broken is not None:
                        break
            ended = _now()
    finally:
        engine.dispose()
    if broken is not None:
        raise BenchmarkFailed(f"row {broken.seq} does not verify")
    return {
        "rows": place.seq - after,
        "began": before[0],
        "ended": ended[0],
        "cpu_seconds": ended[1] - before[1],
        "peak_mib": round(peak_mib(), 1),
    }


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def main() -> int:
    """One process's share of a measurement; prints JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit_verify", description=main.__doc__)
    parser.add_argument("url")
    parser.add_argument("way")
    parser.add_argument("after", type=int)
    parser.add_argument("until", type=int)
    args = parser.parse_args()
    print(json.dumps(_walk(args.url, args.way, args.after, args.until)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
