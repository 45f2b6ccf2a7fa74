"""Faults that users of other products of this kind reported: each is named in its test."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.alerts.channels import AlertSendHandler
from services.alerts.notify import GATHER, record_alerts
from services.alerts.people import acknowledge, snooze
from services.core.db import transaction
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
