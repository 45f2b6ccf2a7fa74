"""``fleet mail test`` prints the mail's result: with a real outbox, a worker and a server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.send import MailSendHandler
from services.shops.mail_transport import MailChoice, record_mail_choice
from services.shops.secrets import record_secret
from services.shops.shops import get_shop
from tests.fakes.mail_services import Resend
from tests.fakes.smtp import CLOSE, Scripted
from tests.mail.mails import mail_settings, mails_of, run
from tests.shopify.sample_payloads import add_shop

pytestmark = pytest.mark.usefixtures("broker_url")


def run_test(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["mail", "test", "ada@example.com", *arguments])


@contextmanager
def working(engine: Engine) -> Iterator[None]:
    """Run a worker until the block ends."""
    over = threading.Event()
    effect = MailSendHandler(lambda: engine)

    def work() -> None:
        while not over.wait(0.02):
            run(engine, effect)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_sent_mail_exits_with_0(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Scripted().serving() as server,
        mail_settings(monkeypatch, SMTP_URL=server.url),
        working(engine),
    ):
        result = run_test("--as", "ada", "--json")

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (mail,) = server.mails
    assert (document["status"], document["is_sent"], document["transport"]) == ("sent", True, "smtp")
    assert document["message_id"].encode() in mail
    assert b"Shopfleet can reach you by mail" in mail
    assert b"127.0.0.1" in mail


@pytest.mark.parametrize(
    ("answers", "status", "advice"),
    [
        ({"RCPT": ["550 no such user"]}, "refused", "check it with its owner"),
        ({"TEXT": [CLOSE]}, "unknown", "fleet mail show 1"),
        ({"MAIL": ["550 not yours"]}, "dead", "set MAIL_FROM and restart the workers"),
    ],
)
def test_a_mail_that_is_not_sent_exits_with_1_and_what_to_do(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]], status: str, advice: str
) -> None:
    with (
        Scripted(answers).serving() as server,
        mail_settings(monkeypatch, SMTP_URL=server.url),
        working(engine),
    ):
        result = run_test("--wait", "10", "--json")

    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (document["status"], document["is_sent"]) == (status, False), document
    assert advice in document["to_do"]
    assert document["code"]


@contextmanager
def harbour(engine: Engine, monkeypatch: pytest.MonkeyPatch, key: str = Resend.KEY) -> Iterator[Resend]:
    """A shop that sends through Resend on its own account."""
    shop_id = add_shop(engine, "harbour")
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "resend-key", key, utc_now())
        record_mail_choice(
            tx,
            get_shop(tx, "harbour"),
            MailChoice(transport="resend", sender="mail@harbour.example"),
            now=utc_now(),
        )
    service = Resend()
    with service.serving(), mail_settings(monkeypatch, RESEND_API_BASE=service.url), working(engine):
        yield service


def test_a_shops_own_account_is_used_with_the_shops_sender(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harbour(engine, monkeypatch) as service:
        result = run_test("--shop", "harbour")

    assert result.exit_code == 0, result.output
    assert "sent through resend" in result.stdout
    assert [mail["from"] for mail in service.mails] == ["mail@harbour.example"]


def test_a_wait_longer_than_the_command_is_reported_immediately(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = {"statusCode": 429, "name": "daily_quota_exceeded", "message": "You have reached your quota."}
    with harbour(engine, monkeypatch) as service:
        service.answers = [(429, quota, {})]
        result = run_test("--shop", "harbour", "--wait", "600", "--json")

    document = json.loads(result.stdout)
    assert (result.exit_code, document["status"], document["is_final"]) == (1, "queued", True)
    assert document["code"] == "resend.daily_quota_exceeded"
    assert "it is retried automatically" in document["to_do"]


def test_a_refused_key_is_reported_with_the_command_to_record_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harbour(engine, monkeypatch, key="re_wrongone_12345678"):
        result = run_test("--shop", "harbour")

    assert result.exit_code == 1
    assert "not sent: resend.key_refused" in result.stdout
    assert "To do: fleet shops secret harbour resend-key --stdin" in result.stdout
    assert "re_wrong" not in result.output


def test_without_a_worker_the_mail_waits_and_the_command_exits_with_1(engine: Engine) -> None:
    result = run_test("--wait", "0.3")

    assert result.exit_code == 1
    assert "not sent within 0.3 s: waits for a worker" in result.stdout
    assert "a worker of queue email runs" in result.stdout
    assert [row["status"] for row in mails_of(engine)] == ["queued"]


def test_no_wait_exits_without_the_result(engine: Engine) -> None:
    result = run_test("--no-wait")

    assert result.exit_code == 0
    (row,) = mails_of(engine)
    assert row["period"].startswith(f"{utc_now():%Y-}")
    assert (row["kind"], row["shop_id"]) == ("test", None)


def test_wrong_mail_settings_of_a_shop_are_reported_before_anything_is_stored(engine: Engine) -> None:
    add_shop(engine, "harbour")
    with transaction(engine) as tx:
        record_mail_choice(tx, get_shop(tx, "harbour"), MailChoice(transport="sendgrid"), now=utc_now())

    result = run_test("--shop", "harbour")

    assert result.exit_code == 1
    assert "mail.no_secret" in result.output
    assert "fleet mail transport --shop harbour" in result.output
    assert mails_of(engine) == []


def test_an_invalid_address_is_wrong_usage(engine: Engine) -> None:
    for address, fault in (("nobody", "should be one mail address"), ("a@b", "a domain without a period")):
        refused = CliRunner().invoke(main, ["mail", "test", address])
        assert (refused.exit_code, fault in refused.output) == (2, True), refused.output
    assert run_test("--shop", "nowhere").exit_code == 2
