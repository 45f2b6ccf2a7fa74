"""Runs ``fleet jobs`` in this process or in its own, over two jobs."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from services.cli.main import main
from services.jobs.definition import FLEET_ZONE, Covers
from tests.jobs.job_rows import make_job

FLEET = Path(sys.executable).parent / "fleet"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NIGHTLY = make_job()
WEEKLY = make_job(
    name="audit-verify",
    topic="audit_verify",
    title="chains are recomputed",
    schedule="30 1 * * 1",
    zone=FLEET_ZONE,
    per_shop=False,
    covers=Covers.WEEK,
)
PERIOD = "2026-11-19"
RUNS = "select shop_id, period, status, origin, started_by from job_runs order by shop_id"


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *arguments])


def document(*arguments: str) -> Any:
    result = fleet(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def fleet_process(*arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Start the command in a new process, as a timer would."""
    return subprocess.run(
        [FLEET, "jobs", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LOG_LEVEL": "info", "LOG_FORMAT": "json", **values},
        check=False,
    )
