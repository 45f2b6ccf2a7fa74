"""Each change is sent once to each channel, and storms are one message."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from services.alerts.channels import AlertSendHandler
from services.alerts.evaluate import evaluate_rules
from services.alerts.figures import Figure
from services.alerts.incidents import (
    Incident,
    find_incidents,
    resolve_incident,
)
from services.alerts.messages import MAX_NAMED
from services.alerts.notify import GATHER, record_alerts
from services.alerts.people import resolve_by_person
from services.alerts.rules import RULES
from services.core.db import transaction
from tests.alerts.slack import MINUTE, NOW, TOPIC, failure, fire, notify, recover
from tests.fakes.settings import settings_of
from tests.fakes.web import HANGS_UP, Answer, Web
from tests.jobs.job_rows import add_shops, runs
from tests.jobs.work import serve
from tests.observability.sentry_sink import SentrySink

UNREADABLE = {"due_at": "not a time", "status": "it has not started"}
OUTCOMES = (
    "select status, coalesce(result, error_code) from work_queue where topic = 'alert_send' order by id"
)


def test_an_incident_is_sent_when_it_opens_and_when_it_ends(engine: Engine, web: Web) -> None:
    add_shops(engine, NOW, acme="UTC")
    fire(engine, failure(1))

    (opened,) = notify(engine, web, NOW)
    assert opened.startswith(f"*P2 opened*: {RULES['work_dead'].about} (`work_dead`)")
    assert opened.splitlines()[0].endswith(", acme")
    assert "acme: 3 mail_send dead" in opened
    assert "`fleet incidents show 1`" in opened
    assert notify(engine, web, NOW + MINUTE) == []

    recover(engine, failure(1), NOW + 2 * MINUTE)
    (ended,) = notify(engine, web, NOW + 2 * MINUTE)
    assert ended.startswith("*P2 recovered*")
    assert notify(engine, web, NOW + timedelta(hours=3)) == []


def test_an_incident_that_ended_before_it_was_sent_is_not_sent(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    recover(engine, failure(), NOW)

    assert notify(engine, web, NOW) == []


def test_fifty_shops_with_one_fault_are_two_messages(engine: Engine, web: Web) -> None:
    fire(engine, failure(1))
    assert len(notify(engine, web, NOW)) == 1
    for shop in range(2, 51):
        fire(engine, failure(shop), now=NOW + MINUTE)
        assert notify(engine, web, NOW + MINUTE) == []

    (storm,) = notify(engine, web, NOW + GATHER)
    assert "49 incidents" in storm
    assert storm.count("mail_send dead") == MAX_NAMED
    assert f"and {49 - MAX_NAMED} more: `fleet incidents list --rule work_dead`" in storm


def test_rules_do_not_wait_for_each_other(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    fire(engine, failure(rule="clocks_apart", severity="P1"), now=NOW + MINUTE)

    assert len(notify(engine, web, NOW + MINUTE)) == 1


def test_a_higher_severity_is_sent(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    fire(engine, failure(severity="P1"), now=NOW + MINUTE)

    (worse,) = notify(engine, web, NOW + MINUTE)
    assert worse.startswith("*P1 worsened*")
    assert notify(engine, web, NOW + 2 * MINUTE) == []


def test_a_doubled_figure_is_sent_once(engine: Engine, web: Web) -> None:
    texts = []
    for minute, failures in enumerate((3, 4, 7, 7)):
        figure = Figure(failures, 7, "stripe", {"provider": "stripe", "senders": "a"})
        with transaction(engine) as tx:
            evaluate_rules(tx, {"signature_failures": [figure]}, NOW + minute * MINUTE)
        texts += notify(engine, web, NOW + minute * MINUTE)

    assert [text.partition(":")[0] for text in texts] == ["*P2 opened*", "*P2 worsened*"]
    assert "stripe webhooks with a wrong signature in an hour: 7 " in texts[1]


def test_an_incident_that_opens_again_is_sent_again(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    recover(engine, failure(), NOW + MINUTE)
    notify(engine, web, NOW + MINUTE)
    fire(engine, failure(), now=NOW + 2 * GATHER)

    (again,) = notify(engine, web, NOW + 2 * GATHER)
    assert again.startswith("*P2 opened*")


def test_a_snoozed_incident_is_sent_after_its_time(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with transaction(engine) as tx:
        tx.execute(text("update incidents set snoozed_until = :at"), {"at": NOW + MINUTE})

    assert notify(engine, web, NOW) == []
    assert len(notify(engine, web, NOW + MINUTE)) == 1


def test_a_person_who_resolves_is_named(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    with transaction(engine) as tx:
        (one,) = find_incidents(tx)
        resolve_by_person(tx, one.id, now=NOW, by="ada", reason="replaced the key", request_id="r")

    (ended,) = notify(engine, web, NOW + MINUTE)
    assert ended.startswith("*P2 resolved by ada*")
    assert "resolved by ada: replaced the key" in ended


@pytest.mark.parametrize("fault", [HANGS_UP, Answer(500, body=b"rollup_error"), Answer(429)])
def test_a_message_waits_while_slack_is_away(engine: Engine, web: Web, fault: Answer) -> None:
    web.answers = [fault, Answer(200, body=b"ok")]
    fire(engine, failure())

    assert len(notify(engine, web, NOW)) == 1
    assert [status for status, _ in runs(engine, OUTCOMES)] == ["error"]
    (sent,) = notify(engine, web, NOW + MINUTE)
    assert sent == web.requests[0].json["text"]
    assert runs(engine, OUTCOMES) == [("done", "sent")]


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, b"invalid_token", "slack.address_refused"),
        (404, b"no_service", "slack.address_refused"),
        (410, b"channel_is_archived", "slack.address_refused"),
        (400, b"invalid_payload", "slack.message_refused"),
    ],
)
def test_a_refused_message_is_dead_work_and_shows_no_address(
    engine: Engine, web: Web, status: int, body: bytes, code: str
) -> None:
    web.answers = [Answer(status, body=body)]
    fire(engine, failure())
    notify(engine, web, NOW)

    assert runs(engine, OUTCOMES) == [("dead", code)]
    assert "T0/B0" not in str(runs(engine, "select last_error from work_queue"))


def test_a_private_address_is_not_called(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with settings_of(ALLOW_PRIVATE_URLS="0"):
        assert notify(engine, web, NOW) == []

    assert runs(engine, OUTCOMES) == [("dead", "slack.private_address")]


def test_text_of_others_is_no_markup_in_slack(engine: Engine, web: Web) -> None:
    fire(engine, failure()._replace(summary="<!channel> & <https://evil.example|click>"))

    (opened,) = notify(engine, web, NOW)
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in opened


def test_a_message_about_many_long_summaries_is_short_enough_for_slack(engine: Engine, web: Web) -> None:
    add_shops(engine, NOW, **{f"shop{number}": "UTC" for number in range(1, 13)})
    long = "x" * 50_000
    fire(engine, *(failure(number)._replace(summary=f"first line\n{long}") for number in range(1, 13)))

    (opened,) = notify(engine, web, NOW)
    assert "first line xxx" in opened
    assert "…" in opened
    assert len(opened) < 4_000 * 1.25


def test_the_json_webhook_gets_the_whole_message(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with settings_of(ALERT_WEBHOOK_URL=f"{web.url}/alerts", SLACK_WEBHOOK_URL=""):
        with transaction(engine) as tx:
            record_alerts(tx, NOW)
        serve(engine, TOPIC, AlertSendHandler())

    (request,) = web.requests
    assert request.json["id"] == "1-opened-20261128T070000Z"
    assert request.json["incidents"][0]["opened_at"] == "2026-11-28T07:00:00+00:00"


def test_a_health_check_that_degrades_and_then_fails_is_posted_twice(engine: Engine, web: Web) -> None:
    add_shops(engine, NOW, acme="UTC")
    with settings_of(ALERT_WEBHOOK_URL=f"{web.url}/alerts", SLACK_WEBHOOK_URL=""):
        for minute, share in enumerate([*[30.0] * 16, *[55.0] * 3]):
            figure = Figure(share, 1, detail={"stale": 9, "entries": 30})
            with transaction(engine) as tx:
                evaluate_rules(tx, {"canvas_stale": [figure]}, NOW + minute * MINUTE)
                record_alerts(tx, NOW + minute * MINUTE)
        serve(engine, TOPIC, AlertSendHandler())

    # Both are due in one batch here, which sends them at once.
    posts = sorted((one.json["rule"], one.json["change"], one.json["severity"]) for one in web.requests)
    assert posts == [("canvas_stale", "opened", "P3"), ("canvas_stale", "worsened", "P2")]


def test_sentry_gets_one_event_for_each_incident_and_groups_by_shop_and_rule(engine: Engine) -> None:
    add_shops(engine, NOW, acme="UTC")
    sink = SentrySink()
    fire(engine, failure(1), failure(None, severity="P1"))
    with settings_of(SENTRY_DSN=sink.dsn, ENVIRONMENT="tests"):
        for minute in range(3):
            with transaction(engine) as tx:
                record_alerts(tx, NOW + minute * MINUTE)
                if minute == 1:
                    resolve_incident(tx, 1, failure().rule, None, NOW, "It is over.")
        serve(engine, TOPIC, AlertSendHandler())
        # A worker that dies after the call sends it again.
        with transaction(engine) as tx:
            tx.execute(text("update work_queue set status = 'pending', finished_at = null where id = 1"))
        serve(engine, TOPIC, AlertSendHandler())
    sink.close()

    events = [sink.next_event() for _ in range(3)]
    assert len({event["event_id"] for event in events}) == 2
    assert sorted((event["level"], *event["fingerprint"]) for event in events[:2]) == [
        ("error", "acme", "work_dead:mail_send"),
        ("fatal", "fleet", "work_dead:mail_send"),
    ]
    assert events[0]["environment"] == "tests"
    assert "3 mail_send dead" in events[0]["logentry"]["formatted"]
    assert sink.events.empty()


def test_a_channel_that_cannot_form_its_message_does_not_stop_the_others(engine: Engine, web: Web) -> None:
    late = Incident(None, "cron_did_not_run:close", "2026-11", "P2", "late", UNREADABLE)
    fire(engine, late)
    with settings_of(OPERATOR_EMAIL="ops@example.com"):
        (opened,) = notify(engine, web, NOW)

    assert "fleet: late" in opened
    assert runs(engine, "select count(*) from mail_outbox") == [(0,)]
    entries = "select text from incident_entries where kind = 'notified'"
    assert runs(engine, entries) == [("opened queued for slack; not planned for mail",)]


@pytest.mark.parametrize("severity", ["P1", "P2"])
def test_a_message_of_a_clock_that_was_ahead_holds_nothing_back(
    engine: Engine, web: Web, severity: str
) -> None:
    ahead = NOW + timedelta(hours=1)
    fire(engine, failure(1, severity=severity), now=ahead)
    assert len(notify(engine, web, ahead)) == 1
    fire(engine, failure(2, severity=severity), now=NOW + MINUTE)

    texts = [text.partition(":")[0] for text in notify(engine, web, NOW + MINUTE)]
    assert sorted(texts) == [f"*{severity} opened*", *(["*P1 still open*"] if severity == "P1" else [])]
    assert notify(engine, web, NOW + 2 * MINUTE) == []
