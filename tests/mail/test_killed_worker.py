"""A worker is killed while it sends mails: their outcome is unknown, and all others are sent once."""

import re
import subprocess
import sys
import time
from collections import Counter

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.sweep import free_expired
from services.mail.delivery_plan import UNKNOWN
from tests.fakes.smtp import HANG, Scripted
from tests.mail.mails import mail_settings, mails_of, make_due, new_mail, queue, run

WORKER = """
from random import Random
from services.core.db import get_engine
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.mail.send import MailSendHandler
ExternalRunner(get_engine(), "killed", Random(1)).run_batch(TOPICS["mail_send"], MailSendHandler())
"""
MAILS, HANGING = 120, 3


def await_true(check: object, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_after_kill_9_only_mails_being_sent_are_unknown_and_none_is_sent_twice(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(MAILS)))
    with (
        Scripted({"TEXT": [HANG] * HANGING}).serving() as server,
        mail_settings(monkeypatch, SMTP_URL=server.url),
    ):
        worker = subprocess.Popen([sys.executable, "-c", WORKER])
        try:
            await_true(lambda: len(server.mails) >= HANGING + 20)
        finally:
            worker.kill()
            worker.wait()
        in_doubt = sum(row["status"] == "sending" for row in mails_of(engine))
        with transaction(engine) as tx:
            tx.execute(
                text("update work_queue set lease_until = now() - interval '1 s' where locked_at is not null")
            )
            free_expired(tx, utc_now())
        make_due(engine)
        run(engine)

    rows = mails_of(engine)
    assert Counter(row["status"] for row in rows) == {"unknown": in_doubt, "sent": MAILS - in_doubt}
    assert HANGING <= in_doubt <= 64
    assert {row["error_code"] for row in rows if row["status"] == "unknown"} == {UNKNOWN}
    ids = Counter(re.search(rb"Message-ID: <(.+?)>", mail)[1].decode() for mail in server.mails)  # type: ignore[index]
    assert set(ids.values()) == {1}
    assert {row["message_id"] for row in rows if row["status"] == "sent"} <= ids.keys()
