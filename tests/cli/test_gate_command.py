"""The deploy gate: closed while something may be made worse, and never open if nobody knows."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, create_engine, text

from services.alerts.evaluate import check_rules
from services.alerts.figures import Figures
from services.alerts.incidents import Incident, record_incidents
from services.alerts.people import resolve_by_person
from services.cli.main import main
from services.console.app import make_app
from services.core import db
from services.core.clock import utc_now
from services.core.db import driver_url, transaction
from services.core.settings import get_settings
from services.core.times import format_time
from tests.fakes.settings import settings_of

URL = "/api/v1/deploy-gate"
SECRET = "tests-only-cron-secret-" + "c" * 32
pytestmark = pytest.mark.usefixtures("now")
NOW = utc_now()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("gate", *arguments))


@pytest.fixture
def client(engine: Engine) -> FlaskClient:
    return make_app().test_client()


def ask(client: FlaskClient) -> tuple[int, dict[str, object]]:
    answer = client.get(URL, headers={"X-Cron-Secret": SECRET})
    found: dict[str, object] = answer.get_json()
    return answer.status_code, found


def add(engine: Engine, severity: str, rule: str = "heartbeat_old:beat") -> None:
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(None, rule, "2026-11-20", severity, f"{rule} is bad")], NOW)


def collect_nothing(_tx: Connection, _now: datetime) -> Figures:
    return {"secret_old": []}


def evaluate(engine: Engine, at: datetime) -> None:
    with transaction(engine) as tx:
        check_rules(tx, [collect_nothing], at)


def codes() -> list[str]:
    return [one["code"] for one in json.loads(run("--json").stdout)["reasons"]]


def test_the_gate_is_open_without_a_p1(engine: Engine, client: FlaskClient) -> None:
    add(engine, "P2", "work_dead:reconcile")

    done = run()
    assert done.exit_code == 0
    assert done.output.startswith("The deploy gate is open.\n- no rule was ever evaluated")
    evaluate(engine, NOW)
    assert run().output == "The deploy gate is open.\n"
    assert ask(client) == (200, {"gate": "open", "openings": []})


def test_a_p1_closes_it_with_the_incident_until_it_is_resolved(engine: Engine, client: FlaskClient) -> None:
    add(engine, "P1")

    closed = run()
    assert closed.exit_code == 1
    assert "- p1_open: incident 1 (P1, heartbeat_old:beat, fleet) is open since" in closed.stdout
    status, answer = ask(client)
    assert (status, answer["gate"]) == (409, "closed")
    assert answer["reasons"] == json.loads(run("--json").stdout)["reasons"]
    with transaction(engine) as tx:
        resolve_by_person(tx, 1, now=NOW, by="ada", reason="repaired", request_id="r")
    assert run().exit_code == 0


def test_it_needs_the_machine_secret(client: FlaskClient) -> None:
    assert client.get(URL).status_code == 403


def test_it_opens_for_one_incident_for_two_hours(engine: Engine) -> None:
    add(engine, "P1")
    add(engine, "P1", "clocks_apart")

    opened = run("--for", "1", "--reason", "deploys the fix", "--as", "ada")
    assert opened.exit_code == 1, "the other P1 closes it"
    assert opened.output.startswith("Opened for incident 1 until ")
    assert codes() == ["p1_open"]
    both = run("--for", "2", "--reason", "deploys the fix", "--as", "ada")
    assert both.exit_code == 0
    assert "The deploy gate is open." in both.output
    shown = json.loads(CliRunner().invoke(main, ["incidents", "show", "1", "--json"]).output)
    last = shown["timeline"][-1]
    assert (last["kind"], last["by"], last["text"]) == ("gate_opened", "ada", "deploys the fix")
    with engine.begin() as tx:
        audited = tx.execute(
            text(
                "select e.staff_label, e.action, m.summary from audit_events e"
                " join audit_mutations m on m.event_id = e.id order by e.id limit 1"
            )
        ).one()
        assert tuple(audited) == (
            "ada",
            "incident.gate_opened",
            "opened the deploy gate for incident heartbeat_old:beat for 2026-11-20: deploys the fix",
        )
        later = {"until": (utc_now() - timedelta(seconds=1)).isoformat()}
        statement = "update incident_entries set detail = cast(:d as jsonb) where kind = 'gate_opened'"
        tx.execute(text(statement), {"d": json.dumps(later)})
    assert codes() == ["p1_open", "p1_open"]


def test_an_opening_in_force_is_shown(engine: Engine, client: FlaskClient) -> None:
    add(engine, "P1")
    assert run("--for", "1", "--reason", "deploys the fix", "--as", "ada").exit_code == 0

    shown = run()
    assert re.fullmatch(
        "The deploy gate is open.\n- no rule .*\n"
        "- open until [0-9-]{10} [0-9:]{5} [-+][0-9:]{5} for incident 1 "
        r"\(by ada: deploys the fix\)\n",
        shown.output,
    ), shown.output
    status, answer = ask(client)
    (opening,) = json.loads(run("--json").stdout)["openings"]
    assert (status, answer) == (200, {"gate": "open", "openings": [opening]})
    assert (opening["incident"], opening["by"], opening["reason"]) == (1, "ada", "deploys the fix")
    assert datetime.fromisoformat(opening["until"]) > utc_now()
    add(engine, "P1", "clocks_apart")
    status, answer = ask(client)
    assert (status, answer["openings"]) == (409, [opening])
    assert "- open until " in run().output


def test_the_channels_get_each_opening(engine: Engine) -> None:
    add(engine, "P1")
    with settings_of(SLACK_WEBHOOK_URL="https://hooks.example.com/x"):
        assert run("--for", "1", "--reason", "deploys the fix", "--as", "ada", "--dry-run").exit_code == 1
        assert run("--for", "1", "--reason", "deploys the fix", "--as", "ada").exit_code == 0

    with engine.begin() as tx:
        sent = tx.execute(text("select payload -> 'message' from work_queue where topic = 'alert_send'"))
        (message,) = sent.scalars()
    assert (message["change"], message["by"], message["incidents"][0]["id"]) == ("noted", "ada", 1)
    assert message["note"].startswith("opens the deploy gate until ")
    assert message["note"].endswith(" -07:00: deploys the fix")


def test_an_opening_does_not_last_beyond_the_end_of_its_incident(engine: Engine) -> None:
    add(engine, "P1")
    assert run("--for", "1", "--reason", "deploys the fix").exit_code == 0
    with transaction(engine) as tx:
        tx.execute(text("update incidents set status = 'resolved'"))
        again = Incident(None, "heartbeat_old:beat", "2026-11-20", "P1", "heartbeat_old:beat is bad again")
        record_incidents(tx, [again], utc_now())

    assert codes() == ["p1_open"]


def test_an_opening_for_nothing_is_wrong_usage(engine: Engine) -> None:
    add(engine, "P2", "work_dead:reconcile")

    for arguments, error in (
        (("--for", "1", "--reason", "x"), "incident 1 is a P2, which does not close the gate"),
        (("--for", "9", "--reason", "x"), "there is no incident 9"),
        (("--reason", "x"), "--reason belongs to them"),
        (
            ("--for", "1", "--database-restore", "done", "--reason", "x"),
            "give one of --for, --not-evaluated and --database-restore",
        ),
    ):
        failed = run(*arguments)
        assert (failed.exit_code, error in failed.output) == (2, True), failed.output
    add(engine, "P1")
    failed = run("--for", "2")
    assert (failed.exit_code, "Missing option: --reason TEXT" in failed.output) == (2, True)
    failed = run("--for", "2", "--reason", " ")
    assert (failed.exit_code, "Error: --reason is empty" in failed.output) == (2, True)
    planned = run("--for", "2", "--reason", "x", "--dry-run")
    assert planned.exit_code == 1
    assert planned.output.startswith("Would open for incident 2 until ")
    assert "The deploy gate is closed." in planned.output
    found = json.loads(run("--for", "2", "--reason", "x", "--dry-run", "--json").stdout)
    assert (found["gate"], found["would_open_for"]) == ("closed", 2)
    assert codes() == ["p1_open"]


def test_a_person_marks_a_restore(client: FlaskClient) -> None:
    assert run("--database-restore", "running", "--reason", "the dump of 2026-11-20").exit_code == 0
    assert codes() == ["restore_running"]
    assert ask(client)[0] == 409
    again = run("--database-restore", "running", "--reason", "the dump of 2026-11-20")
    assert (again.exit_code, "already" in again.output) == (1, True)
    refused = run("--for", "1", "--reason", "x")
    assert (refused.exit_code, "`fleet gate --database-restore done` ends it" in refused.output) == (2, True)

    assert run("--database-restore", "done", "--reason", "fleet doctor is fine").exit_code == 0
    assert run().exit_code == 0
    again = run("--database-restore", "done", "--reason", "x")
    assert (again.exit_code, "no restore is recorded" in again.output) == (0, True)


def test_pg_restore_closes_it_while_it_writes(engine: Engine, client: FlaskClient) -> None:
    with psycopg.connect(get_settings().migrate_database_url, application_name="pg_restore"):
        assert codes() == ["restore_running"]
        assert ask(client)[0] == 409
        assert run("--json").exit_code == 1


LONG = timedelta(minutes=16)


@pytest.mark.parametrize("before", [LONG, -LONG])
def test_rules_that_nobody_evaluates_close_it_until_they_are_evaluated(
    engine: Engine, client: FlaskClient, before: timedelta
) -> None:
    at = utc_now() - before
    evaluate(engine, at)

    closed = run()
    assert closed.exit_code == 1
    assert f"rules_not_evaluated: rules were not evaluated since {format_time(at)}" in closed.output
    status, answer = ask(client)
    assert (status, answer["gate"]) == (503, "closed")
    evaluate(engine, utc_now())
    assert run().exit_code == 0
    assert ask(client)[0] == 200


def test_it_opens_for_the_fix_of_the_evaluation_which_ends_that(engine: Engine, client: FlaskClient) -> None:
    never = run("--not-evaluated", "--reason", "deploys the fix of beat")
    assert (never.exit_code, "does not close the gate" in never.output) == (1, True)
    evaluate(engine, NOW - LONG)

    planned = run("--not-evaluated", "--reason", "deploys the fix of beat", "--dry-run")
    assert (planned.exit_code, codes()) == (1, ["rules_not_evaluated"])
    opened = run("--not-evaluated", "--reason", "deploys the fix of beat", "--as", "ada")
    assert opened.exit_code == 0, opened.output
    assert "by ada: deploys the fix of beat" in opened.output
    assert ask(client)[0] == 200
    add(engine, "P1")
    assert codes() == ["p1_open"]
    assert ask(client)[0] == 409

    evaluate(engine, utc_now())
    with transaction(engine) as tx:
        state = "select status from incidents where rule = 'rules_not_evaluated'"
        assert tx.execute(text(state)).scalars().all() == ["resolved"]
    refused = run("--not-evaluated", "--database-restore", "done", "--reason", "x")
    assert (refused.exit_code, "give one of" in refused.output) == (2, True)


@pytest.fixture
def nowhere(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No database answers."""
    url = driver_url("postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setattr(db, "_engine", create_engine(url, connect_args={"connect_timeout": 2}))
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("nowhere")
def test_without_the_database_it_is_not_open() -> None:
    closed = run()
    assert (closed.exit_code, closed.stdout.splitlines()[0]) == (1, "The deploy gate is closed.")
    assert "- database_unavailable: the database at" in closed.stdout
    found = json.loads(run("--json").stdout)
    assert [one["code"] for one in found["reasons"]] == ["database_unavailable"]
    status, answer = ask(make_app().test_client())
    assert (status, answer["error"]) == (503, "unavailable")


def test_without_tables_it_is_not_open(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.alerts.gate._FIND_CLOSING", "select * from no_such_table")

    assert run().exit_code == 1
    assert "fleet migrate" in run().stdout
    assert ask(make_app().test_client())[0] == 503
