"""A command without settings shows its help, and otherwise names all settings that are missing."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.programs import run_celery

BIN = Path(__file__).parents[2] / ".venv" / "bin"
COMMANDS = ("requeue", "backlog", "pause", "worker", "beat", "flower", "purge", "inspect")


SHOW_EACH_HELP = """
import sys
from celery.bin.celery import celery
for name in sys.argv[1:]:
    try:
        celery.main(["-A", "tasks", name, "--help"], prog_name="celery")
    except SystemExit as end:
        assert not end.code, (name, end.code)
"""


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (["celery", "-A", "tasks", "worker", "--help"], 1),
        (["fleet", "shops", "set", "--help"], 1),
        (["python", "-c", SHOW_EACH_HELP, *COMMANDS], len(COMMANDS)),
    ],
)
def test_help_needs_no_settings(line: list[str], count: int, tmp_path: Path) -> None:
    program, *words = line
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    shown = subprocess.run(
        [str(BIN / program), *words],
        env=bare, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("Usage:") == count


CELERY = ("worker -Q webhooks", "beat", "flower", "purge -f", "inspect ping", "requeue")
MODULES = ("services.ingress.serve", "services.console.serve", "tasks worker -Q webhooks", "tasks flower")


@pytest.mark.parametrize(
    "line", [*(f"celery -A tasks {words}" for words in CELERY), *(f"python -m {words}" for words in MODULES)]
)
def test_a_command_without_settings_names_all_of_them(line: str, tmp_path: Path) -> None:
    program, *words = line.split()
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "FLEET_HOME": str(tmp_path)}
    project = Path(__file__).parents[2]
    if program == "celery":
        refused = run_celery(*words, env=bare, cwd=project)
    else:
        refused = subprocess.run(
            [str(BIN / program), *words],
            env=bare, cwd=project, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert refused.returncode == 1
    assert "Error: settings are wrong:\n" in refused.stderr
    for name in ("DATABASE_URL", "BROKER_URL", "SECRET_KEY"):
        assert f"{name} is missing" in refused.stderr
    assert "Traceback" not in refused.stderr
