"""Mails of the outbox through Graph, SendGrid and Resend: what each answer comes to."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.delivery_plan import UNKNOWN
from services.mail.send import MailSend
from services.shops.connections import find_connections
from tests.fakes.mail_services import SILENT, Answer, Graph, Resend, SendGrid, aadsts
from tests.mail.mails import audit_of, mail_settings, mails_of, make_due, new_mail, queue, run, work_of


@contextmanager
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    service = Graph()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="graph",
            GRAPH_TENANT_ID="contoso.example",
            GRAPH_CLIENT_ID="the-app",
            GRAPH_CLIENT_SECRET=Graph.SECRET,
            GRAPH_SENDER=service.mailbox,
            GRAPH_API_BASE=service.url,
            GRAPH_LOGIN_BASE=service.url,
        ),
    ):
        yield service


@contextmanager
def sendgrid(monkeypatch: pytest.MonkeyPatch) -> Iterator[SendGrid]:
    service = SendGrid()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="sendgrid",
            SENDGRID_API_KEY=SendGrid.KEY,
            SENDGRID_API_BASE=service.url,
        ),
    ):
        yield service


@contextmanager
def resend(monkeypatch: pytest.MonkeyPatch, **more: str) -> Iterator[Resend]:
    service = Resend()
    with (
        service.serving(),
        mail_settings(
            monkeypatch,
            MAIL_TRANSPORT="resend",
            RESEND_API_KEY=Resend.KEY,
            RESEND_API_BASE=service.url,
            MAIL_RATE_PER_SECOND="1000",
            **more,
        ),
    ):
        yield service


def resend_says(status: int, name: str, message: str) -> Answer:
    return status, {"statusCode": status, "name": name, "message": message}, {}


def sendgrid_says(status: int, message: str, field: str | None = None) -> Answer:
    return status, {"errors": [{"message": message, "field": field, "help": None}]}, {}


def test_graph_signs_in_once_for_a_set_and_calls_four_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(12)))
    with graph(monkeypatch) as service:
        run(engine)

    assert (len(service.mails), service.tokens) == (12, 1)
    assert service.most_at_once <= 4
    mail = service.mails[0]
    assert mail["From"] == "Shopfleet <fleet@contoso.com>"
    assert mail.get_body(("html",)).get_content().strip() == "<p>Good morning.</p>"
    (first, *_) = mails_of(engine)
    assert (first["status"], first["transport"]) == ("sent", "graph")
    assert first["provider_id"].startswith("request-")


def test_an_expired_graph_secret_says_so_and_turns_the_connection_red(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(3)))
    with graph(monkeypatch) as service:
        service.sign_in_answer = aadsts("7000222")
        run(engine)
        assert service.mails == []
        assert {row[2] for row in work_of(engine)} == {"graph.client_secret_expired"}
        assert {row["status"] for row in mails_of(engine)} == {"queued"}
        with transaction(engine) as tx:
            (state,) = find_connections(tx)
            (error,) = tx.execute(text("select last_error from work_queue limit 1")).one()
        assert (state.provider, state.status, state.code) == (
            "graph",
            "broken",
            "graph.client_secret_expired",
        )
        assert "make a new one in the Entra admin center" in error
        assert Graph.SECRET not in error

        service.sign_in_answer = None
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', retry_count = 0, finished_at = null"))
        run(engine)

    assert len(service.mails) == 3
    with transaction(engine) as tx:
        assert [state.status for state in find_connections(tx)] == ["ok"]
    actions = [action for action, _ in audit_of(engine)]
    assert actions.count("connection.broken") == actions.count("connection.mended") == 1


def test_a_graph_token_withdrawn_early_is_replaced_within_the_call(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = MailSend(lambda: engine)
    with graph(monkeypatch) as service:
        queue(engine, new_mail(1))
        run(engine, effect)
        service.withdrawn.add("token-1")
        queue(engine, new_mail(2))
        run(engine, effect)

    assert (len(service.mails), service.tokens) == (2, 2)
    assert work_of(engine) == [("done", "sent", None)] * 2


def test_429_is_waited_for_as_told_and_nobody_else_in_the_queue_loses_a_try(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    effect = MailSend(lambda: engine)
    with graph(monkeypatch) as service:
        service.answers = [(429, {"error": {"code": "ApplicationThrottled"}}, {"retry-after": "70"})]
        queue(engine, new_mail(1))
        run(engine, effect)
        queue(engine, *(new_mail(n) for n in range(2, 8)))
        before = utc_now()
        run(engine, effect)
        run(engine, MailSend(lambda: engine))  # another process

    assert len(service.calls) == 1
    with transaction(engine) as tx:
        waiting = tx.execute(
            text("select retry_count, status, next_retry_at, error_code from work_queue order by id")
        ).all()
    assert [row.retry_count for row in waiting] == [1, 0, 0, 0, 0, 0, 0]
    assert all(row.next_retry_at > before + timedelta(seconds=60) for row in waiting)
    assert {row["status"] for row in mails_of(engine)} == {"queued"}


def test_a_set_does_not_go_on_asking_a_service_that_said_not_now(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(100)))
    with graph(monkeypatch) as service:
        service.answers = [(429, {"error": {"code": "ApplicationThrottled"}}, {"retry-after": "70"})] * 100
        run(engine)

    assert len(service.calls) <= 4
    with transaction(engine) as tx:
        tries = tx.execute(
            text("select sum(retry_count), count(*) from work_queue where status <> 'done'")
        ).one()
    assert tuple(tries) == (len(service.calls), 100)


@pytest.mark.parametrize("service", [graph, sendgrid])
def test_no_answer_of_a_service_without_idempotency_is_left_to_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, service: object
) -> None:
    queue(engine, new_mail())
    with service(monkeypatch) as running:  # type: ignore[operator]
        running.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', retry_count = 0"))
        run(engine)

    assert len(running.mails) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
    assert work_of(engine) == [("dead", None, UNKNOWN)]


def test_resend_is_asked_again_under_the_same_key_and_sends_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        assert work_of(engine) == [("error", None, "resend.no_answer")]
        assert [row["status"] for row in mails_of(engine)] == ["sending"]
        make_due(engine)
        run(engine)

    assert len(service.mails) == 1
    keys = {headers["idempotency-key"] for _, headers in service.calls}
    assert len(service.calls) == 2
    assert len(keys) == 1
    (row,) = mails_of(engine)
    assert (row["status"], row["provider_id"]) == ("sent", "resend-1")


def test_a_doubt_older_than_resends_keys_is_left_to_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update mail_outbox set handed_over_at = now() - interval '23 h 45 min'"))
        make_due(engine)
        run(engine)

    assert len(service.calls) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]
    assert work_of(engine) == [("dead", None, UNKNOWN)]


def test_a_doubt_is_not_repeated_to_an_account_that_never_saw_the_mail(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as before:
        before.answers = [SILENT]
        run(engine)
    make_due(engine)
    with resend(monkeypatch) as after:
        run(engine)

    assert (len(before.mails), after.mails) == (1, [])
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]


def test_a_key_that_went_out_with_other_words_is_left_to_a_person(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [SILENT]
        run(engine)
        with transaction(engine) as tx:
            tx.execute(text("update mail_outbox set subject = 'changed by hand'"))
        make_due(engine)
        run(engine)

    assert len(service.mails) == 1
    assert [row["status"] for row in mails_of(engine)] == ["unknown"]


def test_resends_daily_quota_waits_hours_and_turns_the_connection_red(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, new_mail())
    quota = {"statusCode": 429, "name": "daily_quota_exceeded", "message": "You have reached your quota."}
    with resend(monkeypatch) as service:
        service.answers = [(429, quota, {})]
        before = utc_now()
        run(engine)

    with transaction(engine) as tx:
        status, due = tx.execute(text("select status, next_retry_at from work_queue")).one()
        (state,) = find_connections(tx)
    assert status == "error"
    assert due > before + timedelta(hours=2)
    assert (state.status, state.code) == ("broken", "resend.daily_quota_exceeded")


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (resend_says(422, "validation_error", "Invalid `to` field."), "resend.recipient_refused", "refused"),
        (resend_says(403, "validation_error", "Domain not verified."), "resend.sender_refused", "queued"),
        (resend_says(403, "invalid_api_key", "API key is invalid"), "resend.key_refused", "queued"),
    ],
)  # fmt: skip
def test_what_resend_refuses_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: object, code: str, status: str
) -> None:
    queue(engine, new_mail())
    with resend(monkeypatch) as service:
        service.answers = [answer]  # type: ignore[list-item]
        run(engine)

    assert work_of(engine) == [("dead", None, code)]
    assert [row["status"] for row in mails_of(engine)] == [status]


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (sendgrid_says(400, "bad", "personalizations.0.to.0.email"), "sendgrid.recipient_refused", "refused"),
        (sendgrid_says(400, "bad", "from"), "sendgrid.sender_refused", "queued"),
        (sendgrid_says(401, "Maximum credits exceeded"), "sendgrid.no_credits", "queued"),
        (sendgrid_says(403, "access forbidden"), "sendgrid.access_denied", "queued"),
        (sendgrid_says(500, "try later"), "sendgrid.unavailable", "queued"),
        ((502, None, {}), UNKNOWN, "unknown"),
    ],
)  # fmt: skip
def test_what_sendgrid_refuses_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answer: object, code: str, status: str
) -> None:
    queue(engine, new_mail())
    with sendgrid(monkeypatch) as service:
        service.answers = [answer]  # type: ignore[list-item]
        run(engine)

    assert [row[2] for row in work_of(engine)] == [code]
    assert [row["status"] for row in mails_of(engine)] == [status]


def test_mails_beyond_the_accounts_rate_wait_their_turn_without_losing_a_try(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(engine, *(new_mail(n) for n in range(8)))
    with resend(monkeypatch) as service:
        monkeypatch.setenv("MAIL_RATE_PER_SECOND", "5")
        from services.core.settings import get_settings

        get_settings.cache_clear()
        before = utc_now()
        run(engine)

    assert len(service.mails) == 5
    with transaction(engine) as tx:
        waits = tx.execute(
            text(
                "select next_retry_at, retry_count, status, error_code from work_queue "
                "where status <> 'done' order by next_retry_at"
            )
        ).all()
    assert [(row.retry_count, row.status, row.error_code) for row in waits] == [
        (0, "pending", "mail.paced")
    ] * 3
    assert waits[0].next_retry_at < waits[1].next_retry_at < waits[2].next_retry_at
    assert waits[2].next_retry_at > before + timedelta(seconds=0.5)
