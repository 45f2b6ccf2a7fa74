"""The compared ways to send mail, each a program: ``python -m benchmarks.mail_ways WAY``.

A way says ``ready`` once it is loaded, waits for a line, sends, and says how long that took in seconds.
"""

import os
import smtplib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.message import EmailMessage
from queue import Empty, SimpleQueue
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

import psycopg

from services.mail.message import Mail, make_headers
from services.providers.mime import render_mime
from services.providers.outgoing_mail import OutgoingMail

SENDER, RECIPIENT = "bench@example.org", "owner@example.com"
BODY = "".join(f"Line {n}: the payment ch_{n:08d} is not in our books.\n" for n in range(20))


def make_mail(number: int, *, shop_id: int | None = None) -> Mail:
    """Return a mail of usual size: 1 KB of text, 4 KB of HTML."""
    rows = "".join(f"<tr><td>{line}</td><td>12.00 CAD</td></tr>\n" for line in BODY.splitlines() * 2)
    return Mail(
        shop_id=shop_id,
        kind="bench",
        period=str(number),
        recipient=RECIPIENT,
        subject=f"Harbour: day {number} does not agree with Stripe",
        text=BODY,
        html=f"<!doctype html><html><body><table>\n{rows}</table></body></html>\n",
    )


def _contents(count: int) -> list[bytes]:
    """Return finished mails: the bare ways neither read nor compose nor write anything down."""
    now = datetime.now(UTC)
    return [
        render_mime(
            OutgoingMail(
                sender=SENDER,
                recipient=mail.recipient,
                subject=mail.subject,
                text=mail.text,
                html=mail.html,
                message_id=f"{uuid4()}@example.org",
                date=now,
                headers=make_headers(mail),
            )
        )
        for mail in map(make_mail, range(count))
    ]


def bare_one_connection_per_mail(port: int, contents: list[bytes]) -> None:
    """Connect, send, hang up, for each."""
    for content in contents:
        with smtplib.SMTP("127.0.0.1", port) as server:
            server.sendmail(SENDER, [RECIPIENT], content)


def bare_kept_connections(port: int, contents: list[bytes], threads: int = 16) -> None:
    """Send over one kept connection in each of 16 threads."""

    def work(queue: SimpleQueue[bytes]) -> None:
        with smtplib.SMTP("127.0.0.1", port) as server:
            for content in _drain(queue):
                server.sendmail(SENDER, [RECIPIENT], content)

    _in_threads(work, contents, threads)


def one_connection_per_mail(port: int, ids: list[int]) -> None:
    """Do for each row what most code does: read it, build it, connect, send, hang up, mark it, commit."""
    with psycopg.connect(_database_url()) as conn:
        for row_id in ids:
            message = _read_message(conn, row_id)
            with smtplib.SMTP("127.0.0.1", port) as server:
                server.send_message(message)
            _mark_sent(conn, row_id)


def kept_connections(port: int, ids: list[int], threads: int = 16) -> None:
    """The same over kept connections, of the mail server and of the database, in 16 threads."""

    def work(queue: SimpleQueue[int]) -> None:
        with psycopg.connect(_database_url()) as conn, smtplib.SMTP("127.0.0.1", port) as server:
            for row_id in _drain(queue):
                server.send_message(_read_message(conn, row_id))
                _mark_sent(conn, row_id)

    _in_threads(work, ids, threads)


def _read_message(conn: psycopg.Connection[Any], row_id: int) -> EmailMessage:
    row = conn.execute(
        "select recipient, subject, text, html, token from mail_outbox where id = %s", [row_id]
    ).fetchone()
    assert row is not None
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, row[0], row[1]
    message["Message-ID"] = f"<{row[4]}@example.org>"
    message.set_content(row[2])
    message.add_alternative(row[3], subtype="html")
    return message


def _mark_sent(conn: psycopg.Connection[Any], row_id: int) -> None:
    conn.execute(
        "update mail_outbox set status = 'sent', sent_at = clock_timestamp() where id = %s", [row_id]
    )
    conn.commit()


Item = TypeVar("Item")


def _drain(queue: SimpleQueue[Item]) -> Iterator[Item]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def _in_threads(work: Callable[[SimpleQueue[Item]], None], items: Sequence[Item], threads: int) -> None:
    queue: SimpleQueue[Item] = SimpleQueue()
    for item in items:
        queue.put(item)
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, queue) for _ in range(threads)]:
            done.result()


def _database_url() -> str:
    return os.environ["DATABASE_URL"]


BARE: dict[str, Callable[[int, list[bytes]], None]] = {
    "bare: one connection per mail": bare_one_connection_per_mail,
    "bare: 16 threads, kept connections": bare_kept_connections,
}
FROM_ROWS: dict[str, Callable[[int, list[int]], None]] = {
    "one connection per mail": one_connection_per_mail,
    "16 threads, kept connections": kept_connections,
}


def work_through_outbox() -> None:
    """Send all mails that wait in the outbox, as a worker of queue ``email`` would."""
    from services.core.db import get_engine
    from services.ledger.runner_external import ExternalRunner
    from services.ledger.topics import TOPICS
    from services.mail.send import MailSendHandler

    engine = get_engine()
    with engine.connect():
        runner, effect = ExternalRunner(engine, f"bench-{uuid4().hex[:6]}", Random()), MailSendHandler()
    _await_start()
    while runner.run_batch(TOPICS["mail_send"], effect).claimed:
        pass


def _await_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Run the way that is named; the mails are ``count``, or the rows 1 to ``count``."""
    way, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if way == "outbox":
        work_through_outbox()
        print("done", flush=True)
        return
    contents = _contents(count) if way in BARE else []
    _await_start()
    started = time.perf_counter()
    if way in BARE:
        BARE[way](port, contents)
    else:
        FROM_ROWS[way](port, list(range(1, count + 1)))
    print(f"{time.perf_counter() - started:.6f}", flush=True)


if __name__ == "__main__":
    main()
