"""Durations of statements per minute, kind of process and statement, as histograms."""

import logging
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict

from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.db import make_app_engine, transaction
from services.core.latency import ADD_SQL, BOUNDS_MS, BUCKETS, format_buckets
from services.core.statement_timing import name_statement, number_parameters, take_samples

WEB = ("ingress", "console")
JOBS = "jobs"
"""Kinds of processes: workers and beats are ``jobs``."""
JOBS_FLUSH_SECONDS = 60.0
MAX_STATEMENTS = 500
"""Different statements of a process; the durations of further ones are those of ``OTHER``."""
OTHER = "other"

# Sorted, so that two processes lock these rows in the same order.
_ADD = f"""
with counted as (
  select statement, count, total_ms, latency::int[] as latency
    from unnest(%(statement)s::text[], %(count)s::bigint[], %(total_ms)s::float8[], %(latency)s::text[])
      as v(statement, count, total_ms, latency)
)
insert into statement_stats as c (minute, process, statement, count, total_ms, latency)
select date_trunc('minute', %(now)s::timestamptz), %(process)s::text, * from counted order by statement
on conflict (minute, process, statement) do update
   set count = c.count + excluded.count, total_ms = c.total_ms + excluded.total_ms, latency = {ADD_SQL}
"""  # noqa: S608 - a constant
_ADD_TEXTS = """
insert into statement_texts (statement, text)
select * from unnest(%(statement)s::text[], %(text)s::text[]) order by 1 on conflict do nothing
"""

_log = logging.getLogger(__name__)


class StatementStats:
    """Adds the durations of this process's statements to ``statement_stats``. A crash loses some."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._counter: Counter[tuple[str, int]] = Counter()
        self._total_ms: defaultdict[str, float] = defaultdict(float)
        self._texts: dict[str, str] = {}
        self._known: set[str] = set()

    def flush(self, engine: Engine) -> None:
        """Write the durations since the last flush; keep them while the database is unreachable."""
        for text, duration_ms in take_samples():
            name = self._find_name(text)
            self._counter[name, bisect_left(BOUNDS_MS, duration_ms)] += 1
            self._total_ms[name] += duration_ms
        if not self._counter:
            return
        histograms: dict[str, list[int]] = {name: [0] * BUCKETS for name in sorted(self._total_ms)}
        for (name, bucket), number in self._counter.items():
            histograms[name][bucket] += number
        values = {
            "now": utc_now(),
            "process": self._process,
            "statement": [*histograms],
            "count": [sum(counts) for counts in histograms.values()],
            "total_ms": [self._total_ms[name] for name in histograms],
            "latency": [*map(format_buckets, histograms.values())],
        }
        texts = {"statement": [*self._texts], "text": [*self._texts.values()]}
        try:
            with transaction(engine) as tx:
                tx.exec_driver_sql(_ADD, values)
                tx.exec_driver_sql(_ADD_TEXTS, texts)
        except Exception as fault:  # noqa: BLE001 - the durations are kept
            _log.info("statements_not_counted", extra={"fields": {"error": str(fault)}})
            return
        self._counter.clear()
        self._total_ms.clear()
        self._texts.clear()

    def _find_name(self, text: str) -> str:
        name = name_statement(text)
        if name not in self._known:
            if len(self._known) >= MAX_STATEMENTS:
                return OTHER
            self._known.add(name)
            self._texts[name] = number_parameters(text)
        return name


def start_jobs_stats() -> None:
    """Write the durations of this process's statements every minute, in a thread.

    It opens a connection each time and closes it, so that a worker has not one more all the time.
    """
    stats = StatementStats(JOBS)

    def run() -> None:
        engine = make_app_engine("shopfleet-statements")
        while True:
            time.sleep(JOBS_FLUSH_SECONDS)
            stats.flush(engine)
            engine.dispose()

    threading.Thread(target=run, name="statement-stats", daemon=True).start()
