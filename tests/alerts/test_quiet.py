"""Quiet hours and maintenance windows hold messages back; what is still open leaves when they end."""

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.alerts.channels import AlertSendHandler
from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.notify import record_alerts
from services.alerts.quiet import LONGEST, QuietWindow, add_window, parse_hours
from services.cli.main import main
from services.core.db import transaction
from services.core.errors import InputInvalid
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.job_rows import add_shops, runs
from tests.jobs.work import serve

PARIS = ZoneInfo("Europe/Paris")
NIGHT = datetime(2026, 11, 28, 2, tzinfo=UTC)
MORNING = datetime(2026, 11, 28, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NIGHTS = QuietWindow(None, "22:00", "07:00", "UTC")
MOVE = QuietWindow(1, begins_at=NIGHT, ends_at=MORNING)


@pytest.fixture
def slack(engine: Engine) -> Iterator[Web]:
    add_shops(engine, NIGHT, acme="UTC", west="America/Los_Angeles")
    with Web() as web, settings_of(SLACK_WEBHOOK_URL=f"{web.url}/x", ALLOW_PRIVATE_URLS="1"):
        yield web


def add(engine: Engine, window: QuietWindow) -> None:
    with transaction(engine) as tx:
        add_window(tx, window, now=NIGHT, by="ada", reason="nobody is there", request_id="r")


def fire(
    engine: Engine, shop_id: int | None, severity: str = "P2", rule: str = "work_dead:mail_send"
) -> None:
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(shop_id, rule, "2026-11-28", severity, "3 dead")], NIGHT)


def recover(engine: Engine, shop_id: int, now: datetime) -> None:
    with transaction(engine) as tx:
        resolve_incident(tx, shop_id, "work_dead:mail_send", None, now, "It is over.")


def send(engine: Engine, slack: Web, now: datetime) -> list[str]:
    before = len(slack.requests)
    with transaction(engine) as tx:
        record_alerts(tx, now)
    serve(engine, "alert_send", AlertSendHandler())
    return [request.json["text"] for request in slack.requests[before:]]


@pytest.mark.parametrize(
    ("hours", "at", "is_on"),
    [
        ("22:00-07:00", "21:59", False),
        ("22:00-07:00", "22:00", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "07:00", False),
        ("12:30-13:30", "13:29", True),
        ("12:30-13:30", "13:30", False),
    ],
)
def test_quiet_hours_begin_with_their_first_minute_and_end_before_their_last(
    hours: str, at: str, is_on: bool
) -> None:
    window = QuietWindow(None, *parse_hours(hours), "UTC")

    assert window.is_on(datetime.fromisoformat(f"2026-11-28T{at}Z")) is is_on


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-06-01"])
def test_quiet_hours_are_on_the_clock_of_their_zone_in_the_nights_of_a_change(day: str) -> None:
    window = QuietWindow(None, "22:00", "07:00", "Europe/Paris")
    midnight = datetime.fromisoformat(f"{day}T00:00").astimezone(UTC)
    minutes = [midnight + n * MINUTE for n in range(24 * 60)]

    assert [window.is_on(at) for at in minutes] == [not 7 <= at.astimezone(PARIS).hour < 22 for at in minutes]


@pytest.mark.parametrize("text", ["22:00", "22:00-22:00", "25:00-07:00", "22-7", "a-b", "", "22:00:00-07:00"])
def test_wrong_hours_say_what_is_right(text: str) -> None:
    with pytest.raises(InputInvalid, match="should be two different times such as 22:00-07:00"):
        parse_hours(text)


@pytest.mark.parametrize("length", [timedelta(0), LONGEST + MINUTE])
def test_a_maintenance_window_is_at_most_a_day_long(engine: Engine, length: timedelta) -> None:
    with pytest.raises(InputInvalid, match=r"at most 24h long|is over"):
        add(engine, MOVE._replace(ends_at=NIGHT + length))


def test_quiet_hours_hold_p2s_back_and_let_p1s_pass(engine: Engine, slack: Web) -> None:
    add(engine, NIGHTS)
    fire(engine, 1)
    fire(engine, 2)
    fire(engine, None, "P1", "clocks_apart")

    (urgent,) = send(engine, slack, NIGHT)
    assert urgent.startswith("*P1 opened*")
    (held,) = (text for text in send(engine, slack, MORNING) if text.startswith("*P2 opened*"))
    assert "2 incidents" in held


