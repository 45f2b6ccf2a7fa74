"""Runs ``celery`` and ``fleet`` in processes forked from one that has imported them: 1.5 s of CPU each.

Modules that read the environment while they are imported have read that of the first process: a test of
``services.cli.server_errors.IS_IT_UP`` needs a process of its own.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["celery.bin.celery", "flower.command", "tasks.celery", "kombu.transport.redis", "services.cli.servers"]
)


def _run(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, outputs: Sequence[Path]) -> None:
    """Run the console script in this process, which has only its own environment, folder and output."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = list(arguments)
    (script,) = entry_points(group="console_scripts", name=arguments[0])
    sys.exit(script.load()())


def run_celery(*arguments: str, **process: Any) -> CompletedProcess[str]:
    """Return how ``celery`` ended."""
    return run_program("celery", *arguments, **process)


def run_program(
    *line: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> CompletedProcess[str]:
    """Return how the program ended; by default it has the environment and the folder of the test."""
    with TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _FORKS.Process(
            target=_run, args=(line, dict(env or os.environ), cwd or Path.cwd(), outputs)
        )
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{line} did not end within 120 s")
        return CompletedProcess(line, process.exitcode, *(path.read_text() for path in outputs))
