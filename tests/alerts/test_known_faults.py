"""Faults that users of other products of this kind reported: each is named in its test."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.alerts.channels import AlertSendHandler
from services.alerts.incidents import resolve_incident
from services.alerts.notify import GATHER, record_alerts
from services.alerts.people import acknowledge, snooze
from services.core.db import transaction
from services.core.errors import ShopfleetError
from tests.alerts.slack import MINUTE, NOW, TOPIC, failure, fire, notify, recover
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.fleet.waiting import wait_for
from tests.jobs.job_rows import add_shops, runs
from tests.jobs.work import serve

LOCKED = "select pid from pg_locks where locktype = 'advisory' and not granted"


def test_an_incident_that_ends_while_it_is_snoozed_is_sent_as_ended(engine: Engine, web: Web) -> None:
    """prometheus/alertmanager 226 and 2805: a silence also hid the end, so people went on to work on it."""
    fire(engine, failure())
    notify(engine, web, NOW)
    with transaction(engine) as tx:
        author = {"now": NOW, "by": "ada", "request_id": "r"}
        acknowledge(tx, 1, **author)
        snooze(tx, 1, NOW + timedelta(hours=8), reason="known", **author)
    recover(engine, failure(), NOW + MINUTE)

    (ended,) = notify(engine, web, NOW + MINUTE)
    assert ended.startswith("*P2 recovered*")


def test_the_end_of_a_part_of_a_storm_is_sent_before_the_rest_ends(engine: Engine, web: Web) -> None:
    """prometheus/alertmanager 1403: the end was sent only when all alerts of a group had ended."""
    add_shops(engine, NOW, **{f"shop{number}": "UTC" for number in range(1, 6)})
    fire(engine, *(failure(number) for number in range(1, 6)))
    notify(engine, web, NOW)
    for number in (1, 2):
        recover(engine, failure(number), NOW + GATHER)

    (ended,) = notify(engine, web, NOW + GATHER)
    assert ended.splitlines()[0].endswith(", 2 incidents")


@pytest.mark.parametrize("setting", ["SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "SENTRY_DSN"])
def test_a_summary_of_a_megabyte_is_cut_for_each_channel(engine: Engine, web: Web, setting: str) -> None:
    """prometheus/alertmanager 1840 and 2178, grafana/grafana 18727: a long text was refused."""
    address = f"http://key@127.0.0.1:{web.port}/1" if setting == "SENTRY_DSN" else f"{web.url}/x"
    add_shops(engine, NOW, **{f"shop{number}": "UTC" for number in range(1, 13)})
    fire(engine, *(failure(number)._replace(summary="é" * 1_000_000) for number in range(1, 13)))
    with settings_of(**{"SLACK_WEBHOOK_URL": "", setting: address}):
        with transaction(engine) as tx:
            record_alerts(tx, NOW)
        serve(engine, TOPIC, AlertSendHandler())

    assert web.requests
    assert max(len(request.body) for request in web.requests) < 200_000
    assert set(runs(engine, "select status, result from work_queue")) == {("done", "sent")}


def test_two_processes_that_notify_at_once_send_one_message(engine: Engine, web: Web) -> None:
    """prometheus/alertmanager 1005 and 2327, healthchecks 610: several instances sent each message twice."""
    fire(engine, failure())

    def notify_too() -> None:
        with transaction(engine) as tx:
            record_alerts(tx, NOW + timedelta(seconds=1))

    second = threading.Thread(target=notify_too)
    with transaction(engine) as tx:
        record_alerts(tx, NOW)
        second.start()
        wait_for(lambda: len(runs(engine, LOCKED)) == 1)
    second.join(60)
    serve(engine, TOPIC, AlertSendHandler())

    assert len(web.requests) == 1


def test_a_finding_that_comes_and_goes_is_open_until_it_stays_away(engine: Engine, web: Web) -> None:
    """prometheus/alertmanager 204, louislam/uptime-kuma 3031: a state that flaps sent a message each time."""
    sent: list[str] = []
    for step in range(120):
        now = NOW + step * MINUTE / 4
        fire(engine, failure(), now=now) if step % 2 == 0 else recover(engine, failure(), now)
        sent += notify(engine, web, now)
    assert [text.partition("*:")[0] for text in sent] == ["*P2 opened", "*P2 recovered", "*P2 opened"]

    last = NOW + 118 * MINUTE / 4
    assert notify(engine, web, last + GATHER - MINUTE / 4) == []
    (ended,) = notify(engine, web, last + GATHER)
    assert ended.startswith("*P2 recovered*")


@pytest.mark.parametrize("number", range(5))
def test_of_two_people_at_once_one_holds_the_incident_and_both_are_on_the_timeline(
    engine: Engine, number: int
) -> None:
    """Two people press the button at once: the later one takes it over, and each reads who held it."""
    fire(engine, failure())
    start, holders = threading.Barrier(2), []

    def take(by: str) -> None:
        start.wait()
        with transaction(engine) as tx:
            found = acknowledge(tx, 1, now=NOW, by=by, request_id=f"r{number}")
            holders.append((by, found.acknowledged_by))

    people = [threading.Thread(target=take, args=(by,)) for by in ("ada", "bob")]
    for person in people:
        person.start()
    for person in people:
        person.join()

    (first, nobody), (second, before) = sorted(holders, key=lambda pair: pair[1] is not None)
    assert (nobody, before) == (None, first)
    assert runs(engine, "select acknowledged_by from incidents") == [(second,)]
    entries = "select by, text from incident_entries where kind = 'acknowledge' order by id"
    assert runs(engine, entries) == [(first, ""), (second, f"taken over from {first}")]


def test_who_takes_an_incident_as_it_ends_does_not_open_it_again(engine: Engine) -> None:
    """grafana/oncall 3161: an acknowledgement a moment after the end opened the alert again."""
    fire(engine, failure())
    outcome: list[str] = []

    def take() -> None:
        try:
            with transaction(engine) as tx:
                acknowledge(tx, 1, now=NOW, by="ada", request_id="r")
        except ShopfleetError as fault:
            outcome.append(str(fault))

    person = threading.Thread(target=take)
    with transaction(engine) as tx:
        resolve_incident(tx, failure().shop_id, failure().rule, failure().period, NOW, "It is over.")
        person.start()
        wait_for(lambda: runs(engine, "select 1 from pg_stat_activity where wait_event_type = 'Lock'"))
    person.join()

    assert outcome == ["incident 1 is resolved already: nothing was changed"]
    assert runs(engine, "select status, acknowledged_by from incidents") == [("resolved", None)]