def test_what_recovers_in_a_window_is_not_sent(engine: Engine, slack: Web) -> None:
    add(engine, NIGHTS)
    fire(engine, 1)
    assert send(engine, slack, NIGHT) == []
    recover(engine, 1, NIGHT + MINUTE)

    assert send(engine, slack, MORNING) == []


def test_the_end_of_an_incident_that_was_sent_before_the_window_is_sent_after_it(
    engine: Engine, slack: Web
) -> None:
    fire(engine, 1)
    assert len(send(engine, slack, NIGHT)) == 1
    add(engine, NIGHTS)
    recover(engine, 1, NIGHT + MINUTE)
    assert send(engine, slack, NIGHT + MINUTE) == []

    (ended,) = send(engine, slack, MORNING)
    assert ended.startswith("*P2 recovered*")


def test_maintenance_holds_p1s_of_its_shop_back_and_nothing_else(engine: Engine, slack: Web) -> None:
    add(engine, MOVE)
    fire(engine, 1, "P1")
    fire(engine, 2, "P1", "job_failed:close")
    fire(engine, None, "P3", "database_large")

    texts = send(engine, slack, NIGHT)
    rules = sorted(text.partition("`)")[0].rpartition("`")[2] for text in texts)
    assert rules == ["database_large", "job_failed"]
    assert not any("work_dead" in text for text in send(engine, slack, MORNING - MINUTE))
    assert any("work_dead" in text for text in send(engine, slack, MORNING))


def quiet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("alerts", "quiet", *arguments))


def test_windows_are_added_listed_and_removed_with_an_audit(engine: Engine, slack: Web) -> None:
    why = ("--reason", "nobody is on call", "--actor", "ada")
    assert quiet("add", "--daily", "22:00-07:00", "--shop", "west", *why, "--dry-run").output == (
        "Would add quiet hours of west: daily 22:00 to 07:00 America/Los_Angeles.\n"
    )
    assert json.loads(quiet("list", "--json").output) == []
    added = json.loads(quiet("add", "--daily", "22:00-07:00", "--zone", "Asia/Tokyo", *why, "--json").output)
    assert (added["kind"], added["shop"], added["zone"]) == ("quiet hours", None, "Asia/Tokyo")
    assert quiet("add", "--for", "2h", "--shop", "acme", *why).output.startswith("Added maintenance")
    (hours, move) = json.loads(quiet("list", "--json").output)
    assert (move["shop"], move["is_on"], move["created_by"]) == ("acme", True, "ada")

    assert quiet("remove", str(hours["id"])).exit_code == 0
    assert [one["id"] for one in json.loads(quiet("list", "--json").output)] == [move["id"]]
    actions = "select action from audit_events where action like 'quiet%' order by id"
    assert runs(engine, actions) == [("quiet_window.add",), ("quiet_window.add",), ("quiet_window.remove",)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add --reason x", "give --daily (with --zone), or --for (with --begin)"),
        ("add --daily 22:00-07:00 --for 2h --reason x", "give --daily"),
        ("add --for 2h --zone UTC --reason x", "give --daily"),
        ("add --daily 22-7 --reason x", "should be two different times such as 22:00-07:00"),
        ("add --daily 22:00-07:00 --zone Paris --reason x", "should be an IANA name"),
        ("add --daily 22:00-07:00 --zone Europe/Pari --reason x", "did you mean 'Europe/Paris'?"),
        ("add --for 2h --begin 24h --reason x", "'24h' should be a time such as 2026-11-20T08:00Z"),
        ("add --for 3d --reason x", "at most 24h long"),
        ("add --for 2h --begin 2026-01-01T00:00Z --reason x", "which is over"),
        ("add --for 2h --reason ' '", "Error: --reason is empty: give it a text"),
        ("add --for 2h --shop nowhere --reason x", "nowhere"),
        ("remove 99", "there is none yet"),
    ],
)
def test_wrong_windows_are_refused(engine: Engine, slack: Web, line: str, message: str) -> None:
    refused = quiet(*shlex.split(line))

    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
    assert runs(engine, "select count(*) from quiet_windows") == [(0,)]
