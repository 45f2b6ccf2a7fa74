"""Mails of the outbox over real SMTP with the real runner: each is sent once despite failures."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.ledger.sweep import free_expired
from services.mail.delivery_plan import UNKNOWN
from services.mail.send import MailSendHandler
from tests.fakes.smtp import CLOSE, Scripted, Sink, smtp_server
from tests.mail.mails import (
    audit_of,
    mail_settings,
    mails_of,
    make_due,
    new_mail,
    queue,
    run,
    work_of,
)


@contextmanager
def scripted(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]] | None = None
) -> Iterator[Scripted]:
    with Scripted(answers).serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        yield server


def test_a_mail_is_sent_once_and_recorded_in_outbox_and_audit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    queue(engine, new_mail())
    with smtp_server(sink) as url, mail_settings(monkeypatch, SMTP_URL=url):
        report = run(engine)
        again = run(engine)

    assert (report.done, again.claimed) == (1, 0)
    (mail,) = sink.mails
    assert (mail["To"], mail["Subject"]) == ("owner@example.com", "Hello 1")
    (row,) = mails_of(engine)
    assert (row["status"], row["transport"], row["provider_id"]) == ("sent", "smtp", "OK")
    assert mail["Message-ID"] == f"<{row['message_id']}>"
    assert row["sent_at"] is not None
    assert work_of(engine) == [("done", "sent", None)]
    assert audit_of(engine) == [("mail.sent", "mail test to o***@example.com sent")]


def test_batches_share_connections_that_stay_open(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    effect = MailSendHandler(lambda: engine)
    with scripted(monkeypatch) as server:
        queue(engine, *(new_mail(n) for n in range(100)))
        run(engine, effect)
        opened = server.connections
        queue(engine, new_mail(101))
        run(engine, effect)

    assert len(server.mails) == 101
    assert opened <= 32
    assert server.connections == opened
    assert {row["status"] for row in mails_of(engine)} == {"sent"}


def test_envelope_and_data_are_sent_in_one_write(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail())
    with scripted(monkeypatch) as server:
        run(engine)

    assert ["MAIL", "RCPT", "DATA"] in server.bursts


def test_a_refused_recipient_affects_that_mail_only(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail(1), new_mail(2), new_mail(3))
    with scripted(monkeypatch, {"RCPT": ["550 no such user"]}) as server:
        run(engine)

    assert len(server.mails) == 2
    assert sorted(row["status"] for row in mails_of(engine)) == ["refused", "sent", "sent"]
    assert sorted(work_of(engine)) == [
        ("dead", None, "smtp.recipient_refused"),
        ("done", "sent", None),
        ("done", "sent", None),
    ]


@pytest.mark.parametrize("silence", [CLOSE, "421 going down now"])
def test_a_connection_that_the_server_closed_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, silence: str
) -> None:
    effect = MailSendHandler(lambda: engine)
    with scripted(monkeypatch) as server:
        queue(engine, new_mail(1))
        run(engine, effect)
        server.answers["MAIL"] = [silence]
        queue(engine, new_mail(2))
        run(engine, effect)

    assert (len(server.mails), server.connections) == (2, 2)
    assert work_of(engine) == [("done", "sent", None)] * 2


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"GREETING": ["421 too many"]}, "smtp.busy"),
        ({"MAIL": [CLOSE]}, "smtp.unavailable"),
        ({"RCPT": ["451 greylisted"]}, "smtp.unavailable"),
        ({"DATA": ["451 later"]}, "smtp.unavailable"),
        ({"TEXT": ["451 later"]}, "smtp.unavailable"),
        ({"TEXT": ["421 later"]}, "smtp.unavailable"),
    ],
)
def test_a_mail_that_was_not_accepted_is_sent_at_the_next_try(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]], code: str
) -> None:
    queue(engine, new_mail())
    effect = MailSendHandler(lambda: engine)
    with scripted(monkeypatch, answers) as server:
        run(engine, effect)
        (row,) = mails_of(engine)
        assert (row["status"], row["error_code"]) == ("queued", code)
        assert work_of(engine) == [("error", None, code)]
        make_due(engine)
        run(engine, effect)

    assert len(server.mails) == 1
    assert work_of(engine)[0][:2] == ("done", "sent")


def test_a_mail_without_an_answer_to_its_text_is_unknown_and_not_sent_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with scripted(monkeypatch, {"TEXT": [CLOSE]}) as server:
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', retry_count = 0"))
        run(engine)

    assert len(server.mails) == 1
    (row,) = mails_of(engine)
    assert (row["status"], row["error_code"]) == ("unknown", UNKNOWN)
    assert "fleet mail resend 1" in row["last_error"]
    assert work_of(engine) == [("dead", None, UNKNOWN)]
    assert audit_of(engine) == [
        ("mail.unknown", "mail test to o***@example.com handed over, outcome unknown: smtp.no_answer")
    ]


def test_a_mail_of_a_worker_that_died_while_sending_is_unknown(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail(1), new_mail(2))
    with scripted(monkeypatch) as server:
        # The worker died while it waited for the reply: its rows stay as they were.
        with transaction(engine) as tx:
            tx.execute(
                text(
                    "update mail_outbox set status = 'sending', attempt = 1, handed_over_at = now() "
                    "where id = 1"
                )
            )
        run(engine)

    assert len(server.mails) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown", "sent"]
    assert work_of(engine) == [("dead", None, UNKNOWN), ("done", "sent", None)]


def test_mails_of_a_worker_that_died_before_sending_are_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(5)))
    with transaction(engine) as tx:
        # Claimed and prepared, then the worker died: the lease expires.
        tx.execute(
            text(
                "update work_queue set locked_at = now(), locked_by = 'gone', "
                "lease_until = now() - interval '1 s'"
            )
        )
        from services.core.clock import utc_now

        free_expired(tx, utc_now())
    make_due(engine)
    with scripted(monkeypatch) as server:
        run(engine)

    assert len(server.mails) == 5
    assert {row["status"] for row in mails_of(engine)} == {"sent"}


def test_two_workers_with_the_same_row_send_it_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail())
    with scripted(monkeypatch) as server:
        from services.core.clock import utc_now
        from services.ledger.work import PreparedCall, WorkItem

        item = WorkItem(1, 0, "mail_send", "1", {}, 0)
        with transaction(engine) as tx:
            first = MailSendHandler(lambda: engine).prepare(tx, [item], utc_now())[0]
            second = MailSendHandler(lambda: engine).prepare(tx, [item], utc_now())[0]
        assert isinstance(first, PreparedCall)
        assert isinstance(second, PreparedCall)
        outcomes: list[object] = []
        threads = [threading.Thread(target=lambda p=p: outcomes.append(p.act())) for p in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(server.mails) == 1
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", "RetryLater"]


def test_a_mail_stored_as_sent_is_not_sent_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(engine, new_mail())
    with scripted(monkeypatch) as server:
        run(engine)
        with transaction(engine) as tx:  # as if the worker had died before it settled
            tx.execute(text("update work_queue set status = 'error', result = null, finished_at = null"))
        run(engine)

    assert len(server.mails) == 1
    assert work_of(engine) == [("done", "already_sent", None)]
    assert len(audit_of(engine)) == 1


def test_a_server_that_refuses_connections_gets_fewer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(40)))
    with scripted(monkeypatch, {"GREETING": ["220 hi", *["421 too many connections"] * 8]}) as server:
        effect = MailSendHandler(lambda: engine)
        for _ in range(3):
            run(engine, effect)
            make_due(engine)

    assert len(server.mails) == 40
    assert {row["status"] for row in mails_of(engine)} == {"sent"}


def test_refused_credentials_break_the_connection_until_the_next_success(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.shops.connections import list_connections

    queue(engine, new_mail(1))
    with scripted(monkeypatch, {"MAIL": ["530 sign in first"]}):
        run(engine)
        with transaction(engine) as tx:
            (state,) = list_connections(tx)
        assert (state.shop_id, state.provider, state.status) == (None, "smtp", "broken")
        assert state.code == "smtp.sender_refused"
        assert work_of(engine) == [("dead", None, "smtp.sender_refused")]
        queue(engine, new_mail(2))
        run(engine)

    with transaction(engine) as tx:
        (state,) = list_connections(tx)
    assert (state.status, state.code) == ("ok", "")
    assert [action for action, _ in audit_of(engine)] == [
        "connection.broken",
        "mail.sent",
        "connection.mended",
    ]
