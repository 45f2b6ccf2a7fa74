"""Mails per second into a local sink: the usual ways and the outbox, in one run.

All ways begin with the same rows that wait and end with rows that say ``sent``. The usual ones read a row,
build the mail with the standard library, send it and commit; the outbox does so through the ledger's runner,
with its leases, its marks before and after, and its audit. The bare ways only send finished mails: what the
wire and the sink can do at most. The sink is a process of its own and counts what arrives: a mail that is
missing, or there twice, voids the round.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from smtplib import SMTP

from benchmarks.mail_ways import BARE, make_mail
from benchmarks.processes import ROOT, BenchmarkFailed
from benchmarks.results import Report
from benchmarks.rows import EMPTY, SECRET_KEY, SHOPS
from benchmarks.servers import Servers, create_database, drop_database
from services.core.db import make_engine, transaction
from services.ledger.accept import record_work
from services.mail.outbox import record_mails

BASELINE = "one connection per mail"
OURS = {"outbox, 1 worker": 1, "outbox, 2 workers": 2}
COUNTS = {
    BASELINE: {0: 600, 10: 40},
    "16 threads, kept connections": {0: 2000, 10: 800},
    "bare: one connection per mail": {0: 2000, 10: 40},
    "bare: 16 threads, kept connections": {0: 4000, 10: 800},
    "outbox, 1 worker": {0: 6000, 10: 4000},
    "outbox, 2 workers": {0: 8000, 10: 6000},
}
"""Mails a round, by milliseconds a reply takes: about as many seconds for each way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sink:
    port: int

    def counts(self) -> tuple[int, int, int]:
        """Return (mails, different mails, connections) so far."""
        with SMTP("127.0.0.1", self.port) as server:
            code, reply = server.docmd("XSTA")
        if code != 250:
            raise BenchmarkFailed(f"the sink answered {code}")
        mails, different, connections = reply.split()
        return int(mails), int(different), int(connections)


def measure(servers: Servers, *, rounds: int, delay_ms: int, only: str = "") -> Report:
    """Return the report on a sink whose replies take ``delay_ms`` each."""
    report = Report(
        name=f"mail-{delay_ms}ms",
        title=f"Mails a second into a local sink, {delay_ms} ms per reply",
        columns={"mails_per_second": "mails/s", "connections": "connections"},
        baseline=BASELINE,
        settings={
            "delay_ms": delay_ms,
            "rounds": rounds,
            "counts": {w: c[delay_ms] for w, c in COUNTS.items()},
        },
    )
    wanted = [part.strip().lower() for part in only.split(",") if part.strip()]
    ways = [way for way in COUNTS if not wanted or any(part in way.lower() for part in wanted)]
    for _ in range(rounds):
        for way in ways:
            try:
                with open_sink(delay_ms) as sink:
                    count = COUNTS[way][delay_ms]
                    rate = find_rate(servers, sink, way, count)
                    mails, different, connections = sink.counts()
                if (mails, different) != (count, count):
                    raise BenchmarkFailed(
                        f"{way}: {mails} mails of {count} arrived, {different} different ones"
                    )
                report.add(way, {"mails_per_second": rate, "connections": connections - 1})
            except BenchmarkFailed as failed:
                report.fail(way, failed)
    return report


def find_rate(servers: Servers, sink: _Sink, way: str, count: int) -> float:
    """Return the mails per second of a way."""
    if way in BARE:
        with _open_way(way, sink, count, {}) as program:
            start([program])
            return count / float(read_line(program))
    name = f"mail_{time.monotonic_ns()}"
    url = create_database(servers, name, template=EMPTY)
    try:
        _fill(url, count)
        env = {
            "DATABASE_URL": url,
            "BROKER_URL": servers.broker_url,
            "SECRET_KEY": SECRET_KEY,
            "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
            "MAIL_FROM": "Bench <bench@example.org>",
            "LOG_LEVEL": "warning",
        }
        with ExitStack() as stack:
            names = ["outbox"] * OURS[way] if way in OURS else [way]
            programs = [stack.enter_context(_open_way(name, sink, count, env)) for name in names]
            start(programs)
            for program in programs:
                read_line(program)
        return _read_rate(url, count, is_ours=way in OURS)
    finally:
        drop_database(servers, name)


def _fill(url: str, count: int) -> None:
    engine, now = make_engine(url, application="bench"), datetime.now(UTC)
    try:
        with transaction(engine) as tx:
            mails = [make_mail(n, shop_id=1 + n % SHOPS) for n in range(count)]
            record_work(tx, record_mails(tx, mails, now), now)
        with transaction(engine) as tx:
            tx.exec_driver_sql("analyze mail_outbox")
            tx.exec_driver_sql("analyze work_queue")
    finally:
        engine.dispose()


def _read_rate(url: str, count: int, *, is_ours: bool) -> float:
    """Return mails per second after the first tenth, by the timestamps of the rows."""
    engine = make_engine(url, application="bench")
    try:
        with transaction(engine) as tx:
            sent = [row[0] for row in tx.exec_driver_sql("select sent_at from mail_outbox order by sent_at")]
            settled = tx.exec_driver_sql("select count(*) from work_queue where result = 'sent'").scalar()
            audited = tx.exec_driver_sql(
                "select count(*) from audit_events where action = 'mail.sent'"
            ).scalar()
    finally:
        engine.dispose()
    if None in sent or (is_ours and (settled, audited) != (count, count)):
        raise BenchmarkFailed(f"of {count} mails {settled} are settled and {audited} audited")
    first = len(sent) // 10
    return float((len(sent) - first) / (sent[-1] - sent[first]).total_seconds())


@contextmanager
def open_sink(delay_ms: int) -> Iterator[_Sink]:
    argv = [sys.executable, "-m", "benchmarks.mail_sink", "--delay-ms", str(delay_ms)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Sink(port=int(read_line(process)))
        finally:
            process.kill()


def _open_way(
    way: str, sink: _Sink, count: int, env: dict[str, str]
) -> AbstractContextManager[subprocess.Popen[str]]:
    return open_program("benchmarks.mail_ways", [way, str(sink.port), str(count)], env)


@contextmanager
def open_program(module: str, words: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a module that prints ``ready`` and waits for a line."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def start(programs: list[subprocess.Popen[str]]) -> None:
    for program in programs:
        if read_line(program) != "ready":
            raise BenchmarkFailed("a program did not become ready")
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise BenchmarkFailed(f"a program ended with {process.poll()}")
    return line


def await_start() -> None:
    """Print that this program is ready, and wait for its start."""
    print("ready", flush=True)
    sys.stdin.readline()
