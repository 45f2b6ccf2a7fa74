"""``fleet jobs run --json`` prints one document of one form."""

import json

import pytest
from sqlalchemy import Engine

from tests.jobs.job_commands import PERIOD, fleet, fleet_process


@pytest.mark.parametrize("scope", [(), ("--shop", "east")])
def test_json_is_one_document_of_one_form(engine: Engine, shops: None, scope: tuple[str, ...]) -> None:
    line = ("run", "daily-reconciliation", "--period", PERIOD, *scope, "--json")
    planned, done = (json.loads(fleet(*line, *more).stdout) for more in (("--dry-run",), ()))

    slugs = ["east"] if scope else ["west", "east"]
    assert (planned["dry_run"], planned["job"]) == (True, "daily-reconciliation")
    assert [(one["shop"], one["plan"]) for one in planned["runs"]] == [(slug, "started") for slug in slugs]
    assert (done["status"], [one["shop"] for one in done["runs"]]) == ("done", slugs)


def test_json_of_a_process_has_no_log_line(engine: Engine, shops: None) -> None:
    done = fleet_process("run", "daily-reconciliation", "--period", PERIOD, "--json")

    assert json.loads(done.stdout)["status"] == "done"
    assert "run_finished" in done.stderr
