"""``fleet mail`` with a real outbox."""

import json

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from tests.cli.commands import Typed
from tests.fakes.smtp import CLOSE, Scripted
from tests.mail.mails import mail_settings, mails_of, new_mail, queue, run


def fleet(*arguments: str, answer: str | Typed | None = None) -> Result:
    return CliRunner().invoke(main, ["mail", *arguments], input=answer)


@pytest.fixture
def stuck(engine: Engine, monkeypatch: pytest.MonkeyPatch, broker_url: str) -> Engine:
    """Two mails: the first has an unknown outcome, the second was sent."""
    with Scripted({"TEXT": [CLOSE]}).serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        queue(engine, new_mail(1))
        run(engine)
        queue(engine, new_mail(2))
        run(engine)
    return engine


def test_list_shows_stuck_mails_with_masked_addresses(stuck: Engine) -> None:
    listed = json.loads(fleet("list", "--status", "unknown", "--json").output)

    assert [(line["id"], line["status"], line["recipient"]) for line in listed] == [
        (1, "unknown", "o***@example.com")
    ]
    assert "owner@example.com" not in fleet("list").output
    refused = fleet("list", "--status", "lost")
    assert refused.exit_code == 2
    assert "should be one of queued" in refused.output


def test_show_prints_the_commands_for_a_stuck_mail(stuck: Engine) -> None:
    shown = fleet("show", "1")

    assert "owner@example.com" in shown.output
    assert "fleet mail mark-sent 1 --reason" in shown.output
    assert fleet("show", "99").exit_code == 2


@pytest.mark.parametrize("command", ["mark-sent", "forget"])
def test_mark_sent_needs_confirmation_and_sets_the_status_to_sent(stuck: Engine, command: str) -> None:
    refused = fleet(command, "1", "--reason", "she has it", answer=Typed("n\n"))
    agreed = fleet(command, "1", "--reason", "she has it", "--as", "ada", answer=Typed("y\n"))

    assert (refused.exit_code, agreed.exit_code) == (1, 0), agreed.output
    assert mails_of(stuck)[0]["status"] == "sent"


def test_resend_sends_the_mail_again(stuck: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fleet("resend", "1", "--reason", "not in her mailbox", "-f")
    assert result.exit_code == 0, result.output
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(stuck)

    assert len(server.mails) == 1
    assert {row["status"] for row in mails_of(stuck)} == {"sent"}
