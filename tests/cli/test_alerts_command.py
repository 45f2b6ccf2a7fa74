"""``fleet alerts``: every rule with its state, and the same rules for Prometheus."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.alerts.evaluate import evaluate_rules
from services.alerts.figures import Figure
from services.alerts.incidents import Incident, record_incidents
from services.alerts.rules import FIGURE_RULES, RULES
from services.cli.main import main
from services.core.db import transaction
from tests.health.test_routes import open_client, scrape
from tests.jobs.job_rows import add_shops

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("alerts", *arguments))


@pytest.fixture
def east(engine: Engine) -> None:
    add_shops(engine, NOW, east="UTC", west="UTC")


@pytest.fixture(autouse=True)
def evaluated(engine: Engine) -> None:
    """Two of three shops are beyond the limit of wrong signatures since now, and an audit chain is broken."""
    figures = [
        Figure(value, shop, subject, {"provider": subject, "senders": "a"})
        for value, shop, subject in ((5, 7, "stripe"), (4, 7, "quo"), (3, 8, "stripe"), (2, 9, "stripe"))
    ]
    with transaction(engine) as tx:
        evaluate_rules(tx, {"signature_failures": figures, "secret_old": []}, NOW)
        record_incidents(tx, [Incident(None, "audit_chain_failed", "2026-11-20", "P1", "row 2")], NOW)


def test_the_list_has_every_rule_with_what_opens_it_and_how_many_are_open() -> None:
    found = {row["name"]: row for row in json.loads(run("list", "--json").output)}

    assert found.keys() == RULES.keys()
    one = found["signature_failures"]
    assert (one["severity"], one["opens"], one["incidents_open"]) == ("P2", ">= 3 per hour", 3)
    assert (one["computed_at"], one["value"], one["shops_beyond"]) == ("2026-11-21T09:00:00Z", 14, 2)
    assert (one["threshold"], one["window_seconds"]) == (3, 3600)
    assert found["secret_old"]["shops_beyond"] == 0
    assert found["audit_chain_failed"]["incidents_open"] == 1
    assert found["audit_chain_failed"]["computed_at"] is None
    assert found["requests_failed"]["computed_at"] is None


def test_the_table_begins_with_the_most_severe() -> None:
    lines = run("list", "--all").output.splitlines()

    first = next(at for at, line in enumerate(lines) if "audit_chain_failed" in line)
    assert first < next(at for at, line in enumerate(lines) if "signature_failures" in line)
    assert "fleet shops secret" in " ".join(lines)


def test_prometheus_gets_every_rule_over_metrics_that_are_exported(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "shopfleet.rules.yml"
    assert (
        run("export", "--prometheus", "--out", str(file)).output == f"Wrote {len(RULES)} rules to {file}.\n"
    )
    text = file.read_text()

    assert run("export", "--prometheus").output == text
    assert re.findall(r"- alert: (\w+)", text) == [*RULES]
    for name, rule in FIGURE_RULES.items():
        part = text.partition(f"- alert: {name}\n")[2].partition("- alert:")[0]
        assert (f"for: {rule.lasts.total_seconds():.0f}s" in part) == (rule.lasts > timedelta(0))
    samples = scrape(open_client(lambda: engine))
    used = set(re.findall(r"shopfleet_\w+", text.partition("groups:")[2]))
    assert used == {name for name, _ in samples if name.startswith("shopfleet_rule_")} - {
        "shopfleet_rule_value"
    }
    beyond = {
        dict(labels)["rule"]: v for (name, labels), v in samples.items() if name.endswith("shops_beyond")
    }
    assert beyond == {"signature_failures": 2, "secret_old": 0}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    failed = run("export", "--prometheus", "--out", str(tmp_path / "none" / "rules.yml"))

    assert failed.exit_code == 2
    assert "none/rules.yml: No such file or directory" in failed.output
    assert run("export").exit_code == 2


def test_a_recorded_rule_has_no_threshold(engine: Engine) -> None:
    shown = CliRunner().invoke(main, ["alerts", "set", "work_dead", "--threshold", "3", "--reason", "x"])

    assert shown.exit_code == 2
    assert "work_dead is recorded when it is found: it has no threshold" in shown.output


def test_the_list_of_a_shop_has_the_thresholds_in_force_and_where_they_come_from(east: None) -> None:
    for rule, shop, value in (
        ("secret_old", None, 60),
        ("secret_old", "east", 30),
        ("mails_refused", None, 5),
        ("break_old", "west", 1),
    ):
        of = ("--shop", shop) if shop else ()
        done = run("set", rule, "--threshold", str(value), *of, "--reason", f"r{value}", "--as", "ada")
        assert done.exit_code == 0, done.output

    found = {one["rule"]: one for one in json.loads(run("list", "--shop", "east", "--json").output)}
    shown = run("list", "--shop", "east").output

    wanted = {"secret_old": (30, "shop"), "mails_refused": (5, "fleet"), "break_old": (3, "default")}
    assert {name: (found[name]["threshold"], found[name]["from"]) for name in wanted} == wanted
    assert [found[name]["by"] for name in wanted] == ["ada", "ada", None]
    assert found.keys() == {name for name, rule in FIGURE_RULES.items() if not rule.is_of_fleet}
    assert re.search(r"secret_old +P3 +> 30 days +shop +ada +r30", shown)
    assert re.search(r"break_old +P2 +> 3 days +default", shown)
    assert "heartbeat_old" not in shown
    assert run("list", "--shop", "nowhere").exit_code == 2


def test_a_rule_of_the_fleet_refuses_a_shop_without_a_number_of_a_row(east: None) -> None:
    refused = run("set", "heartbeat_old", "--threshold", "90", "--shop", "east", "--reason", "x")

    assert refused.exit_code == 2
    assert "the figures of heartbeat_old belong to no shop" in refused.output
    assert "shop=" not in refused.output
