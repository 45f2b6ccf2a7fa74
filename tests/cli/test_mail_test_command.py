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
from services.mail.send import MailSend
from services.shops.mail_transport import MailChoice, record_mail_choice
from services.shops.secrets import record_secret
from services.shops.shops import get_shop
from tests.fakes.mail_services import Resend
from tests.fakes.smtp import CLOSE, Scripted
from tests.mail.mails import mail_settings, mails_of, run
from tests.shopify.sample_payloads import add_shop

pytestmark = pytest.mark.usefixtures("broker_url")


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["mail", "test", "ada@example.com", *arguments])


@contextmanager
def working(engine: Engine) -> Iterator[None]:
    """Run a worker until the block ends."""
    over = threading.Event()
    effect = MailSend(lambda: engine)

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
        asked = ask("--as", "ada", "--json")

    assert asked.exit_code == 0, asked.output
    told = json.loads(asked.stdout)
    (mail,) = server.mails
    assert (told["status"], told["is_sent"], told["transport"]) == ("sent", True, "smtp")
    assert told["message_id"].encode() in mail
    assert b"Shopfleet can reach you by mail" in mail
    assert b"127.0.0.1" in mail


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ({"RCPT": ["550 no such user"]}, "refused", "check it with its owner"),
        ({"TEXT": [CLOSE]}, "unknown", "fleet mail show 1"),
        ({"MAIL": ["550 not yours"]}, "dead", "set MAIL_FROM and restart the workers"),
    ],
)
def test_a_mail_that_is_not_sent_exits_with_1_and_what_to_do(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]], status: str, said: str
) -> None:
    with (
        Scripted(answers).serving() as server,
        mail_settings(monkeypatch, SMTP_URL=server.url),
        working(engine),
    ):
        asked = ask("--wait", "10", "--json")

    told = json.loads(asked.stdout)
    assert asked.exit_code == 1
    assert (told["status"], told["is_sent"]) == (status, False), told
    assert said in told["to_do"]
    assert told["code"]


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
        asked = ask("--shop", "harbour")

    assert asked.exit_code == 0, asked.output
    assert "sent through resend" in asked.stdout
    assert [mail["from"] for mail in service.mails] == ["mail@harbour.example"]


def test_a_wait_longer_than_the_command_is_reported_immediately(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = {"statusCode": 429, "name": "daily_quota_exceeded", "message": "You have reached your quota."}
    with harbour(engine, monkeypatch) as service:
        service.answers = [(429, quota, {})]
        asked = ask("--shop", "harbour", "--wait", "600", "--json")

    told = json.loads(asked.stdout)
    assert (asked.exit_code, told["status"], told["is_final"]) == (1, "queued", True)
    assert told["code"] == "resend.daily_quota_exceeded"
    assert "it is retried automatically" in told["to_do"]


def test_a_refused_key_is_reported_with_the_command_to_record_another(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with harbour(engine, monkeypatch, key="re_wrongone_12345678"):
        asked = ask("--shop", "harbour")

    assert asked.exit_code == 1
    assert "not sent: resend.key_refused" in asked.stdout
    assert "To do: fleet shops secret harbour resend-key --stdin" in asked.stdout
    assert "re_wrong" not in asked.output


def test_without_a_worker_the_mail_waits_and_the_command_exits_with_1(engine: Engine) -> None:
    asked = ask("--wait", "0.3")

    assert asked.exit_code == 1
    assert "not sent within 0.3 s: waits for a worker" in asked.stdout
    assert "a worker of queue email runs" in asked.stdout
    assert [row["status"] for row in mails_of(engine)] == ["queued"]


def test_no_wait_exits_without_the_result(engine: Engine) -> None:
    asked = ask("--no-wait")

    assert asked.exit_code == 0
    (row,) = mails_of(engine)
    assert row["period"].startswith(f"{utc_now():%Y-}")
    assert (row["kind"], row["shop_id"]) == ("test", None)


def test_wrong_mail_settings_of_a_shop_are_reported_before_anything_is_stored(engine: Engine) -> None:
    add_shop(engine, "harbour")
    with transaction(engine) as tx:
        record_mail_choice(tx, get_shop(tx, "harbour"), MailChoice(transport="sendgrid"), now=utc_now())

    asked = ask("--shop", "harbour")

    assert asked.exit_code == 1
    assert "mail.no_secret" in asked.output
    assert "fleet mail transport harbour" in asked.output
    assert mails_of(engine) == []


def test_an_invalid_address_is_wrong_usage(engine: Engine) -> None:
    assert CliRunner().invoke(main, ["mail", "test", "nobody"]).exit_code == 2
    assert ask("--shop", "nowhere").exit_code == 2
