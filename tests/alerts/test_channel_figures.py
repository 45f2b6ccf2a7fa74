"""A channel that fails is an incident on the others and in the health, until a message gets through."""

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.alerts.channels import AlertSendHandler
from services.alerts.evaluate import evaluate_rules
from services.alerts.incidents import Incident, record_incidents
from services.alerts.notify import GATHER, record_alerts
from services.alerts.own_figures import collect_figures
from services.alerts.work_rules import record_dead_work
from services.cli import alerts_test
from services.cli.main import main
from services.core.db import transaction
from services.jobs.conditions import count_conditions
from services.ledger.health import Health, classify_health
from services.mail.send import MailSendHandler
from tests.fakes.settings import settings_of
from tests.fakes.smtp import Sink, smtp_server
from tests.fakes.web import Answer, Web
from tests.jobs.job_rows import runs
from tests.jobs.work import make_due, serve

START = datetime(2026, 11, 21, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OPEN = "select rule, severity, status from incidents where rule like 'alert_channel_failed%' order by id"


@pytest.fixture
def slack() -> Iterator[Web]:
    with Web() as web, settings_of(SLACK_WEBHOOK_URL=f"{web.url}/x", ALLOW_PRIVATE_URLS="1"):
        yield web


@pytest.fixture
def webhook() -> Iterator[Web]:
    with Web() as web, settings_of(ALERT_WEBHOOK_URL=f"{web.url}/alerts"):
        yield web


def step(engine: Engine, now: datetime) -> None:
    """Evaluate the rules and send what is due, as beat and a worker do."""
    with transaction(engine) as tx:
        evaluate_rules(tx, collect_figures(tx, now), now)
        record_alerts(tx, now)
    make_due(engine, ["alert_send"])
    serve(engine, "alert_send", AlertSendHandler())


def pass_minutes(engine: Engine, start: datetime) -> None:
    """Evaluate and send for as long as the rule needs to recover."""
    for minute in range(3):
        step(engine, start + minute * MINUTE)


def fire(engine: Engine, number: int, now: datetime) -> None:
    with transaction(engine) as tx:
        one = Incident(None, f"clocks_apart:{number}", "2026-11-21", "P1", "they are 180 s apart")
        record_incidents(tx, [one], now)


def sent_rules(web: Web) -> Sequence[str]:
    return [request.json["incidents"][0]["rule"] for request in web.requests]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refused_channel_is_sent_to_the_others_until_a_message_gets_through(
    engine: Engine, slack: Web, webhook: Web, status: int
) -> None:
    slack.answers = [Answer(status, body=b"no_service")]
    fire(engine, 1, START)
    step(engine, START)
    step(engine, START + MINUTE)

    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "open")]
    assert sent_rules(webhook) == ["clocks_apart:1", "alert_channel_failed:slack"]
    assert "slack gets no alerts" in webhook.requests[-1].json["incidents"][0]["summary"]
    assert "slack.address_refused" in webhook.requests[-1].json["incidents"][0]["summary"]
    with transaction(engine) as tx:
        conditions = count_conditions(tx, START)
    health = classify_health(Health(database_latency_ms=1, broker_latency_ms=1, conditions=conditions), START)
    assert "alerts:slack" in health.failing

    fire(engine, 2, START + GATHER + MINUTE)
    step(engine, START + GATHER + MINUTE)
    pass_minutes(engine, START + GATHER + 2 * MINUTE)
    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "resolved")]
    assert [request.json["change"] for request in webhook.requests][-1] == "recovered"
    assert not any("alert_channel_failed" in request.json["text"] for request in slack.requests)


def test_a_channel_that_is_retried_for_15_minutes_fails(engine: Engine, slack: Web, webhook: Web) -> None:
    slack.answers = [Answer(503)] * 9
    fire(engine, 1, START)
    for minute in range(15):
        step(engine, START + minute * MINUTE)
        if minute > 2:
            slack.answers = [Answer(503)] * 9
    assert runs(engine, OPEN) == []
    step(engine, START + 15 * MINUTE)
    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "open")]
    step(engine, START + 16 * MINUTE)
    assert sent_rules(webhook)[-1] == "alert_channel_failed:slack"

    slack.answers = []
    step(engine, START + 17 * MINUTE)
    pass_minutes(engine, START + 18 * MINUTE)
    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "resolved")]


