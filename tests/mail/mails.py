"""Mails for tests, and a way to send them through the real runner."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.accept import record_work
from services.ledger.runner_external import ExternalRunner
from services.ledger.settle import BatchResult
from services.ledger.topics import TOPICS
from services.mail.message import Mail, make_headers
from services.mail.outbox import record_mails
from services.mail.send import MailSendHandler
from services.providers.mime import render_mime
from services.providers.outgoing_mail import OutgoingMail

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
TOPIC = TOPICS["mail_send"]


def new_mail(number: int = 1, **changes: Any) -> Mail:
    """Return a mail of the fleet; ``changes`` replace its fields."""
    fields: dict[str, Any] = {
        "shop_id": None,
        "kind": "test",
        "period": f"2026-11-{number:05d}",
        "recipient": "owner@example.com",
        "subject": f"Hello {number}",
        "text": "Good morning.\n",
        "html": "<p>Good morning.</p>\n",
    }
    return Mail(**(fields | changes))


def queue(engine: Engine, *mails: Mail) -> list[int]:
    """Put ``mails`` into the outbox with their work, and commit; return the ids of the new work."""
    with transaction(engine) as tx:
        return [ref.id for ref in record_work(tx, record_mails(tx, mails, NOW, request_id="req-1"), NOW)]


def run(engine: Engine, effect: MailSendHandler | None = None) -> BatchResult:
    """Run one batch of ``mail_send``, as a worker does."""
    return ExternalRunner(engine, "tester", Random(1)).run_batch(
        TOPIC, effect or MailSendHandler(lambda: engine)
    )


def make_due(engine: Engine) -> None:
    """Make all waiting work due now."""
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set next_retry_at = null where status in ('pending', 'error')"))


def mails_of(engine: Engine) -> list[dict[str, Any]]:
    """Return every row of the outbox, by id."""
    with transaction(engine) as tx:
        rows = tx.execute(text("select * from mail_outbox order by id"))
        return [dict(row._mapping) for row in rows]


def work_of(engine: Engine) -> list[tuple[Any, ...]]:
    """Return (status, result, error_code) of every row of work, by id."""
    with transaction(engine) as tx:
        return [
            tuple(row)
            for row in tx.execute(text("select status, result, error_code from work_queue order by id"))
        ]


def audit_of(engine: Engine) -> list[tuple[str, str]]:
    """Return (action, summary) of every audited change, in order."""
    with transaction(engine) as tx:
        rows = tx.execute(
            text(
                "select e.action, m.summary from audit_events e join audit_mutations m on m.event_id = e.id "
                "order by e.id"
            )
        )
        return [tuple(row) for row in rows]


@contextmanager
def mail_settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Iterator[None]:
    """Set ``values`` in the process's settings inside the block."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    try:
        yield
    finally:
        for name in values:
            monkeypatch.delenv(name)
        get_settings.cache_clear()


def to_outgoing_mail(mail: Mail, *, sender: str, message_id: str, date: datetime) -> OutgoingMail:
    """Return ``mail`` as the input of a transport."""
    return OutgoingMail(
        sender=sender,
        recipient=mail.recipient,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        message_id=message_id,
        date=date,
        attachments=mail.attachments,
        inline=mail.inline,
        headers=make_headers(mail),
    )


def to_email_message(mail: Mail, *, sender: str, message_id: str, date: datetime) -> EmailMessage:
    """Return the bytes that are sent, parsed by the standard library."""
    outgoing = to_outgoing_mail(mail, sender=sender, message_id=message_id, date=date)
    message = message_from_bytes(render_mime(outgoing), policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message
