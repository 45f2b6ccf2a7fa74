"""The outbox: a mail and its parts are stored once, and a person decides about an unknown outcome."""

import threading
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.ledger.accept import record_work
from services.ledger.work import FLEET
from services.mail.delivery_plan import UNKNOWN
from services.mail.message import Attachment, MailInvalid
from services.mail.outbox import LARGEST_BYTES, record_mails
from services.mail.outbox_admin import (
    BY_PERSON,
    MailDecision,
    MailDecisionInvalid,
    MailUnknown,
    find_mails,
    get_mail,
    mark_mail_delivered,
    resend_mail,
)
from tests.audit.chains import AuditEvent, hash_event
from tests.fakes.smtp import CLOSE, Scripted
from tests.mail.mails import (
    NOW,
    audit_of,
    mail_settings,
    mails_of,
    new_mail,
    queue,
    run,
    work_of,
)
from tests.shopify.sample_payloads import add_shop, rows


def test_recording_a_mail_twice_stores_it_once(engine: Engine) -> None:
    assert len(queue(engine, new_mail(), new_mail(recipient="Owner@Example.com"))) == 1
    assert queue(engine, new_mail(subject="other words")) == []

    (row,) = mails_of(engine)
    assert (row["subject"], row["dedupe_key"]) == ("Hello 1", "test:2026-11-00001:owner@example.com")
    assert len(work_of(engine)) == 1


def test_each_shop_and_the_fleet_have_separate_mails(engine: Engine) -> None:
    shop_id = add_shop(engine)

    assert len(queue(engine, new_mail(), new_mail(shop_id=shop_id))) == 2
    assert queue(engine, new_mail(), new_mail(shop_id=shop_id)) == []
    with transaction(engine) as tx:
        assert set(tx.execute(text("select shop_id from work_queue")).scalars()) == {FLEET, shop_id}
        assert [line.shop_id for line in find_mails(tx, shop_id=FLEET)] == [None]
        assert [line.shop_id for line in find_mails(tx, shop_id=shop_id)] == [shop_id]


def test_two_transactions_at_once_send_one_mail(engine: Engine) -> None:
    planned: list[int] = []

    with engine.connect() as first, first.begin() as begun:
        planned += [ref.id for ref in record_work(first, record_mails(first, [new_mail()], NOW), NOW)]
        other = threading.Thread(target=lambda: planned.extend(queue(engine, new_mail())))
        other.start()
        # Each query in its own transaction: inside one, PostgreSQL repeats the first result.
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        while not rows(engine, waits)[0][0]:
            assert other.is_alive()
        begun.commit()
    other.join(60)

    assert len(planned) == 1
    assert len(mails_of(engine)) == 1


def test_attachments_and_pictures_arrive_with_the_mail(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = Attachment(name="Übersicht.csv", content_type="text/csv", content=b"a,b\r\n1,2\r\n")
    logo = Attachment(
        name="logo.png", content_type="image/png", content=b"\x89PNG\0", content_id="logo@shopfleet"
    )
    queue(engine, new_mail(attachments=(table,), inline=(logo,)))
    with mail_settings(monkeypatch, MAIL_TRANSPORT="file", MAIL_FOLDER=str(tmp_path)):
        run(engine)

    (file,) = tmp_path.iterdir()
    mail = message_from_bytes(file.read_bytes(), policy=default)
    kinds = [part.get_content_type() for part in mail.walk()]
    assert kinds == [
        "multipart/mixed",
        "multipart/related",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "image/png",
        "text/csv",
    ]
    files = {
        part.get_filename(): part.get_payload(decode=True) for part in mail.walk() if part.get_filename()
    }
    assert files == {"Übersicht.csv": table.content, "logo.png": logo.content}
    (row,) = mails_of(engine)
    assert (row["transport"], row["provider_id"]) == ("file", file.name)


def test_an_incomplete_file_of_a_dead_worker_is_written_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queue(engine, new_mail())
    with mail_settings(monkeypatch, MAIL_TRANSPORT="file", MAIL_FOLDER=str(tmp_path)):
        run(engine)
        (file,) = tmp_path.iterdir()
        whole = file.read_bytes()
        file.rename(tmp_path / f".{file.name}.part")
        with transaction(engine) as tx:  # as if the worker had died before the file had its name
            tx.execute(text("update mail_outbox set status = 'sending', sent_at = null"))
            tx.execute(text("update work_queue set status = 'error', result = null, finished_at = null"))
        run(engine)

    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(file.name, whole)]
    assert [row["status"] for row in mails_of(engine)] == ["sent"]