def test_a_refused_operator_address_is_sent_to_slack(engine: Engine, slack: Web) -> None:
    refused = (
        "update work_queue set status = 'dead', finished_at = now(), error_code = 'smtp.recipient_refused'"
        " where topic = 'mail_send'"
    )
    with settings_of(OPERATOR_EMAIL="ops@example.com"):
        fire(engine, 1, START)
        step(engine, START)
        with transaction(engine) as tx:
            tx.execute(text(refused))
            tx.execute(text("update mail_outbox set status = 'refused'"))
            assert record_dead_work(tx, START) == 0  # one fault, one incident
        step(engine, START + MINUTE)
        assert "smtp.recipient_refused" in slack.requests[-1].json["text"]
        assert runs(engine, "select count(*) from mail_outbox") == [(1,)]

        with transaction(engine) as tx:
            tx.execute(text("update mail_outbox set status = 'sent', sent_at = now() + interval '1 second'"))
        pass_minutes(engine, START + 2 * MINUTE)
        assert runs(engine, OPEN) == [("alert_channel_failed:mail", "P2", "resolved")]


def test_an_only_channel_that_fails_is_an_incident_that_nobody_is_sent(engine: Engine, slack: Web) -> None:
    slack.answers = [Answer(404)]
    fire(engine, 1, START)
    for minute in range(4):
        step(engine, START + minute * MINUTE)

    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "open")]
    assert len(slack.requests) == 1


def test_a_channel_that_nobody_set_up_does_not_fail(engine: Engine, slack: Web) -> None:
    slack.answers = [Answer(404)]
    fire(engine, 1, START)
    step(engine, START)
    with settings_of(SLACK_WEBHOOK_URL=""):
        step(engine, START + MINUTE)

    assert runs(engine, OPEN) == []


