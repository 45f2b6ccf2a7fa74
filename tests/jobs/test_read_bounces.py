"""Delivery reports by mail are read once, and each counts for the mail whose Message-ID it returns."""

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater, SettingsInvalid
from services.core.setting_urls import parse_mailbox_address
from services.jobs import read_bounces as job
from services.jobs.definition import Covers
from services.jobs.handler import JobResult, JobRun
from services.mail.delivery_report import parse_report
from services.providers.bounce_mailbox import encode_folder
from tests.fakes.imap import ImapServer
from tests.mail.mails import NOW, audit_of, mail_settings, mails_of, new_mail, queue
from tests.shopify.sample_payloads import rows

RUN = JobRun(
    id=1, job="read-bounces", shop_id=None, period="p", covers=Covers.MOMENT, zone=ZoneInfo("UTC"),
    request_id="req-7", work_id=7,
)  # fmt: skip
SUPPRESSED = "select shop_id, address, reason from mail_suppressions"


def report(
    message_id: str, *, action: str = "failed", status: str = "5.1.1", whole: bool = True, number: int = 1
) -> bytes:
    """Return a report as Postfix writes it, with the returned mail or with its headers alone."""
    headers = f"From: mail@harbour.example\nTo: owner@example.com\nMessage-ID: <{message_id}>\nSubject: Hi\n"
    kind, returned = ("message/rfc822", f"{headers}\nHello\n") if whole else ("text/rfc822-headers", headers)
    return f"""Date: Fri, 20 Nov 2026 01:02:00 -0800 (PST)
From: MAILER-DAEMON@mail.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: mail@harbour.example
Auto-Submitted: auto-replied
Message-ID: <report-{number}@mail.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b/1"

--b/1
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--b/1
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example
Arrival-Date: Fri, 20 Nov 2026 01:00:00 -0800 (PST)

Final-Recipient: rfc822; owner@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 <owner@example.com>: Recipient address
    rejected: User unknown

--b/1
Content-Type: {kind}

{returned}
--b/1--
""".replace("\n", "\r\n").encode()


def reply(message_id: str) -> bytes:
    message = EmailMessage()
    message["Subject"], message["Auto-Submitted"] = "Out of office", "auto-replied"
    message["In-Reply-To"] = f"<{message_id}>"
    message.set_content("Action: failed\nStatus: 5.1.1\n")
    return bytes(message)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImapServer]:
    with ImapServer().serving() as server, mail_settings(monkeypatch, BOUNCE_MAILBOX_URL=server.url):
        yield server


def run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> JobResult:
    monkeypatch.setattr(job, "transaction", lambda: transaction(engine))
    return job.read_bounces(RUN, clock=lambda: NOW)


def send(engine: Engine, count: int = 1) -> list[dict[str, Any]]:
    queue(engine, *(new_mail(n) for n in range(count)))
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update mail_outbox set status = 'sent', transport = 'smtp', "
            "message_id = token || '@harbour.example'"
        )
    return mails_of(engine)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("action", "status", "kind", "is_stopped"),
    [
        ("failed", "5.1.1", "bounced", True),
        ("Failed", "4.4.7", "soft_bounced", False),
        ("delayed", "4.4.1", "deferred", False),
        ("delivered", "2.0.0", "delivered", False),
        ("relayed", "2.0.0", "", False),
    ],
)
def test_a_report_is_stored_with_the_mail_whose_headers_it_returns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer, action: str, status: str, kind: str,
    is_stopped: bool, whole: bool,
) -> None:  # fmt: skip
    (mail,) = send(engine)
    server.messages = [report(mail["message_id"], action=action, status=status, whole=whole)]

    result = run(engine, monkeypatch)

    assert (result.result, result.stats["messages"], result.stats["new"]) == ("done", 1, int(bool(kind)))
    assert server.seen == {1}
    kinds = [row[0] for row in rows(engine, "select kind from mail_events where mail_id is not null")]
    assert kinds == ([kind] if kind else [])
    assert rows(engine, SUPPRESSED) == [(None, "owner@example.com", "bounced")] * is_stopped
    assert (mails_of(engine)[0]["bounced_at"] is not None) == ("bounced" in kind)
    if kind == "bounced":
        assert ("bounce_read", "mail test to o***@example.com: bounced") in audit_of(engine)
        (detail,) = rows(engine, "select detail from mail_events")[0]
        assert detail.startswith(f"{status} smtp; 550 5.1.1 <[email]>: Recipient address rejected")


