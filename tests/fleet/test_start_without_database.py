"""A process that starts while the database is away runs, and says so in one line of its log."""

import json
import subprocess
from pathlib import Path

import pytest

from services.fleet.ports import find_free_port
from tests.fleet.waiting import wait_for

BIN = Path(__file__).parents[2] / ".venv" / "bin"


@pytest.mark.parametrize(
    ("process", "line"),
    [
        ("ingress", "python -m services.ingress.serve"),
        ("console", "python -m services.console.serve"),
        ("worker", "python -m tasks worker -Q webhooks"),
        ("beat", "celery -A tasks beat"),
    ],
)
def test_a_process_that_starts_without_a_database_names_the_server(
    process: str, line: str, environment: dict[str, str], tmp_path: Path
) -> None:
    program, *words = line.split()
    env = environment | {
        "DATABASE_URL": "postgresql://shop:hidden@127.0.0.1:1/shop",
        "DATABASE_DIRECT_URL": "",
        "INGRESS_PORT": str(find_free_port()),
        "CONSOLE_PORT": str(find_free_port()),
    }
    env.pop("FLEET_PROCESS", None)
    output = tmp_path / "log"
    with output.open("wb") as log, subprocess.Popen(
        [str(BIN / program), *words], env=env, stdout=log, stderr=log, cwd=tmp_path
    ) as started:  # fmt: skip
        try:
            wait_for(lambda: "database_unreachable" in output.read_text() or started.poll() is not None)
        finally:
            started.terminate()
    shown = output.read_text()
    (found,) = [json.loads(each) for each in shown.splitlines() if "database_unreachable" in each]

    assert found["process"] == process
    assert found["server"] == "127.0.0.1:1/shop"
    assert found["next"].endswith("check the server and DATABASE_URL")
    assert "hidden" not in shown
    assert "superuser" not in shown, "Celery's seven lines about a root user"
