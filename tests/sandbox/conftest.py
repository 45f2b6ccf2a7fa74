"""Starts sandbox programs as processes."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.providers.notion import Notion
from services.sandbox.serve import SandboxServer
from services.sandbox.state import SandboxState
from tests.sandbox.notion import KEY, Clock

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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[SandboxServer]:
    with SandboxServer(0, SandboxState(clock=clock)) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def notion(server: SandboxServer) -> Notion:
    return Notion(f"{server.url}/notion", KEY)