def test_other_mail_and_reports_of_unknown_mails_change_nothing_and_are_not_read_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer
) -> None:
    """Mautic 2761: an automatic reply counted as a refusal of all mail."""
    (mail,) = send(engine)
    broken = report(mail["message_id"]).replace(b"message/delivery-status", b"text/plain")
    server.messages = [
        reply(mail["message_id"]), report("another@harbour.example"), b"", b"\xff\x00", broken,
        report(mail["message_id"])[:300],
    ]  # fmt: skip
    run(engine, monkeypatch)

    assert server.seen == set(range(1, 7))
    assert rows(engine, SUPPRESSED) == []
    assert rows(engine, "select count(*) from mail_events") == [(0,)]


def test_a_message_that_was_not_marked_is_read_again_and_counts_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer
) -> None:
    (mail,) = send(engine)
    server.messages = [report(mail["message_id"])]
    server.fail_next_store = True
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1"):
        run(engine, monkeypatch)
    assert server.seen == set()

    assert run(engine, monkeypatch).stats == {"messages": 1, "reports": 1, "new": 0}
    assert server.seen == {1}
    assert run(engine, monkeypatch).stats["messages"] == 0


def test_three_soft_bounces_of_different_mails_suppress(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer
) -> None:
    mails = send(engine, 3)
    for number, mail in enumerate(mails):
        server.messages.append(report(mail["message_id"], status="4.2.2", number=number))
    run(engine, monkeypatch)

    assert rows(engine, SUPPRESSED) == [(None, "owner@example.com", "bounced")]


def test_a_long_mailbox_is_read_in_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer
) -> None:
    monkeypatch.setattr(job, "MOST_MESSAGES", 3)
    monkeypatch.setattr(job, "PIECE", 2)
    server.messages = [reply("a@b")] * 5

    results = [run(engine, monkeypatch) for _ in range(3)]
    assert [(one.result, one.stats["messages"]) for one in results] == [("more", 3), ("done", 2), ("done", 0)]


def test_a_refused_sign_in_or_folder_is_named_without_the_password(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, server: ImapServer
) -> None:
    server.folder = "Reports"
    with pytest.raises(Misconfigured, match="no folder 'INBOX'") as fault:
        run(engine, monkeypatch)
    assert fault.value.code == "imap.folder_unknown"
    server.password = "other"
    with pytest.raises(Misconfigured) as refused:
        run(engine, monkeypatch)
    assert refused.value.code == "imap.credentials_refused"
    assert "pass" not in str(refused.value).replace("password of", "")


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("INBOX", "INBOX"),
        ('a\\b "c"', 'a\\\\b \\"c\\"'),
        ("R&D", "R&-D"),
        ("Zurückgewiesen", "Zur&APw-ckgewiesen"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # the example of RFC 3501
    ],
)
def test_a_folder_of_any_name_is_written_as_imap_wants_it(name: str, encoded: str) -> None:
    assert encode_folder(name) == encoded


def test_without_a_mailbox_the_job_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_settings(monkeypatch):
        assert job.read_bounces(RUN).result == "off"


@pytest.mark.parametrize(
    "url", ["imap://u:p@mail.example/INBOX", "imaps://mail.example/INBOX", "https://a/b"]
)
def test_the_setting_needs_tls_and_a_user(url: str) -> None:
    with pytest.raises(SettingsInvalid) as fault:
        parse_mailbox_address(url)
    assert ":p@" not in str(fault.value)


def test_each_recipient_of_a_report_has_an_id_of_its_own() -> None:
    raw = report("a@b.example")
    block = b"Final-Recipient: rfc822; owner@example.com"
    twice = raw.replace(
        block, b"Final-Recipient: rfc822; x@example.com\r\nAction: failed\r\nStatus: 5.0.0\r\n\r\n" + block
    )
    ids = [one.report_id for one in parse_report(twice)]
    assert len(set(ids)) == 2
    assert parse_report(raw) == parse_report(raw)