def run_test(engine: Engine, *arguments: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines of ``fleet alerts test`` while a worker runs."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            serve(engine, "alert_send", AlertSendHandler())
            serve(engine, "mail_send", MailSendHandler())

    worker = threading.Thread(target=work)
    worker.start()
    try:
        result = CliRunner().invoke(main, ("alerts", "test", "--actor", "ada", *arguments))
    finally:
        stop.set()
        worker.join()
    return result.exit_code, result.stdout.splitlines()


def test_the_test_message_goes_through_every_channel(engine: Engine, slack: Web, webhook: Web) -> None:
    webhook.answers = [Answer(404, body=b"gone")]
    code, lines = run_test(engine)

    assert code == 1
    assert lines[0] == "slack: sent"
    assert lines[2] == "mail: not set up: OPERATOR_EMAIL is empty in the settings of the workers"
    assert lines[1].startswith("alert_webhook: not sent: alert_webhook.address_refused: HTTP 404 gone")
    assert "ada tests this channel. Nothing is wrong." in slack.requests[0].json["text"]
    assert runs(engine, "select count(*) from incidents") == [(0,)]


def test_a_test_mail_reaches_the_mail_server(engine: Engine) -> None:
    sink = Sink()
    with (
        smtp_server(sink) as url,
        settings_of(OPERATOR_EMAIL="ops@example.com", SMTP_URL=url, MAIL_TRANSPORT="smtp"),
    ):
        assert run_test(engine, "--channel", "mail") == (0, ["mail: sent"])

    (mail,) = sink.mails
    assert mail["Subject"].startswith("Test: P3 test message at fleet (20")
    assert "Nothing is wrong." in mail.get_body(("plain",)).get_content()


def test_a_test_message_ends_the_incident_of_its_channel(engine: Engine, slack: Web, webhook: Web) -> None:
    slack.answers = [Answer(404)]
    fire(engine, 1, START)
    step(engine, START)
    step(engine, START + MINUTE)
    assert run_test(engine, "--channel", "slack") == (0, ["slack: sent"])
    pass_minutes(engine, START + 2 * MINUTE)

    assert runs(engine, OPEN) == [("alert_channel_failed:slack", "P2", "resolved")]


def test_a_test_without_effect_sends_nothing(engine: Engine, slack: Web) -> None:
    code, lines = run_test(engine, "--dry-run", "--channel", "slack")
    assert (code, lines) == (
        0,
        ["slack: would be sent, if SLACK_WEBHOOK_URL is set in the settings of the workers"],
    )
    assert slack.requests == []
    assert runs(engine, "select count(*) from work_queue") == [(0,)]


def test_the_settings_of_the_workers_decide_which_channels_are_tested(engine: Engine, slack: Web) -> None:
    code, lines = run_test(engine, "--channel", "mail", "--json")
    assert (code, [one["status"] for one in json.loads("\n".join(lines))]) == (1, ["not_set"])
    code, lines = run_test(engine)
    assert (code, lines[0], lines[1][:25]) == (0, "slack: sent", "alert_webhook: not set up")
    with settings_of(SLACK_WEBHOOK_URL=""):
        assert run_test(engine)[0] == 1, "no channel is set up"


def test_two_tests_in_one_second_send_two_mails(engine: Engine) -> None:
    sink = Sink()
    with (
        smtp_server(sink) as url,
        settings_of(OPERATOR_EMAIL="ops@example.com", SMTP_URL=url, MAIL_TRANSPORT="smtp"),
    ):
        for _ in range(2):
            assert run_test(engine, "--channel", "mail") == (0, ["mail: sent"])
    assert len(sink.mails) == 2


def test_a_test_message_that_no_worker_takes_says_so(engine: Engine, slack: Web) -> None:
    result = CliRunner().invoke(main, ("alerts", "test", "--timeout", "0.01"))

    assert result.exit_code == 1
    assert "not sent yet: no worker of queue ops took it; see `fleet doctor`" in result.output


def test_the_test_says_every_few_seconds_what_it_waits_for(
    engine: Engine, slack: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts_test, "NOTE_SECONDS", 0.1)
    result = CliRunner().invoke(main, ("alerts", "test", "--channel", "slack", "--timeout", "1"))

    assert result.exit_code == 1
    waits = "waited 0 s of 1 s: slack: not sent yet: no worker of queue ops took it; see `fleet doctor`\n"
    assert result.stderr.count(waits) >= 2
    assert "waited" not in CliRunner().invoke(main, ("alerts", "test", "--timeout", "1", "--json")).output


def test_a_channel_that_cannot_form_a_message_is_an_incident_on_the_others_until_one_gets_through(
    engine: Engine, slack: Web
) -> None:
    unreadable = {"due_at": "not a time", "status": "it has not started"}
    with settings_of(OPERATOR_EMAIL="ops@example.com"):
        with transaction(engine) as tx:
            late = Incident(None, "cron_did_not_run:close", "2026-11", "P2", "late", unreadable)
            record_incidents(tx, [late], START)
        step(engine, START)
        pass_minutes(engine, START + MINUTE)

        assert runs(engine, OPEN) == [("alert_channel_failed:mail", "P2", "open")]
        (summary,) = runs(engine, "select summary from incidents where rule like 'alert_channel%'")[0]
        assert summary.startswith("mail gets no alerts since ")
        assert summary.endswith(": alert.not_planned")
        assert any("(`alert_channel_failed`)" in request.json["text"] for request in slack.requests)
        with transaction(engine) as tx:
            conditions = count_conditions(tx, START)
        parts = Health(database_latency_ms=1, broker_latency_ms=1, conditions=conditions)
        assert "alerts:mail" in classify_health(parts, START).failing

        fire(engine, 1, START + 5 * MINUTE)
        step(engine, START + 5 * MINUTE)
        with transaction(engine) as tx:
            tx.execute(text("update alert_channels set not_planned_at = :at"), {"at": START})
            tx.execute(text("update mail_outbox set status = 'sent', sent_at = created_at"))
        pass_minutes(engine, START + 6 * MINUTE)
        assert runs(engine, OPEN) == [("alert_channel_failed:mail", "P2", "resolved")]
