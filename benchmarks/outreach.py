"""Reminders to many people: planned, composed and sent into a local sink, beside the usual loop.

The loop is the one of most small apps: for each person read the row, build the mail, connect, send, mark,
commit. Ours is the whole run of the job: 4 workers compose segments and send, with consent, leases, marks and
audit. Its time is from the start of the planning to the last mail. The sink counts what arrives: a mail that
is missing, or there twice, voids the run.
"""

import os
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from benchmarks import mail
from benchmarks.processes import BenchmarkFailed
from benchmarks.results import Report
from benchmarks.rows import EMPTY, SECRET_KEY
from benchmarks.servers import Servers, create_database, drop_database

DELAY_MS = 10
WORKERS = 4
"""With fewer, the processor is idle while all of them wait for replies."""
LOOP, OURS = "one at a time, one connection per mail", f"send-reminders, {WORKERS} workers"
JOB = "send-reminders"
LARGEST_MIB = 150

_PEOPLE = """
insert into outreach_people (shop_id, external_id, email, name, timezone, signed_up_at, created_at,
                             changed_at)
select 1 + n %% 10, n::text, 'person' || n || '@example.org', 'Person ' || n, %(zone)s,
       now() - interval '60 days', now(), now()
  from generate_series(1, %(count)s) n
"""
_IS_LEFT = """
select exists (select from work_queue where topic in ('outreach_compose', 'mail_send') and status = 'pending')
"""
_CONSENTS = """
insert into outreach_consents (person_id, shop_id, basis, source, given_at, created_at)
select id, shop_id, 'express', 'form', now() - interval '60 days', now() from outreach_people
"""


def measure(servers: Servers, *, people: int) -> Report:
    """Return the report on ``people`` people, and on the loop over a few of them."""
    report = Report(
        name="outreach",
        title=f"Reminders to {people:,} people, {DELAY_MS} ms per reply",
        columns={"mails_per_second": "mails/s", "seconds": "s", "peak_mib": "peak MiB of a process"},
        baseline=LOOP,
        settings={"delay_ms": DELAY_MS, "people": people, "workers": WORKERS, "load": os.getloadavg()[0]},
    )
    try:
        count = mail.COUNTS[mail.BASELINE][DELAY_MS]
        with mail.open_sink(DELAY_MS) as sink:
            rate = mail.find_rate(servers, sink, mail.BASELINE, count)
        report.add(LOOP, {"mails_per_second": rate, "seconds": count / rate, "peak_mib": 0})
        report.add(OURS, _measure_run(servers, people))
    except BenchmarkFailed as failed:
        report.fail(OURS, failed)
    return report


def _measure_run(servers: Servers, people: int) -> dict[str, float]:
    name = f"outreach_{time.monotonic_ns()}"
    url = create_database(servers, name, template=EMPTY)
    try:
        with mail.open_sink(DELAY_MS) as sink, ExitStack() as stack:
            env = {
                "DATABASE_URL": url, "BROKER_URL": servers.broker_url, "SECRET_KEY": SECRET_KEY,
                "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "MAIL_FROM": "Bench <bench@example.org>",
                "PUBLIC_URL": "https://hooks.example.org", "LOG_LEVEL": "warning",
            }  # fmt: skip
            programs = [
                stack.enter_context(mail.open_program("benchmarks.outreach", [way, str(people)], env))
                for way in ("plan", *["work"] * WORKERS)
            ]
            mail.start(programs[:1])  # the people are stored before it is ready
            started = float(mail.read_line(programs[0]))
            mail.start(programs[1:])
            results = [mail.read_line(one).split() for one in programs[1:]]
            ended, peaks = zip(*[map(float, one) for one in results], strict=True)
            mails, different, _ = sink.counts()
        if (mails, different) != (people, people):
            raise BenchmarkFailed(f"{mails} mails for {people} people arrived, {different} different ones")
        if max(peaks) > LARGEST_MIB:
            raise BenchmarkFailed(f"a process used {max(peaks):.0f} MiB, more than {LARGEST_MIB}")
        seconds = max(ended) - started
        return {"mails_per_second": people / seconds, "seconds": seconds, "peak_mib": max(peaks)}
    finally:
        drop_database(servers, name)


def _plan(people: int) -> None:
    """Store the people; then plan the run, and print the time at which that began."""
    import beat_schedule
    from services.core.clock import utc_now
    from services.core.db import get_engine, transaction
    from services.jobs.handler import JobHandler
    from services.jobs.runs import trigger_job
    from services.jobs.store import get_job, record_jobs
    from services.ledger.runner_external import ExternalRunner
    from services.ledger.topics import TOPICS
    from services.outreach.job import start_series
    from services.shops.shops import list_shops, set_shop

    hours = 12 - utc_now().hour
    zone = f"Etc/GMT{-hours:+d}" if hours else "UTC"  # noon: no quiet hours
    with transaction() as tx:
        for shop in list_shops(tx):
            sender = {"postal_address": "1 Main St, Victoria BC, Canada", "mail_contact": "a@example.org"}
            set_shop(tx, shop.slug, sender, now=utc_now())
        tx.exec_driver_sql(_PEOPLE, {"zone": zone, "count": people})
        tx.exec_driver_sql(_CONSENTS)
        record_jobs(tx, beat_schedule.JOBS, datetime(2026, 1, 1, tzinfo=UTC))
    with transaction() as tx:
        tx.exec_driver_sql("analyze outreach_people")
        tx.exec_driver_sql("analyze outreach_consents")
    mail.await_start()
    started = time.time()
    with transaction() as tx:
        trigger_job(tx, get_job(tx, JOB), "", None, origin="cli", by="bench", now=utc_now())
    runner = ExternalRunner(get_engine(), "bench-plan", Random())
    runner.run_batch(TOPICS["outreach"], JobHandler(start_series))
    print(started, flush=True)


def _work() -> None:
    """Compose and send until nothing is left; print the time and the most memory used, in MiB."""
    from services.core.db import get_engine
    from services.ledger.runner_external import ExternalRunner
    from services.ledger.runner_transactional import TransactionalRunner
    from services.ledger.topics import TOPICS
    from services.mail.send import MailSendHandler
    from services.outreach.handler import compose_segments

    engine, name = get_engine(), f"bench-{os.getpid()}"
    with engine.connect():
        compose, send = TransactionalRunner(engine, name, Random()), ExternalRunner(engine, name, Random())
    handler = MailSendHandler()
    mail.await_start()
    while True:
        composed = compose.run_batch(TOPICS["outreach_compose"], compose_segments)
        sent = send.run_batch(TOPICS["mail_send"], handler)
        if not composed.claimed + sent.claimed and not _is_left():
            break
    print(time.time(), _read_peak_mib(), flush=True)


def _is_left() -> bool:
    """Whether the other worker still has work: it may compose mails that this one can send."""
    from services.core.db import transaction

    with transaction() as tx:
        return bool(tx.exec_driver_sql(_IS_LEFT).scalar())


def _read_peak_mib() -> float:
    """Return the most memory this process had; ``getrusage`` counts its parent's before the start too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    _plan(int(sys.argv[2])) if sys.argv[1] == "plan" else _work()