def test_characters_that_postgresql_cannot_store_are_removed(engine: Engine) -> None:
    queue(
        engine, new_mail(subject="a\0b\r\nBcc: c@d", text="nul \0 and half \ud800", headers={"X-A": "1\r\n2"})
    )

    (row,) = mails_of(engine)
    assert row["subject"] == "a b Bcc: c@d"
    assert row["text"] == "nul  and half ?"
    assert row["headers"]["X-A"] == "1 2"


def test_a_mail_over_the_size_limit_is_refused(engine: Engine) -> None:
    huge = Attachment(name="x.bin", content_type="application/octet-stream", content=bytes(LARGEST_BYTES + 1))

    with pytest.raises(MailInvalid, match=f"{LARGEST_BYTES:,}"):
        queue(engine, new_mail(attachments=(huge,)))


@pytest.fixture
def stuck(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A mail of unknown outcome."""
    queue(engine, new_mail())
    with Scripted({"TEXT": [CLOSE]}).serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(engine)
    return engine


def decision(reason: str = "asked her") -> MailDecision:
    return MailDecision(mail_id=1, by="ada", reason=reason, request_id="req-9")


def test_resend_sends_a_mail_of_unknown_outcome_again(stuck: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = mails_of(stuck)
    with transaction(stuck) as tx:
        assert get_mail(tx, 1).is_stuck
        refs = resend_mail(tx, decision(), NOW)
    assert len(refs) == 1
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(stuck)

    assert len(server.mails) == 1
    (row,) = mails_of(stuck)
    assert row["status"] == "sent"
    assert row["message_id"] != before["message_id"]
    assert work_of(stuck)[0][:2] == ("done", "sent")
    assert [action for action, _ in audit_of(stuck)] == [
        "mail.unknown",
        "work.requeue",
        "mail.resend",
        "mail.sent",
    ]


def test_mark_sent_settles_a_mail_of_unknown_outcome_without_sending(
    stuck: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(stuck) as tx:
        mark_mail_delivered(tx, decision("she has it"), NOW)
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(stuck)

    assert server.mails == []
    (row,) = mails_of(stuck)
    assert (row["status"], row["error_code"], row["last_error"]) == ("sent", BY_PERSON, "she has it")
    assert work_of(stuck)[0][:2] == ("done", "already_sent")
    assert ("mail.forget", "mail test to o***@example.com counts as sent: she has it") in audit_of(stuck)


def test_requeueing_the_work_does_not_send_a_mail_of_unknown_outcome(
    stuck: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(stuck) as tx:
        tx.execute(text("update work_queue set status = 'pending', retry_count = 0, finished_at = null"))
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(stuck)

    assert server.mails == []
    assert work_of(stuck) == [("dead", None, UNKNOWN)]


def test_resend_of_a_sent_mail_sends_a_new_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail())
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(engine)
        with transaction(engine) as tx:
            resend_mail(tx, decision(), NOW)
        run(engine)

    assert len(server.mails) == 2
    assert [row[:2] for row in work_of(engine)] == [("done", "sent")] * 2


def test_an_invalid_decision_is_refused_with_the_reason(engine: Engine) -> None:
    queue(engine, new_mail())
    with transaction(engine) as tx:
        with pytest.raises(MailDecisionInvalid, match="only a mail of unknown outcome can be marked"):
            mark_mail_delivered(tx, decision(), NOW)
        with pytest.raises(MailDecisionInvalid, match="reason is empty"):
            resend_mail(tx, decision(" "), NOW)
        with pytest.raises(MailUnknown, match="no mail 7"):
            get_mail(tx, 7)


def test_the_fleets_audit_chain_is_valid_after_a_decision(stuck: Engine) -> None:
    with transaction(stuck) as tx:
        resend_mail(tx, decision(), NOW)
    with transaction(stuck) as tx:
        links = tx.execute(
            text(
                "select shop_id, seq, at, staff_label, action, request_id, work_id, mutations, hash, "
                "prev_hash from audit_events order by seq"
            )
        ).all()

    assert len(links) == 3
    for link in links:
        assert hash_event(link.prev_hash, AuditEvent(*link[:8])) == link.hash
