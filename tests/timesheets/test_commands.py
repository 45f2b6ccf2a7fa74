"""``fleet reports``: set, preview, send and history."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.main import main
from tests.timesheets.company import DUE, MAILS, RUNS, Company

SET = [
    "set", "Payroll", "--shop", "harbour", "--kind", "payroll", "--schedule", "0 6 * * 1",
    "--recipients", "pay@harbour.example", "--formats", "csv,xlsx,pdf", "--overtime", "CA-BC",
]  # fmt: skip

WEEK = ["Payroll", "--shop", "harbour", "--period", "2026-W47"]


def reports(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["reports", *words])
    assert result.exit_code == code, result.output
    return result.output


def read_json(*words: str) -> Any:
    return json.loads(reports(*words, "--json"))


def test_a_report_is_added_changed_listed_paused_and_removed(company: Company) -> None:
    assert "would be added" in reports(*SET, "--dry-run")
    assert read_json("list") == []
    assert "added: At 06:00 on Monday (America/Vancouver)" in reports(*SET)
    assert "changed" in reports("set", "Payroll", "--shop", "harbour", "--user-ids", "7, 8", "--formats", "")
    (one,) = read_json("list", "--shop", "harbour")
    assert (one["filters"], one["formats"], one["overtime"]) == ({"user_ids": [7, 8]}, [], "CA-BC")
    assert one["recipients"] == ["pay@harbour.example"]
    reports("pause", "Payroll", "--shop", "harbour")
    assert read_json("list")[0]["next"] == "paused"
    reports("resume", "Payroll", "--shop", "harbour")
    assert read_json("list")[0]["next"] != "paused"
    reports("remove", "Payroll", "--shop", "harbour")
    assert "No report is set" in reports("list")


def test_a_preview_makes_the_files_and_sends_nothing(company: Company, tmp_path: Path) -> None:
    reports(*SET)
    shown = reports("preview", *WEEK, "--folder", str(tmp_path / "a"))
    assert "Dana Ruiz" in shown
    assert "British Columbia: overtime over 8 h a day" in shown
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "payroll-2026-W47.csv", "payroll-2026-W47.pdf", "payroll-2026-W47.xlsx",
    ]  # fmt: skip
    found = read_json("preview", *WEEK)
    assert found["rows"][0][:5] == ["Dana Ruiz", "E-07", "8.00", "4.00", "1.00"]
    assert company.rows(MAILS) == company.rows(RUNS) == []


def test_a_report_is_sent_once_and_its_history_says_how(company: Company) -> None:
    reports(*SET)
    assert "would be sent" in reports("send", *WEEK, "--dry-run")
    assert company.rows(RUNS) == []
    assert "is sent by the workers" in reports("send", *WEEK)
    company.send()
    company.follow(DUE)
    again = reports("send", *WEEK)
    assert "is sent already: it does not go again" in again
    (run,) = read_json("history", "Payroll", "--shop", "harbour")
    assert (run["period"], run["status"], run["shop"]) == ("2026-W47", "sent", "harbour")


def test_a_failure_of_the_connection_is_named(company: Company) -> None:
    reports(*SET)
    company.control(revoke=True)
    shown = reports("preview", "Payroll", "--shop", "harbour", code=1)
    assert "quickbooks_time.refresh_refused" in shown
    assert "connects it again" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preview", "Pay", "--shop", "harbour"], "did you mean 'Payroll'"),
        (["send", "Payroll", "--shop", "harbour", "--period", "2026-11"], "should be a week such as"),
        (["send", "Payroll", "--shop", "harbour", "--period", "2036-W01"], "is not over yet"),
        (["history", "Payroll"], "give --shop too"),
        (["set", "New", "--shop", "harbour", "--kind", "payroll"], "needs --schedule, --recipients too"),
        (["set", "Payroll", "--shop", "harbour", "--user-ids", "7,x"], "should be numbers with commas"),
        (["set", "Payroll", "--shop", "harbour", "--recipients", "ada"], "should be an address"),
        (["set", "Payroll", "--shop", "harbour", "--covers", "moment"], "should be day, week or month"),
        (["set", "Payroll", "--shop", "harbour", "--overtime", "CA-XX"], "CA-ON"),
    ],
)
def test_wrong_input_is_refused_with_what_is_right(company: Company, words: list[str], message: str) -> None:
    reports(*SET)
    shown = reports(*words, code=2)
    assert message in " ".join(shown.split()), shown
