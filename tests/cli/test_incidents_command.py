"""``fleet incidents``: output, and the audit of a resolved incident."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text

from services.alerts.evaluate import evaluate_rules
from services.alerts.figures import Figure
from services.alerts.incidents import Incident, record_incidents
from services.cli.main import main
from services.core.db import transaction
from services.core.settings import get_settings
from services.core.times import format_time
from tests.fakes.settings import settings_of
from tests.jobs.job_rows import add_shops

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("incidents", *arguments))


def rows(*arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("list", *arguments, "--json").output)
    return found


@pytest.fixture(autouse=True)
def incidents(engine: Engine) -> None:
    add_shops(engine, NOW, west="America/Los_Angeles")
    with transaction(engine) as tx:
        record_incidents(
            tx,
            [
                Incident(1, "work_dead:reconcile", "2026-11-20", "P2", "1 reconcile dead", {"count": 1}),
                Incident(None, "audit_chain_failed", "2026-11-20", "P1", "row 2 altered", {"seq": 2}),
            ],
            NOW,
        )


def test_open_incidents_are_listed_most_severe_first() -> None:
    assert [(row["severity"], row["shop"], row["rule"]) for row in rows()] == [
        ("P1", None, "audit_chain_failed"),
        ("P2", "west", "work_dead:reconcile"),
    ]
    shown = run("list").output
    zone = get_settings().zone
    assert format_time(NOW, zone, with_seconds=True) in shown
    assert "row 2 altered" in shown


def test_a_list_is_narrowed_by_shop_and_by_rule() -> None:
    assert [row["id"] for row in rows("--shop", "west")] == [1]
    assert [row["id"] for row in rows("--rule", "work_dead")] == [1]
    assert [row["id"] for row in rows("--rule", "work_dead:reconcile")] == [1]
    assert rows("--rule", "pause_long") == []
    assert [row["id"] for row in rows("--severity", "P1")] == [2]
    assert [row["id"] for row in rows("--severity", "P3,P2")] == [1]
    assert run("list", "--severity", "P3").output == "No incident matches.\n"
    assert "should be one of P1, P2, P3" in run("list", "--severity", "P9").output
    assert run("list", "--shop", "nowhere").exit_code == 2


def test_a_resolved_incident_says_who_and_why_and_the_audit_too(engine: Engine) -> None:
    done = run("resolve", "1", "--reason", "the key is renewed", "--as", "ada")
    assert (done.exit_code, done.output) == (
        0,
        "Resolved incident 1 of west: work_dead:reconcile for 2026-11-20.\n",
    )
    assert [row["id"] for row in rows()] == [2]
    shown = json.loads(run("show", "1", "--json").output)
    assert (shown["status"], shown["resolved_by"], shown["resolved_reason"]) == (
        "resolved",
        "ada",
        "the key is renewed",
    )
    assert len(rows("--all")) == 2
    with engine.connect() as tx:
        audited = tx.execute(
            text(
                "select e.shop_id, e.staff_label, e.action, m.row_id, m.summary from audit_events e"
                " join audit_mutations m on m.event_id = e.id"
            )
        ).all()
    assert [tuple(row) for row in audited] == [
        (
            1,
            "ada",
            "incident.resolve",
            "1",
            "resolved incident work_dead:reconcile for 2026-11-20: the key is renewed",
        )
    ]


def test_incident_of_the_fleet_is_audited_in_the_fleet_chain(engine: Engine) -> None:
    assert run("resolve", "2", "--reason", "restored").exit_code == 0
    with engine.connect() as tx:
        assert tx.execute(text("select shop_id, action from audit_events")).all() == [
            (None, "incident.resolve")
        ]


def test_several_incidents_are_acknowledged_together_or_not_at_all() -> None:
    assert run("resolve", "2", "--reason", "restored").exit_code == 0
    assert run("ack", "1", "2").exit_code == 1
    assert rows("--status", "acknowledged") == []
    assert run("ack", "1", "999").exit_code == 2

    assert run("ack", "1").exit_code == 0
    assert [row["id"] for row in rows("--status", "acknowledged")] == [1]


def test_the_person_who_holds_an_incident_changes_nothing_by_acknowledging_it_again(engine: Engine) -> None:
    run("ack", "1", "--as", "ada")
    holder = text("select acknowledged_at, updated_at from incidents where id = 1")
    with engine.connect() as tx:
        before = tx.execute(holder).one()

    again = run("ack", "1", "--as", "ada")
    assert again.exit_code == 0
    assert again.output.startswith(
        "incident 1 of west: work_dead:reconcile for 2026-11-20 is already acknowledged by you, ada, since "
    )
    assert json.loads(run("ack", "1", "--as", "ada", "--json").output)["changed"] is False
    with engine.connect() as tx:
        assert tx.execute(holder).one() == before
        assert tx.scalar(text("select count(*) from incident_entries where kind = 'acknowledge'")) == 1
        assert tx.scalar(text("select count(*) from audit_events")) == 1


def test_acknowledged_incidents_are_a_list_if_there_are_several() -> None:
    found = json.loads(run("ack", "1", "2", "--as", "ada", "--json").output)
    assert [(one["id"], one["acknowledged_by"]) for one in found] == [(1, "ada"), (2, "ada")]


@pytest.mark.parametrize("is_beyond", [True, False])
def test_resolving_while_the_figure_is_beyond_its_limit_warns(engine: Engine, is_beyond: bool) -> None:
    for minutes in range(3):
        with transaction(engine) as tx:
            stuck = {"locks_stuck": [Figure(4, 0, "mail_send", {"topic": "mail_send"})]}
            evaluate_rules(tx, stuck, NOW + timedelta(minutes=minutes))
    if not is_beyond:
        with transaction(engine) as tx:
            tx.execute(text("update alert_states set turned_at = now()"))
    (found,) = rows("--rule", "locks_stuck")

    resolved = run("resolve", str(found["id"]), "--reason", "restarted")
    assert resolved.exit_code == 0
    assert ("still beyond the limit" in resolved.output) is is_beyond


def test_resolved_incident_stays_as_it_is(engine: Engine) -> None:
    run("resolve", "1", "--reason", "first")
    again = run("resolve", "1", "--reason", "second")
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout == "incident 1 is resolved already: nothing was changed\n"
    as_json = json.loads(run("resolve", "1", "--reason", "second", "--json").stdout)
    assert as_json == {"changed": False, "message": again.stdout.strip()}
    late = run("snooze", "1", "--for", "1h", "--reason", "x")
    assert (late.exit_code, "is resolved already" in late.stderr) == (1, True)
    with engine.connect() as tx:
        assert tx.scalar(text("select resolved_reason from incidents where id = 1")) == "first"
        assert tx.scalar(text("select count(*) from audit_events")) == 1


def test_several_incidents_are_resolved_at_once() -> None:
    run("resolve", "1", "--reason", "first")
    both = run("resolve", "1", "2", "--reason", "restored")
    assert (both.exit_code, both.stdout.count("is already resolved")) == (0, 1)
    assert rows() == []


@pytest.mark.parametrize(
    "arguments",
    [("resolve", "1"), ("resolve", "1", "--reason", "  "), ("resolve", "9", "--reason", "x"), ("show", "9")],
)
def test_an_unknown_id_and_a_missing_reason_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
    assert len(rows()) == 2


def test_an_open_one_shows_its_detail_and_how_to_close_it() -> None:
    shown = run("show", "2").output
    assert "seq  2" in shown
    assert "fleet incidents resolve 2 --reason" in shown


def test_a_person_takes_notes_and_silences_an_incident(engine: Engine) -> None:
    assert run("ack", "1", "--as", "ada").output == (
        "Acknowledged incident 1 of west: work_dead:reconcile for 2026-11-20.\n"
    )
    assert run("ack", "1", "--as", "bob").output == (
        "Acknowledged incident 1 of west: work_dead:reconcile for 2026-11-20, taken over from ada.\n"
    )
    assert run("note", "1", "the key is old", "--as", "bob").exit_code == 0
    assert "acknowledged" in run("list").output
    assert run("snooze", "1", "--for", "2h", "--reason", "tonight", "--as", "bob").exit_code == 0
    assert "snoozed" in run("list").output
    assert run("resolve", "1", "--reason", "renewed", "--as", "bob").exit_code == 0
    assert run("note", "1", "it holds", "--as", "ada").exit_code == 0

    timeline = json.loads(run("show", "1", "--json").output)["timeline"]
    assert [(one["kind"], one["by"], one["text"]) for one in timeline[1:]] == [
        ("acknowledge", "ada", ""),
        ("acknowledge", "bob", "taken over from ada"),
        ("note", "bob", "the key is old"),
        ("snooze", "bob", "tonight"),
        ("resolve", "bob", "renewed"),
        ("note", "ada", "it holds"),
    ]
    assert (timeline[0]["kind"], timeline[0]["by"]) == ("opened", "")
    assert "the key is old" in run("show", "1").output
    with engine.connect() as tx:
        actions = tx.execute(text("select action from audit_events order by id")).scalars()
        assert [one.removeprefix("incident.") for one in actions] == [one["kind"] for one in timeline[1:]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("note", "1", " "),
        ("snooze", "1", "--for", "0", "--reason", "x"),
        ("snooze", "1", "--for", "soon", "--reason", "x"),
        ("snooze", "1", "--for", "1h", "--reason", " "),
        ("ack", "9"),
    ],
)
def test_a_wrong_action_changes_nothing(engine: Engine, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
    with engine.connect() as tx:
        assert tx.scalar(text("select count(*) from audit_events")) == 0


@pytest.mark.parametrize("arguments", [("ack", "1"), ("snooze", "1", "--for", "1h", "--reason", "x")])
def test_a_resolved_incident_can_only_be_noted(arguments: tuple[str, ...]) -> None:
    run("resolve", "1", "--reason", "first")

    assert run(*arguments).exit_code == 1
    assert run("note", "1", "afterwards").exit_code == 0


def test_incidents_are_listed_by_status() -> None:
    run("ack", "1", "--as", "ada")
    run("snooze", "2", "--for", "1h", "--reason", "known")

    assert [(row["id"], row["status"]) for row in rows()] == [(2, "snoozed"), (1, "acknowledged")]
    assert [row["id"] for row in rows("--status", "acknowledged")] == [1]
    assert [row["id"] for row in rows("--status", "acknowledged,snoozed")] == [2, 1]
    assert rows("--status", "open") == []
    run("resolve", "1", "--reason", "done")
    assert [(row["id"], row["status"]) for row in rows("--status", "resolved")] == [(1, "resolved")]
    assert json.loads(run("show", "2", "--json").output)["status"] == "snoozed"
    refused = run("list", "--status", "closed")
    assert (refused.exit_code, "open, acknowledged, snoozed, resolved" in refused.output) == (2, True)
    assert run("list", "--all", "--status", "open").exit_code == 2


def test_a_snooze_that_is_over_is_no_status(engine: Engine) -> None:
    run("snooze", "2", "--for", "1h", "--reason", "known")
    with transaction(engine) as tx:
        tx.execute(text("update incidents set snoozed_until = now() - interval '1 second'"))

    assert {row["status"] for row in rows()} == {"open"}


def test_an_action_and_a_posted_note_are_in_the_timeline(engine: Engine) -> None:
    assert run("note", "1", "restarted worker-ops", "--action", "failed", "--as", "ada").exit_code == 0
    refused = run("note", "1", "their page says 14:00", "--post")
    assert (refused.exit_code, "SLACK_WEBHOOK_URL" in refused.output) == (1, True)
    with settings_of(SLACK_WEBHOOK_URL="https://hooks.example.com/x"):
        assert run("note", "1", "their page says 14:00", "--post", "--dry-run").exit_code == 0
        assert run("note", "1", "their page says 14:00", "--post", "--as", "ada").exit_code == 0

    timeline = json.loads(run("show", "1", "--json").output)["timeline"]
    assert [(one["kind"], one["text"], one["detail"]) for one in timeline[1:]] == [
        ("action", "restarted worker-ops", {"outcome": "failed"}),
        ("note", "their page says 14:00", {}),
    ]
    assert "action failed" in run("show", "1").output
    with transaction(engine) as tx:
        (payload,) = tx.execute(text("select payload from work_queue where topic = 'alert_send'")).scalars()
    assert (payload["message"]["change"], payload["message"]["by"]) == ("noted", "ada")


def test_the_list_names_the_holder() -> None:
    run("ack", "1", "--actor", "ada")

    assert {row["id"]: row["acknowledged_by"] for row in rows()} == {1: "ada", 2: None}
    assert re.search(r"holder\b", run("list").output)
    assert " ada " in run("list").output
