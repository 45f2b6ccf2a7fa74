"""Starts sandbox programs as processes."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Start = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``python -m <module> --port 0 ...`` and return (process, port)."""
    started: list[subprocess.Popen[str]] = []

    def run(module: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-m", module, "--port", "0", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        assert "not for production" in line
        return process, int(found[1])

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.wait(90)
        assert process.stderr is not None
        process.stderr.close()
